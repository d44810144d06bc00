"""Label maps: statistics, wrap-aware boxes and RLE against brute force and pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.sample.label_maps import (
    decode_rle,
    dense_ids,
    encode_rles,
    instance_stats,
    label_runs,
)

MAPS = hnp.arrays(
    np.uint16,
    st.tuples(st.integers(1, 12), st.integers(1, 14)),
    elements=st.sampled_from([0, 0, 0, 1, 2, 7, 65535]),
)
LINES = hnp.arrays(
    np.uint16, st.tuples(st.just(1), st.integers(1, 24)), elements=st.sampled_from([0, 0, 0, 0, 1])
)


def shortest_arc(columns: np.ndarray, width: int) -> int:
    """Brute force: the fewest consecutive columns on the circle that hold all of `columns`."""
    return min(max((c - start) % width for c in columns) + 1 for start in columns)


@settings(deadline=None, max_examples=300)
@given(st.one_of(MAPS, LINES))
def test_statistics_equal_brute_force(labels):
    H, W = labels.shape
    stats = instance_stats(labels)
    assert stats.ids.tolist() == [i for i in np.unique(labels) if i]
    area = np.broadcast_to(row_area_sr(W, H)[:, None], labels.shape)
    for k, id_ in enumerate(stats.ids):
        rows, columns = np.nonzero(labels == id_)
        box = stats.box(k)
        assert stats.pixels[k] == rows.size
        assert stats.area_sr[k] == pytest.approx(area[labels == id_].sum())
        assert (box.v0, box.height) == (rows.min(), np.ptp(rows) + 1)
        assert box.width == shortest_arc(np.unique(columns), W)
        assert {(c - box.u0) % W for c in columns} <= set(range(box.width))
        assert 0 <= box.u0 < W
        assert stats.seam[k] == (0 in columns and W - 1 in columns)
        assert stats.pole[k] == (0 in rows or H - 1 in rows)


def test_an_object_on_the_seam_is_one_narrow_box():
    labels = np.zeros((4, 100), np.uint16)
    labels[1:3, 95:] = labels[1:3, :10] = 3
    box = instance_stats(labels).box(0)
    assert (box.u0, box.width, box.v0, box.height) == (95, 15, 1, 2)


def test_runs_cover_the_map():
    labels = np.random.default_rng(0).integers(0, 4, (50, 60)).astype(np.uint16)
    runs = label_runs(labels)
    again = np.zeros_like(labels)
    for row, start, length, id_ in zip(runs.row, runs.start, runs.length, runs.id, strict=True):
        again[row, start : start + length] = id_
    assert np.array_equal(again, labels)


@settings(deadline=None, max_examples=300)
@given(MAPS)
def test_rle_is_pycocotools_own(labels):
    rles = encode_rles(labels)
    assert sorted(rles) == [i for i in np.unique(labels) if i]
    for id_, rle in rles.items():
        mask = np.asfortranarray(labels == id_, np.uint8)
        assert rle["counts"] == coco_mask.encode(mask)["counts"].decode()
        assert np.array_equal(decode_rle(rle), mask)


def test_dense_ids():
    labels, old = dense_ids(np.array([[0, 900, 7], [40000, 7, 0]]))
    assert labels.tolist() == [[0, 2, 1], [3, 1, 0]] and old.tolist() == [7, 900, 40000]
    assert labels.dtype == np.uint16


def test_too_many_ids_say_so():
    with pytest.raises(ValueError, match="at most 65,535"):
        dense_ids(np.arange(70000).reshape(1, -1))


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="H×W uint16 array, got int32"):
        instance_stats(np.zeros((2, 2), np.int32))
