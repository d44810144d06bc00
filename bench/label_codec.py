"""Label maps on disk: decode time and size of `instance.zst` against 16-bit PNG and COCO RLE, on a
rendered 4096×2048 map.

Ours: `panoforge.core.sample.array_codec`. Peers: PNG by OpenCV (compression 6, the usual default),
and one COCO RLE per instance by pycocotools, painted into one map. Every decoder gives the same
map, asserted first. Also timed: the rows of one perspective view.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    spread,
    use_one_thread,
    version,
)
from bench.maps import room_labels
from panoforge.core.sample.array_codec import decode_array, encode_array
from panoforge.core.sample.label_maps import encode_rles

VIEW_ROWS = (
    700,
    1350,
)  # the rows that a level 90° view of 2048 rows needs lie in here at its middle column


def decode_png(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def decode_coco(rles: dict[int, dict], shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Paint the decoded mask of every id."""
    labels = np.zeros(shape, np.uint16)
    for id_, rle in rles.items():
        labels[coco_mask.decode(rle).astype(bool)] = id_
    return labels


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    labels = room_labels()
    zst = encode_array(labels)
    png = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1]
    rles: dict[int, dict[str, Any]] = {
        id_: {"size": rle["size"], "counts": str(rle["counts"]).encode()}
        for id_, rle in encode_rles(labels).items()
    }
    assert np.array_equal(decode_array(zst), labels)
    assert np.array_equal(decode_png(png), labels)
    assert np.array_equal(decode_coco(rles, labels.shape), labels)
    assert np.array_equal(decode_array(zst, VIEW_ROWS), labels[slice(*VIEW_ROWS)])
    # Each peer's race is a round of its own: encoders and seconds of masks leave the allocator and
    # the caches in another state, in which our decoder takes up to twice as long.
    repeats = 5 if args.quick else 15
    buffer = np.empty_like(labels)  # OpenCV's imdecode cannot decode into memory that is there
    seconds = interleave(
        {
            "ours": lambda: decode_array(zst),
            "png": lambda: decode_png(png),
            "ours, kept memory": lambda: decode_array(zst, out=buffer),
        },
        repeats=repeats,
    )
    seconds |= interleave(
        {
            "ours, 650 rows": lambda: decode_array(zst, VIEW_ROWS),
            "ours, encode": lambda: encode_array(labels),
            "png, encode": lambda: cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 6]),
        },
        repeats=repeats,
    )
    seconds |= interleave(
        {
            "ours beside coco": lambda: decode_array(zst),
            "coco": lambda: decode_coco(rles, labels.shape),
        },
        repeats=5,
    )
    for name, values in seconds.items():
        print(f"{name}: {spread(values)} ms")
    coco_bytes = sum(len(rle["counts"]) for rle in rles.values())
    print(f"bytes: ours {len(zst)}, png {png.size}, coco {coco_bytes}")
    finish(
        Outcome(
            "label_codec",
            ours=1e3 * median(seconds["ours"]),
            unit="ms",
            n=len(seconds["ours"]),
            facts={
                "instances": len(rles),
                "bytes": {"ours": len(zst), "png16": int(png.size), "coco": coco_bytes},
            },
            peers=(
                Peer(f"PNG16 ({version('opencv-python')})", 1e3 * median(seconds["png"]), 15),
                Peer(
                    f"PNG16, ours into memory that is kept ({version('opencv-python')})",
                    1e3 * median(seconds["png"]),
                    15,
                    ours=1e3 * median(seconds["ours, kept memory"]),
                ),
                Peer(
                    f"COCO RLE per instance ({version('pycocotools')})",
                    1e3 * median(seconds["coco"]),
                    300,
                    ours=1e3 * median(seconds["ours beside coco"]),
                ),
                Peer("PNG16, size", png.size / 1e3, 1 / 0.7, ours=len(zst) / 1e3, unit="kB"),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
