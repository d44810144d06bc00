"""The mean predictor: the best guess for each latitude, whatever the picture shows.

It is fitted on panoramas, for each of `ROWS` bands of rows. A guess is the class seen most often,
the median depth, and the mean normal relative to where the pixel looks (right, away, up). A model
that does not beat it has learned where the ceiling is, and no more.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID, ClassSet
from panoforge.core.geometry.pixels import column_lon
from panoforge.core.types import Floats
from panoforge.eval.maps import DenseMaps, DenseSample
from panoforge.eval.scoring.metrics.depth import MIN_DEPTH_M, counted_depth
from panoforge.train.settings.mtpano import DenseTask

ROWS = 64
_DEPTH_BINS = 1000  # logarithmic: 0.9 % of the distance each


class MeanPredictor:
    """See the module. Fitted by `fit`; without a panorama it is of no use."""

    name = "mean predictor"

    def __init__(self, tasks: tuple[DenseTask, ...], classes: ClassSet, max_depth_m: float) -> None:
        self.tasks, self.panoramas = tasks, 0
        self._max_depth_m = max_depth_m
        self._classes = np.zeros((ROWS, len(classes)))
        self._depths = np.zeros((ROWS, _DEPTH_BINS))
        self._normals = np.zeros((ROWS, 3))
        self._edges = np.geomspace(MIN_DEPTH_M, max_depth_m, _DEPTH_BINS + 1)

    @classmethod
    def fit(
        cls,
        samples: Iterable[DenseSample],
        tasks: tuple[DenseTask, ...],
        classes: ClassSet,
        max_depth_m: float,
    ) -> "MeanPredictor":
        """The predictor of panoramas whose truth has all `tasks`."""
        found = cls(tasks, classes, max_depth_m)
        for sample in samples:
            found.add(sample.truth)
        return found

    def add(self, truth: DenseMaps) -> None:
        """Look at one more panorama."""
        self.panoramas += 1
        if truth.semantic is not None:
            rows = _rows(*truth.semantic.shape)
            known = truth.semantic != VOID
            size = self._classes.shape[1]
            cells = rows[known] * size + truth.semantic[known]
            self._classes += np.bincount(cells, minlength=ROWS * size).reshape(ROWS, size)
        if truth.depth_m is not None:
            rows, known = _rows(*truth.depth_m.shape), counted_depth(truth.depth_m, self._max())
            bins = np.searchsorted(self._edges, truth.depth_m[known], "right") - 1
            cells = rows[known] * _DEPTH_BINS + np.clip(bins, 0, _DEPTH_BINS - 1)
            self._depths += np.bincount(cells, minlength=ROWS * _DEPTH_BINS).reshape(ROWS, -1)
        if truth.normal is not None:
            height, width = truth.normal.shape[:2]
            local = np.einsum("uij,vuj->vui", _local_from_pano(width), truth.normal)
            for axis in range(3):
                self._normals[:, axis] += np.bincount(
                    _rows(height, width).ravel(), local[..., axis].ravel(), minlength=ROWS
                )

    def predict(self, sample: DenseSample) -> DenseMaps:
        """The maps of any panorama of the sample's size."""
        height, width = sample.rgb.shape[:2]
        rows = np.arange(height) * ROWS // height
        semantic = depth_m = normal = None
        if "semantic" in self.tasks:
            best = _filled(self._classes).argmax(axis=1).astype(np.uint8)
            semantic = np.repeat(best[rows][:, None], width, axis=1)
        if "depth" in self.tasks:
            counts = _filled(self._depths)
            reached = np.cumsum(counts, axis=1)
            middle = np.argmax(reached >= reached[:, -1:] / 2, axis=1)
            centre = np.sqrt(self._edges[:-1] * self._edges[1:])[middle].astype(np.float32)
            depth_m = np.repeat(centre[rows][:, None], width, axis=1)
        if "normal" in self.tasks:
            own = _filled(self._normals)
            own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
            normal = np.einsum("uji,vj->vui", _local_from_pano(width), own[rows])
            normal = normal.astype(np.float32)
        return DenseMaps(semantic, depth_m, normal)

    def _max(self) -> float:
        return self._max_depth_m


def _rows(height: int, width: int) -> NDArray[np.int64]:
    """The band of each pixel, H×W."""
    return np.broadcast_to((np.arange(height) * ROWS // height)[:, None], (height, width))


def _local_from_pano(width: int) -> Floats:
    """W×3×3: the panorama's frame → (right, away, up) of the directions of each column."""
    lon = column_lon(np.arange(width), width)
    sin, cos, zero, one = np.sin(lon), np.cos(lon), np.zeros(width), np.ones(width)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=1)


def _filled(bands: Floats) -> Floats:
    """Bands that saw nothing get the sum of all: a small picture has fewer rows than `ROWS`."""
    empty = ~(bands != 0).any(axis=1)
    return np.where(empty[:, None], bands.sum(axis=0), bands)
