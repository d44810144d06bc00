"""Per-instance statistics of a 4096×2048 label map: pixels, steradians, wrap-aware box, seam and
pole flags.

Ours: `panoforge.core.sample.label_maps.instance_stats`. Peers on the same work: a loop over ids;
and scipy.ndimage.find_objects for the boxes, with bincount for the areas. That knows no seam, so
boxes that touch both edges get a second look. All give the same numbers, asserted first.
`find_objects` alone, which gives boxes and nothing else, is timed too.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.sample.label_maps import InstanceStats, instance_stats
from panoforge.core.types import Labels


def by_find_objects(labels: Labels) -> InstanceStats:
    """The same statistics from find_objects and two bincounts."""
    height, width = labels.shape
    ids = int(labels.max()) + 1
    by_row = np.stack([np.bincount(row, minlength=ids) for row in labels])
    pixels, area = by_row.sum(axis=0), row_area_sr(width, height) @ by_row
    rows = []
    for id_, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            rows.append(
                (
                    id_,
                    *_cylinder_box(partial(np.equal, labels[found], id_), found, width),
                )
            )
    return _collect(rows, pixels, area, height)


def by_loop(labels: Labels) -> InstanceStats:
    """The same statistics, one id after the other over the full frame."""
    height, width = labels.shape
    per_pixel = np.broadcast_to(row_area_sr(width, height)[:, None], labels.shape)
    pixels, area = np.zeros(int(labels.max()) + 1, int), np.zeros(int(labels.max()) + 1)
    rows = []
    for id_ in np.unique(labels[labels > 0]).tolist():
        mask = labels == id_
        pixels[id_], area[id_] = mask.sum(), per_pixel[mask].sum()
        v, u = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        found = (slice(v[0], v[-1] + 1), slice(u[0], u[-1] + 1))
        rows.append((id_, *_cylinder_box(partial(mask.__getitem__, found), found, width)))
    return _collect(rows, pixels, area, height)


def by_where(labels: Labels) -> InstanceStats:
    """The loop as it is mostly met: `np.where` per id, everything from its coordinates."""
    height, width = labels.shape
    area_sr = row_area_sr(width, height)
    pixels, area = np.zeros(int(labels.max()) + 1, int), np.zeros(int(labels.max()) + 1)
    rows = []
    for id_ in np.unique(labels[labels > 0]).tolist():
        v, u = np.where(labels == id_)
        pixels[id_], area[id_] = v.size, area_sr[v].sum()
        found = (slice(int(v.min()), int(v.max()) + 1), slice(int(u.min()), int(u.max()) + 1))
        rows.append((id_, *_cylinder_box(partial(np.equal, labels[found], id_), found, width)))
    return _collect(rows, pixels, area, height)


def _cylinder_box(
    mask: Callable[[], NDArray[np.bool_]], found: tuple[slice, slice], width: int
) -> tuple[int, int, int, int, bool]:
    """u0, v0, width, height and the seam flag. Only for a box of more than half the circle can
    another gap be wider than the one around the box. Only then is the mask (cropped to `found`)
    looked at.
    """
    v, u = found
    box = (u.start, v.start, u.stop - u.start, v.stop - v.start)
    seam_gap = width - box[2]
    if 2 * box[2] > width:
        columns = np.flatnonzero(mask().any(axis=0)) + u.start
        gaps = np.diff(columns) - 1
        at = int(gaps.argmax())
        if gaps[at] > seam_gap:
            box = (int(columns[at + 1]), v.start, width - int(gaps[at]), box[3])
    return (*box, u.start == 0 and u.stop == width)


def _collect(rows: list[tuple], pixels: NDArray, area: NDArray, height: int) -> InstanceStats:
    ids, u0, v0, box_width, box_height, seam = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return InstanceStats(
        ids,
        pixels[ids],
        area[ids],
        u0,
        v0,
        box_width,
        box_height,
        seam,
        (v0 == 0) | (v0 + box_height == height),
    )


def assert_equal(a: InstanceStats, b: InstanceStats) -> None:
    """All integers equal, steradians to rounding."""
    for name in ("ids", "pixels", "u0", "v0", "width", "height", "seam", "pole"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert np.allclose(a.area_sr, b.area_sr, rtol=1e-9)


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    labels = room_labels()
    ours = instance_stats(labels)
    assert_equal(ours, by_find_objects(labels))
    assert_equal(ours, by_loop(labels))
    assert_equal(ours, by_where(labels))
    seconds = interleave(
        {
            "ours": lambda: instance_stats(labels),
            "find_objects": lambda: by_find_objects(labels),
            "find_objects alone": lambda: ndimage.find_objects(labels),
            "loop": lambda: by_loop(labels),
            "loop of np.where": lambda: by_where(labels),
        },
        repeats=5 if args.quick else 15,
    )
    for name, values in seconds.items():
        print(f"{name}: {spread(values)} ms")
    finish(
        Outcome(
            "instance_stats",
            ours=1e3 * median(seconds["ours"]),
            unit="ms",
            n=len(seconds["ours"]),
            facts={"instances": ours.ids.size},
            peers=(
                Peer(
                    f"find_objects + bincount ({version('scipy')})",
                    1e3 * median(seconds["find_objects"]),
                    4,
                ),
                Peer(
                    f"find_objects alone, boxes only ({version('scipy')})",
                    1e3 * median(seconds["find_objects alone"]),
                    4,
                ),
                Peer(
                    f"loop over ids, written for speed ({version('numpy')})",
                    1e3 * median(seconds["loop"]),
                    300,
                ),
                Peer(
                    f"loop over ids, np.where as mostly met ({version('numpy')})",
                    1e3 * median(seconds["loop of np.where"]),
                    300,
                ),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
