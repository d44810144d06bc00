"""Depth of overlapping views that disagree in scale and shift: one solution for all of them.

A view i says v_i; what it means is s_i·v_i + t_i, its own scale and shift. Where two views see the
same point they mean the same distance along the ray:

    f_i(p)·(s_i·v_i(p) + t_i) = f_j(p)·(s_j·v_j(p) + t_j)          for all i, j that see p

with f = 1 for depth along rays, the ray's length per depth for depth along the axis, and one over
it for inverse depth. These are linear, and solved at once for all views in the least squares of
the relative difference, robustly (IRLS with Cauchy's weights), from a start by ratios alone. MTPano
(arXiv 2602.05330) avoids the question by learning from one random view a step.

Nothing fixes the scale of the whole: the geometric mean of the views' scales stays 1. Depth along
rays leaves one shift of the whole free as well, which is kept small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import fibonacci_directions
from panoforge.core.numbers import counted
from panoforge.eval.views.frames import Projection
from panoforge.label.settings import AlignSettings
from panoforge.label.teachers.base import DepthMap
from panoforge.label.views.carry import carry_depth
from panoforge.label.views.landing import land_directions

_RIDGE = 1e-9  # of the normal matrix: decides only what nothing else does
_AGREED = 1e-6  # relative: float32 knows no better
_LEAST_SCALE = 0.01  # of the start: a view that says less of anything says nothing


@dataclass(frozen=True)
class DepthAlignment:
    """What each view's depth is multiplied by, and what is added then.

    Attributes:
        scale: float64 (V,), positive; 0 for a view that is left out.
        shift: float64 (V,), in the unit of the result.
        residual: Median relative difference of two views after it; 0 where nothing overlaps.
        before: The same before.
        left_out: Places of views that contradict all others, or see nothing but sky.
    """

    scale: Float64[np.ndarray, " views"]
    shift: Float64[np.ndarray, " views"]
    residual: float
    before: float
    left_out: tuple[int, ...]


@dataclass(frozen=True)
class _Pairs:
    """Every meeting of two views at a direction: their values, factors, and weight, (M,)."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    values: NDArray[np.float64]  # (2, M)
    factors: NDArray[np.float64]  # (2, M)
    weight: NDArray[np.float64]

    def meant(self, scale: NDArray, shift: NDArray) -> NDArray[np.float64]:
        """What both views mean at each meeting, (2, M)."""
        views = np.stack([self.one, self.other])
        return self.factors * (scale[views] * self.values + shift[views])


def align(
    frames: Sequence[Projection],
    depths: Sequence[DepthMap],
    settings: AlignSettings = AlignSettings(),
) -> DepthAlignment:
    """The scale and shift of each view's depth with which all views agree best.

    Args:
        frames: The views.
        depths: What a teacher says of each, all in one unit.
        settings: How many directions are compared, and whether views may be shifted.

    Raises:
        DataError: The views do not overlap, so that nothing can be made to agree.
    """
    count = len(frames)
    pairs, middle = _meetings(frames, depths, settings.samples)
    seeing = middle > 0
    _check_overlaps(pairs, seeing)
    start = np.where(seeing, _ratios(pairs, count, middle), 0)
    nothing = np.zeros(count)
    before = _difference(pairs, np.where(seeing, 1.0, 0.0), nothing)
    scale, shift = start, nothing
    used = seeing.copy()
    for _ in range(settings.iterations if len(pairs.one) else 0):
        if np.median(_difference(pairs, scale, shift)) < _AGREED:
            break  # of views that see one distance alone nothing more could be told
        last = scale, shift
        scale, shift = _round(pairs, scale, shift, middle, settings.shift)
        wrong = used & (scale < _LEAST_SCALE * start)
        if wrong.any():  # turned round or flattened: it contradicts the others
            used &= ~wrong
            pairs = _without(pairs, wrong)
            scale, shift = np.where(used, start, 0), np.where(used, shift, 0)
            continue
        moved = np.abs(scale - last[0]) * middle + np.abs(shift - last[1])
        if moved.max() <= 1e-7 * np.abs(scale * middle).max():
            break
    scale, shift = np.where(used, scale, 0), np.where(used, shift, 0)
    left_out = tuple(np.flatnonzero(~used).tolist())
    residual = float(np.median(_difference(pairs, scale, shift))) if len(pairs.one) else 0.0
    typical = float(np.median(before)) if len(before) else 0.0
    return DepthAlignment(scale, shift, residual, typical, left_out)


