"""What a panorama will take before any was made: figures of one machine, scaled to this one.

A panorama costs its share of the scene (generate, prepare, probe), its samples, and what goes by
pixels (denoise, save, describe, write):

    core-s = speed · (scene / cameras + samples · share · per_msample + megapixels · per_mpx
                      + frame + megapixels · flows · flow_per_mpx)

The last line is of frames of a video: what moves is placed anew, and each flow casts two rays a
pixel.

`speed` is how much slower this machine's probe is (`panoforge.datagen.cost.speed_probe`). `share`
is what adaptive sampling leaves of the samples. The figures are of bench/RESULTS.md; `FACTOR` says
how far off the estimate was there, and is part of what is told. No bpy here.
"""

from dataclasses import dataclass

from panoforge.core.sample.products import FLOWS
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.infinigen1.command import NATURE_CORE_S, PROFILES
from panoforge.datagen.source_settings import Infinigen1Indoors, RoomsSource

PROBE = 10.7  # core-s per million samples of the probe's room, where all figures here are of
FACTOR = 3.5  # how far off it was at most, by bench/RESULTS.md, where each case stands
PER_MPX_CORE_S = 7.3
FULL_MATERIALS = 1.84  # a sample's cost, where bounced light sees whole materials
MEMORY_MB, MEMORY_MB_PER_MPX = 1700.0, 470.0
STAGED_BYTES_PER_PIXEL, FLOW_BYTES_PER_PIXEL = 1.2, 0.44


@dataclass(frozen=True)
class KindCost:
    """Core-seconds of a scene, and of a million samples in it."""

    scene_s: float
    per_msample_s: float
    flow_s: float = 4.9  # of a megapixel, one flow


# Medians of bench/generation.py, slopes of bench/render_cost.py, Infinigen 1's of ten rooms.
KINDS = {
    "infinigen2.rooms": KindCost(31, 12.4),
    "infinigen2.house": KindCost(157, 12.4),
    "infinigen2.floating": KindCost(15, 8.0, 3.0),
    "infinigen2.outdoor": KindCost(10, 8.0),
    "infinigen1.indoors": KindCost(40, 16.0),
    "infinigen1.nature": KindCost(NATURE_CORE_S + 210, 12.4),  # its samples are a guess
    "blend": KindCost(10, 12.4),  # as a room: files differ by more than the factor
}
# Rooms that are dearer than the median: a living room has 2.4 M triangles.
ROOMS = {"livingroom": KindCost(68, 25.0, 6.0), "diningroom": KindCost(24, 17.0, 4.0)}
VIDEO_FRAME_CORE_S = 0.36  # a further frame's meshes, boxes, visibility and writing


@dataclass(frozen=True)
class ExpectedCost:
    """Of one panorama; `scene_s` is the part of `core_s` that making its scene takes."""

    core_s: float
    scene_s: float
    staged_mb: float
    memory_mb: float


def expected_cost(config: RenderConfig, probe: float) -> ExpectedCost:
    """A panorama of `config` on a CPU whose probe took `probe` core-seconds per million samples.

    Sources are weighted by the scenes that each gives. A panorama may be a frame of a video.
    """
    speed = probe / PROBE
    kinds = [_kind(source, variant) for source in config.sources for variant in source.variants]
    scene_s, per_msample, flow_s = (
        sum(getattr(kind, part) for kind in kinds) / len(kinds)
        for part in ("scene_s", "per_msample_s", "flow_s")
    )
    if config.secondary_materials == "full":
        per_msample *= FULL_MATERIALS
    mpx = config.width * config.height / 1e6
    share = sample_share(config.samples, config.adaptive_threshold)
    picture = mpx * (config.samples * share * per_msample + PER_MPX_CORE_S)
    flows = 0.0  # the last frame of a video leads nowhere, the first comes from nowhere
    if config.video is not None:
        flows = len(set(config.products) & set(FLOWS)) * (1 - 1 / config.video.frames)
        picture += VIDEO_FRAME_CORE_S + mpx * flows * flow_s
    own = scene_s / config.panoramas_per_scene
    return ExpectedCost(
        core_s=speed * (own + picture),
        scene_s=speed * own,
        staged_mb=(STAGED_BYTES_PER_PIXEL + flows * FLOW_BYTES_PER_PIXEL) * mpx,
        memory_mb=MEMORY_MB + MEMORY_MB_PER_MPX * mpx,
    )


def sample_share(samples: int, adaptive_threshold: float) -> float:
    """The part of the samples that adaptive sampling takes.

    It looks every 16 samples or so, and what is taken falls with the noise that is allowed. That
    is 0.69 of 96 at 0.01; how it falls is assumed.
    """
    if not adaptive_threshold or samples <= 16:
        return 1.0
    return max(16 / samples, min(1.0, 0.69 * (0.01 / adaptive_threshold) ** 0.35))


def _kind(source: object, variant: str) -> KindCost:
    kind = KINDS[getattr(source, "source", "")]
    if isinstance(source, Infinigen1Indoors):
        return KindCost(kind.scene_s + PROFILES[source.profile].core_s, kind.per_msample_s)
    return ROOMS.get(variant, kind) if isinstance(source, RoomsSource) else kind
