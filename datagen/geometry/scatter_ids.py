"""Which instances of a scatter have an id of their own in a panorama. Pure functions of arrays.

A rock of a scatter is a thing that one clicks; a blade of grass far away is not. By default an
instance is told from its scatter where it covers a solid angle that is worth it; smaller ones of
one scatter share that scatter's id.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.datagen.geometry.rendered_things import RenderedThing


def joined(
    index: NDArray[np.int32], scatter_of: NDArray[np.int64], min_sr: float
) -> NDArray[np.int32]:
    """`index` (H, W) with the instances of a scatter that cover less than `min_sr` replaced by it.

    Args:
        index: number of the thing at each pixel, 0 = nothing.
        scatter_of: (K + 1,) number of the scatter of each thing, 0 for none.
        min_sr: +inf joins every instance with its scatter.
    """
    into = join_table(covered_sr(index, len(scatter_of)), scatter_of, min_sr)
    return into[index].astype(np.int32)


def covered_sr(index: NDArray[np.int32], things: int) -> NDArray[np.float64]:
    """The solid angle of each number below `things` in `index` (H, W), in steradians."""
    height, width = index.shape
    area = np.repeat(row_area_sr(width, height), width)
    covered = np.bincount(index.ravel(), weights=area, minlength=things)
    return covered.astype(np.float64)


def join_table(
    covered: NDArray[np.float64], scatter_of: NDArray[np.int64], min_sr: float
) -> NDArray[np.int64]:
    """The number whose id each thing carries, (K + 1,), given the most that each covers."""
    return np.where((scatter_of > 0) & (covered < min_sr), scatter_of, np.arange(len(scatter_of)))


def numbered_scatters(
    things: Sequence[RenderedThing], scatters: Mapping[str, RenderedThing]
) -> tuple[NDArray[np.int64], tuple[RenderedThing, ...]]:
    """The scatter's number of each thing (K + 1,), 0 for none, and the scatters.

    They are numbered after the K things.
    """
    keys = sorted(scatters)
    number = {key: len(things) + place for place, key in enumerate(keys, start=1)}
    of = np.array([0] + [number.get(thing.scatter, 0) for thing in things], np.int64)
    return of, tuple(scatters[key] for key in keys)