def _meetings(
    frames: Sequence[Projection], depths: Sequence[DepthMap], samples: int
) -> tuple[_Pairs, NDArray[np.float64]]:
    """Where two views see the same direction, and each view's median (0 where it sees only sky)."""
    directions = fibonacci_directions(samples)
    shape = (len(frames), samples)
    values, factors, weights = np.full(shape, np.nan), np.ones(shape), np.zeros(shape)
    for view, (frame, depth) in enumerate(zip(frames, depths, strict=True)):
        landing = land_directions(frame, directions)
        meant, factor = carry_depth(depth, landing)
        at = landing.pixels
        values[view, at] = meant / factor
        factors[view, at] = factor
        weights[view, at] = landing.border
    values[~np.isfinite(values)] = np.nan
    known = np.isfinite(values)
    middle = np.array([float(np.median(v[k])) if k.any() else 0.0
                       for v, k in zip(values * factors, known, strict=True)])  # fmt: skip
    found = []
    for one in range(len(frames)):
        for other in range(one + 1, len(frames)):
            at = np.flatnonzero(known[one] & known[other])
            both = np.array([one, other])[:, None]
            weight = np.minimum(weights[one, at], weights[other, at])
            who = np.full(len(at), one), np.full(len(at), other)
            found.append((*who, values[both, at], factors[both, at], weight))
    if not found:
        none = np.zeros(0, np.int64)
        return _Pairs(none, none, np.zeros((2, 0)), np.ones((2, 0)), np.zeros(0)), middle
    one, other, held, factor, weight = (
        np.concatenate(part, axis=-1) for part in zip(*found, strict=True)
    )
    return _Pairs(one, other, held, factor, weight), middle


def _without(pairs: _Pairs, views: NDArray[np.bool_]) -> _Pairs:
    """The meetings of other views."""
    kept = ~(views[pairs.one] | views[pairs.other])
    return _Pairs(
        pairs.one[kept],
        pairs.other[kept],
        pairs.values[:, kept],
        pairs.factors[:, kept],
        pairs.weight[kept],
    )


def _check_overlaps(pairs: _Pairs, seeing: NDArray[np.bool_]) -> None:
    """DataError unless every view that sees something is tied to all others through overlaps."""
    count = len(seeing)
    graph = sparse.coo_matrix((np.ones(len(pairs.one)), (pairs.one, pairs.other)), (count, count))
    _, part = connected_components(graph, directed=False)
    parts = len(np.unique(part[seeing]))
    if parts > 1:
        raise DataError(
            f"depth of {counted(count, 'view')} falls into {parts} groups without overlap: their"
            " scales cannot be compared: take views that overlap (scan, cube, dense32)"
        )


