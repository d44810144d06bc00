"""Ids, depth and normals where the beauty render alone cannot give them.

A second render of one sample and no bounce, whose rays are the same.

Light that scatters in a volume before it meets a surface leaves Cycles' data passes to chance: they
show where the scattered ray went, or nothing. So where there are volumes, the data are those of a
render without them. And a pass index tells 32,767 things apart: where there are more, their second
digit is a render of its own.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from panoforge.core.numbers import counted
from panoforge.datagen.geometry import prepared_scene
from panoforge.datagen.rendering.passes import Passes, RenderFailed
from panoforge.datagen.rendering.settings import RenderSettings

Render = Callable[[RenderSettings], Passes]


def exact_labels(
    front: Passes,
    render: Render,
    settings: RenderSettings,
    prepared: prepared_scene.PreparedScene,
) -> Passes:
    """`front`, rendered with `settings`, with exact data passes. `render` renders the same view."""
    quick = settings.for_labels()
    wide = len(prepared.things) > prepared_scene.MAX_PASS_INDEX
    if not prepared.volumes:
        return _with_second_digit(front, render, quick) if wide else front
    with prepared_scene.without_volumes():
        data = render(quick)
        exact = with_data(front, data)
        return _with_second_digit(exact, render, quick) if wide else exact


def with_data(front: Passes, data: Passes) -> Passes:
    """`front` with ids, depth and normals of `data`, and the time of both."""
    return replace(
        with_time(front, data), index=data.index, depth_m=data.depth_m, normal=data.normal
    )


def with_time(front: Passes, other: Passes) -> Passes:
    """`front` with the time of `other` added to its own."""
    return replace(
        front,
        timings_s={
            name: front.timings_s.get(name, 0.0) + seconds
            for name, seconds in other.timings_s.items()
        },
        cpu_s={name: front.cpu_s.get(name, 0.0) + seconds for name, seconds in other.cpu_s.items()},
    )


def _with_second_digit(front: Passes, render: Render, quick: RenderSettings) -> Passes:
    with prepared_scene.second_digit():
        high = render(quick)
    return joined_digits(front, high, prepared_scene.MAX_PASS_INDEX + 1)


def joined_digits(front: Passes, high: Passes, base: int) -> Passes:
    """`front` with numbers of two digits: its own, and that of `high`, which counts `base`s.

    RenderFailed where the two did not meet the same surface.
    """
    apart = front.depth_m != high.depth_m
    if apart.any():
        raise RenderFailed(
            f"two renders of one camera differ in depth at {counted(int(apart.sum()), 'pixel')}"
        )
    return replace(with_time(front, high), index=(front.index + base * high.index).astype(np.int32))
