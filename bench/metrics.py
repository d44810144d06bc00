"""Scores of 100 instances at 4096×2048: J of all of them, and boundary F, against pycocotools and
the DAVIS toolkit.

Both get what they take, and nobody's making of it is timed. Ours gets the label map and the
predictions as merging gives them: bits, and the rows that each mask is in. The peers get full
masks, uint8 H×W×N in pycocotools' own order and bool H×W for DAVIS. The truth is a rendered room
with 100 of its instances, the predictions are the same instances with ragged edges, some with a
piece missing or a piece too much. J must be equal to 1e-12, F to the last bit. How long
pycocotools' `iou` takes on run lengths that were encoded before is among the facts. A full-frame
dilation takes a second, so F is timed on every tenth instance (--quick: every 25th) by size.
"""

import math
from collections.abc import Callable
from dataclasses import replace

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
from panoforge.core.types import Bools
from panoforge.eval.masks import Masks
from panoforge.eval.scoring.metrics import iou, row_counts
from panoforge.eval.scoring.metrics.boundary import boundary_f_scores

INSTANCES = 100


def hundred_instances() -> NDArray[np.uint16]:
    """The room's label map with 100 of its instances, evenly from the largest to the smallest."""
    labels = room_labels()
    ids, pixels = np.unique(labels[labels > 0], return_counts=True)
    ranked = ids[np.argsort(-pixels, kind="stable")]
    kept = ranked[np.linspace(0, len(ranked) - 1, INSTANCES).round().astype(int)]
    return np.where(np.isin(labels, kept), labels, 0).astype(np.uint16)


def predictions(labels: NDArray[np.uint16], ids: list[int]) -> Bools:
    """N×H×W: every instance under a threshold of blurred noise near its edge; every fourth lacks a
    part, every fourth has more.
    """
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=labels.shape).astype(np.float32), (0, 0), 4)
    noise *= 0.3 / noise.std()
    out = np.zeros((len(ids), *labels.shape), bool)
    for k, id_ in enumerate(ids):
        soft = cv2.GaussianBlur((labels == id_).astype(np.float32), (0, 0), 3)
        out[k] = soft + noise * ((soft > 0.02) & (soft < 0.98)) > 0.5
        v, u = (int(at[at.size // 2]) for at in np.nonzero(labels == id_))
        if k % 4 < 2:
            out[k, max(0, v - 20) : v + 20, max(0, u - 20) : u + 20] = k % 4 == 0
    return out


def davis_f(predicted: Bools, true: Bools, tolerance: float = 0.008) -> float:
    """The toolkit's boundary F: boundary maps and disk dilations of full frames."""
    radius = math.ceil(tolerance * math.hypot(*true.shape))
    x = np.arange(-radius, radius + 1)
    disk = (x[:, None] ** 2 + x[None, :] ** 2 <= radius**2).astype(np.uint8)
    boundary_p, boundary_t = davis_boundary(predicted), davis_boundary(true)
    match_t = boundary_t * cv2.dilate(boundary_p.astype(np.uint8), disk)
    match_p = boundary_p * cv2.dilate(boundary_t.astype(np.uint8), disk)
    n_p, n_t = np.sum(boundary_p), np.sum(boundary_t)
    if n_p == 0 or n_t == 0:
        return float(n_p == n_t)
    precision, recall = np.sum(match_p) / float(n_p), np.sum(match_t) / float(n_t)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def davis_boundary(mask: Bools) -> Bools:
    """Pixels that differ from the right, lower or lower right neighbour."""
    right, down, both = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1], down[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    found = (mask ^ right) | (mask ^ down) | (mask ^ both)
    found[-1] = mask[-1] ^ right[-1]
    found[:, -1] = mask[:, -1] ^ down[:, -1]
    found[-1, -1] = False
    return found


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    labels = hundred_instances()
    ids = np.unique(labels[labels > 0]).tolist()
    full = predictions(labels, ids)
    masks = Masks.of(full)
    step = 25 if args.quick else 10
    some = sorted(range(len(ids)), key=lambda k: np.count_nonzero(labels == ids[k]))[
        step // 2 :: step
    ]
    assert masks.rows is not None
    bits = replace(masks, packed=masks.packed[some], rows=masks.rows[some])
    pairs = [(full[k], labels == ids[k]) for k in some]

    truth_coco = np.asfortranarray(np.stack([labels == id_ for id_ in ids], axis=2).view(np.uint8))
    full_coco = np.asfortranarray(full.transpose(1, 2, 0).view(np.uint8))
    del full
    encoded = coco_mask.encode(full_coco), coco_mask.encode(truth_coco)

    def coco(encode: Callable[[], tuple]) -> NDArray[np.float64]:
        predicted, true = encode()
        return np.array(
            [coco_mask.iou([p], [t], [0])[0, 0] for p, t in zip(predicted, true, strict=True)]
        )

    def ours_j() -> NDArray[np.float64]:
        return iou(row_counts(masks, labels, ids))

    def ours_f() -> NDArray[np.float64]:
        return boundary_f_scores(bits, labels, [ids[k] for k in some], "official")

    work: dict[str, Callable[[], NDArray]] = {
        "J, ours": ours_j,
        "J, pycocotools": lambda: coco(
            lambda: (coco_mask.encode(full_coco), coco_mask.encode(truth_coco))
        ),
        "J, pycocotools, encoded before": lambda: coco(lambda: encoded),
        "F, ours": ours_f,
        "F, DAVIS": lambda: np.array([davis_f(p, t) for p, t in pairs]),
    }
    assert np.allclose(work["J, ours"](), work["J, pycocotools"](), rtol=0, atol=1e-12)
    assert np.array_equal(work["F, ours"](), work["F, DAVIS"]()), "F differs"
    j = interleave({name: function for name, function in work.items() if name[0] == "J"}, repeats=5)
    f = interleave({name: function for name, function in work.items() if name[0] == "F"}, repeats=5)
    seconds = j | f
    for name, values in seconds.items():
        print(f"{name}: {spread(values)} ms")
    ms = {name: 1e3 * median(values) for name, values in seconds.items()}
    finish(
        Outcome(
            "metrics",
            ours=ms["J, ours"],
            unit=f"ms of J, {len(ids)} instances",
            n=len(seconds["J, ours"]),
            facts={
                "instances": len(ids),
                "instances_f": len(some),
                "mean_j": float(ours_j().mean()),
                "mean_f": float(ours_f().mean()),
                "pycocotools_iou_alone_ms": ms["J, pycocotools, encoded before"],
            },
            peers=(
                Peer(f"encode + iou ({version('pycocotools')})", ms["J, pycocotools"], 20),
                Peer(
                    "DAVIS boundary F, as published",
                    ms["F, DAVIS"] / len(some),
                    10,
                    ours=ms["F, ours"] / len(some),
                    unit="ms of F per instance",
                ),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
