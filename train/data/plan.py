"""Which clip stands at which position of a run: integers in, integers out, no pixel is read here.

A run is a line of positions 0, 1, 2, …; step s trains on positions [s·B, (s + 1)·B) with B =
`clips_per_step`. Position p belongs to epoch p // N, and each epoch visits N = panoramas ×
`clips_per_panorama` clips in its own random order. Everything random about a clip is drawn from
`default_rng([seed, lane, position])`. So a clip depends on nothing but the seed and its position:
not on its rank, on how often the run was resumed, or on what was built before.
`positions_of_rank` deals a step's clips out to processes; joined over ranks it is the same line for
every world size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.scan import ScanSpec, random_yaw0_deg, scan_grid
from panoforge.train.settings.clips import ClipSettings

# random streams of a seed
(
    ORDER_LANE,
    CLIP_LANE,
    PROMPT_LANE,
    NOISE_LANE,
    SOURCE_LANE,
    CLICK_LANE,
    WARP_LANE,
    LOOK_LANE,
    DENSE_LANE,
) = range(9)


@dataclass(frozen=True)
class ClipPlan:
    """One clip, before any pixel.

    `sample` is the row of the dataset's index; `object_seed` draws the objects once the masks are
    known; `colour_seed` draws the photometric jitter.
    """

    position: int
    epoch: int
    sample: int
    yaw0_deg: float
    start: int
    reverse: bool
    flip: bool
    fov_deg: float
    object_seed: int
    colour_seed: int
    tilt_deg: float = 0.0  # panoforge.train.data.warp
    tilt_towards_deg: float = 0.0
    rotate_deg: float = 0.0
    shear_deg: float = 0.0


@lru_cache(maxsize=16)  # two epochs of each source of a mixture
def epoch_order(seed: int, epoch: int, samples: int, repeats: int) -> NDArray[np.int64]:
    """The samples of one epoch in training order, shape (samples × repeats,).

    Every sample `repeats` times.
    """
    rng = np.random.default_rng([seed, ORDER_LANE, epoch])
    order = rng.permutation(samples * repeats) % samples
    order.flags.writeable = False
    return order


def clip_plan(
    settings: ClipSettings, seed: int, position: int, pano_widths: Sequence[int]
) -> ClipPlan:
    """The clip at `position`.

    `pano_widths[i]` is the width in pixels of sample i (yaw is drawn in whole columns).
    """
    samples = len(pano_widths)
    epoch, index = divmod(position, samples * settings.clips_per_panorama)
    sample = int(epoch_order(seed, epoch, samples, settings.clips_per_panorama)[index])
    grid = scan_grid(ScanSpec(settings.fov_deg, settings.overlap))
    rng = np.random.default_rng([seed, CLIP_LANE, position])
    warp = np.random.default_rng([seed, WARP_LANE, position])
    return ClipPlan(
        position=position,
        epoch=epoch,
        sample=sample,
        yaw0_deg=random_yaw0_deg(rng, pano_widths[sample]),
        start=int(rng.integers(grid.columns * len(grid.pitches_deg))),
        reverse=bool(rng.random() < settings.reverse),
        flip=bool(rng.random() < settings.flip),
        fov_deg=settings.fov_deg + settings.fov_jitter_deg * float(rng.uniform(-1, 1)),
        object_seed=int(rng.integers(2**32)),
        colour_seed=int(rng.integers(2**32)),
        tilt_deg=settings.tilt_jitter_deg * float(warp.random()),
        tilt_towards_deg=float(warp.uniform(-180, 180)),
        rotate_deg=settings.affine_deg * float(warp.uniform(-1, 1)),
        shear_deg=settings.shear_deg * float(warp.uniform(-1, 1)),
    )


def positions_of_rank(
    step: int, clips_per_step: int, clips_per_forward: int, rank: int, num_ranks: int
) -> list[tuple[int, ...]]:
    """The forward passes of `rank` in `step`, each a tuple of positions.

    Forward pass j of the step goes to rank j mod num_ranks.
    """
    first = step * clips_per_step
    forwards = [
        tuple(range(p, p + clips_per_forward))
        for p in range(first, first + clips_per_step, clips_per_forward)
    ]
    return forwards[rank::num_ranks]


def prompt_rng(seed: int, step: int) -> np.random.Generator:
    """What draws the kinds of prompts of a step.

    One stream for all forward passes, as in SAM2, whose ranks share theirs so that they all have
    the same work to do.
    """
    return np.random.default_rng([seed, PROMPT_LANE, step])


def noise_seed(seed: int, position: int, group: int = 0) -> int:
    """The torch seed of a group of objects of the forward pass that starts at `position`.

    Where clicks fall, dropout.
    """
    return int(np.random.default_rng([seed, NOISE_LANE, position, group]).integers(2**62))