def _ratios(pairs: _Pairs, count: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales by ratios alone: the log of each is least squares of log ratios, robustly."""
    meant = pairs.factors * pairs.values
    good = (meant > 0).all(axis=0)
    one, other = pairs.one[good], pairs.other[good]
    if not len(one):
        return np.ones(count)
    gap = np.log(meant[1, good]) - np.log(meant[0, good])  # log s_one − log s_other
    rows = np.arange(len(one))
    matrix = sparse.csr_matrix(
        (np.repeat([1.0, -1.0], len(one)), (np.tile(rows, 2), np.concatenate([one, other]))),
        (len(one), count),
    )
    log_scale, weight = np.zeros(count), pairs.weight[good]
    for _ in range(20):
        normal = (matrix.T @ matrix.multiply(weight[:, None])).toarray()
        ridge = _RIDGE * max(np.trace(normal), 1e-12) + 1e-12
        right = matrix.T @ (weight * gap)
        log_scale = np.linalg.solve(normal + ridge * np.eye(count), right)
        off = np.abs(matrix @ log_scale - gap)
        weight = pairs.weight[good] / (1 + (off / max(2 * np.median(off), 1e-4)) ** 2)
    seeing = middle > 0
    return np.exp(log_scale - log_scale[seeing].mean())


def _difference(pairs: _Pairs, scale: NDArray, shift: NDArray) -> NDArray[np.float64]:
    """Relative difference of what two views mean, (M,)."""
    meant = pairs.meant(scale, shift)
    return np.abs(meant[0] - meant[1]) / np.maximum(np.abs(meant).mean(axis=0), 1e-30)


def _round(
    pairs: _Pairs, scale: NDArray, shift: NDArray, middle: NDArray, with_shift: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One round: weights from what the views mean now, then all scales and shifts at once.

    Sought is what disagrees least for how much it varies over the meetings. Least disagreement
    alone would make all views flat, or small. The unknowns are relative: each scale by what it is
    now, each shift by its view's median.
    """
    count, meetings = len(scale), len(pairs.one)
    meant = pairs.meant(scale, shift)
    size = np.abs(meant).mean(axis=0)
    typical = max(float(np.median(size)), 1e-30)
    size = np.maximum(size, 1e-3 * typical)
    off = np.abs(meant[0] - meant[1]) / size
    sure = pairs.weight / (1 + (off / max(3 * float(np.median(off)), 1e-5)) ** 2)
    views = np.stack([pairs.one, pairs.other])
    unit = np.where(scale > 0, scale * middle, 1.0)
    columns = np.stack([views, count + views]).ravel()
    rows = np.broadcast_to(np.arange(meetings), (2, 2, meetings)).ravel()
    parts = pairs.factors * np.stack([pairs.values * scale[views], unit[views]])

    def moments(sides: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Second moments of a sum over both sides of each meeting."""
        entries = (parts * sides[:, None]).ravel()
        matrix = sparse.csr_matrix((entries, (rows, columns)), (meetings, 2 * count))
        mean = np.asarray(matrix.T @ weight)
        whole = np.asarray((matrix.T @ matrix.multiply(weight[:, None])).toarray())
        return whole if sides[1] < 0 else whole - np.outer(mean, mean) / weight.sum()

    apart = moments(np.array([1.0, -1.0]), sure / size**2)
    varied = moments(np.array([0.5, 0.5]), sure / typical**2)
    if np.trace(varied) <= 1e-9 * sure.sum():  # one distance everywhere: nothing tells a shift
        return scale, shift
    changes, relative = _solve(apart, varied, with_shift)
    new, added = scale * changes, relative * unit
    used = new > 0
    mean = np.exp(np.mean(np.log(new[used]) - np.log(scale[used]))) if used.any() else 1.0
    return new / mean, added / mean


def _solve(
    apart: NDArray[np.float64], varied: NDArray[np.float64], with_shift: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factors by which scales change, and relative shifts: least `apart` for what is `varied`.

    What neither tells, such as a shift of the whole of depth along rays, is kept small.
    """
    count, trace = len(apart) // 2, max(float(np.trace(apart)), 1e-12)
    held = np.concatenate([np.full(count, 1e-3), np.ones(count)]) * _RIDGE * trace
    if not with_shift:
        held[count:] = 1e6 * trace
    last = 2 * count - 1
    _, vectors = linalg.eigh(varied, apart + np.diag(held), subset_by_index=[last, last])
    found = vectors[:, 0] * np.sign(np.median(vectors[:count, 0]) or 1.0)
    return found[:count], found[count:]
