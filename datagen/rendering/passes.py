"""What one render gives: the passes of its EXR, checked and as arrays. Imports no bpy."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import OpenEXR
from numpy.typing import NDArray

from panoforge.core.numbers import counted
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.timing import PhaseClock

SKY_DEPTH = 1e9  # Cycles writes 1e10 where a ray meets nothing


# the most a dielectric's clear layer reflects; what is more is metal, which is beside the diffuse
# colour, not above
LAYER = 0.08


class RenderFailed(Exception):
    """Cycles said that something is wrong.

    A shader did not compile, a texture is missing, memory ran out.
    """


@dataclass(frozen=True)
class Passes:
    """One render.

    Args:
        linear: float32 H×W×3, scene-referred colour.
        index: int32 H×W, pass index, 0 = nothing.
        depth_m: float32 H×W, along the ray, +inf = nothing.
        normal: float32 H×W×3, world frame, 0 = nothing.
        albedo: float32 H×W×3, linear.
        material: int32 H×W, material pass index.
        diffuse: as `albedo`: its diffuse part (`unlayered`).
        timings_s: seconds of sync, sample and save.
        cpu_s: the same on the processor.
    """

    linear: NDArray[np.float32]
    index: NDArray[np.int32]
    depth_m: NDArray[np.float32]
    normal: NDArray[np.float32]
    albedo: NDArray[np.float32] | None
    material: NDArray[np.int32] | None
    diffuse: NDArray[np.float32] | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)


def read_exr(path: Path) -> dict[str, NDArray]:
    """Channels of Blender's multi-layer EXR by `Pass.Component`, each H×W float32.

    For example `IndexOB.X`.
    """
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = {
            ".".join(name.rsplit(".", 2)[1:]): channel.pixels
            for name, channel in file.channels().items()
            if "." in name
        }
    wrong = sorted(name for name, pixels in found.items() if pixels.dtype != np.float32)
    if wrong:
        raise RenderFailed(
            f"the EXR holds {wrong} as half floats, ids above 2048 would be wrong: expected full"
            " floats"
        )
    return found


def passes_of(
    channels: dict[str, NDArray], settings: RenderSettings, clock: PhaseClock, unit_m: float
) -> Passes:
    """The passes of one render, from the channels of its EXR file.

    `unit_m` is the length of the scene's unit.
    """
    crop = slice(settings.seam_px, settings.seam_px + settings.width)

    def get(name: str, components: str = "") -> NDArray:
        if components:
            return np.stack(
                [channels[f"{name}.{component}"][:, crop] for component in components], axis=-1
            )
        return channels[name][:, crop]

    depth = get("Depth.Z").copy()
    depth[depth >= SKY_DEPTH] = np.inf
    depth *= np.float32(unit_m)
    albedo = None
    if settings.albedo:
        albedo = np.clip(
            get("DiffCol", "RGB") + get("GlossCol", "RGB") + get("TransCol", "RGB"), 0, 1
        )
    return Passes(
        linear=get("Combined", "RGB"),
        index=whole_numbers(get("IndexOB.X"), "Object Index"),
        depth_m=depth,
        normal=unit_normals(get("Normal", "XYZ"), depth),
        albedo=albedo,
        material=(
            whole_numbers(get("IndexMA.X"), "Material Index") if settings.material_index else None
        ),
        diffuse=(
            unlayered(get("DiffCol", "RGB"), get("GlossCol", "RGB")) if settings.diffuse else None
        ),
        timings_s=clock.wall,
        cpu_s=clock.cpu,
    )


def unlayered(diffuse: NDArray[np.float32], glossy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The diffuse colour that a diffusely bounced ray meets, where there are no caustics.

    Cycles then leaves a surface's clear layer away. For the camera that layer has taken its own
    share (`glossy`, some 4 % of a dielectric) of what is below it.
    """
    return np.clip(diffuse / (1 - np.clip(glossy, 0, LAYER)), 0, 1)


def whole_numbers(values: NDArray[np.float32], what: str) -> NDArray[np.int32]:
    """Float ids → int32.

    RenderFailed if any is not a whole number: then something averaged them.
    """
    rounded = np.rint(values)
    if not (values == rounded).all():
        raise RenderFailed(
            f"the {what} pass holds {counted(int((values != rounded).sum()), 'value')} between"
            " ids: it was"
            " filtered"
        )
    return rounded.astype(np.int32)


def unit_normals(normal: NDArray[np.float32], depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise H×W×3 normals.

    Zero where there is no geometry or where the average cancelled out.
    """
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = np.divide(normal, length, out=np.zeros_like(normal), where=length > 1e-6)
    return np.where(np.isfinite(depth_m)[..., None], unit, 0)
