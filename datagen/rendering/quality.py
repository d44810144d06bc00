"""Accept or refuse a panorama, with the reason. Pure functions of arrays: no bpy, no files.

A refused panorama is an expected outcome, `RejectedScene`: the worker moves to the next pose, then
to the next seed, and every reason is counted in the report. Shares are of the sphere (solid angle),
not of the pixels, so that a floor that fills the bottom rows counts for what it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.numbers import counted
from panoforge.datagen.config.render import QualitySettings

REASONS = (
    "inside_geometry",
    "too_close",
    "unlabelled",
    "nan",
    "black",
    "blown_out",
    "flat",
    "single_instance",
    "too_few_instances",
    "too_many_instances",
    "magenta",
    "no_place",
    "cycles_error",
    "generator",
)


class RejectedScene(Exception):
    """A pose or a scene that gives no good panorama.

    `reason` is one of REASONS, `detail` the figures behind it.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class RenderedPanorama:
    """What there is to judge.

    `linear` float32 H×W×3 scene-referred radiance, `rgb` uint8 H×W×3, `labels` uint16 H×W,
    `depth_m` float32 H×W, `structure_ids` the ids of walls, floors, ceilings and ground, `indoor`
    whether it is a room.
    """

    linear: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    depth_m: NDArray[np.float32]
    structure_ids: frozenset[int] = frozenset()
    indoor: bool = True


def check_panorama(panorama: RenderedPanorama, settings: QualitySettings) -> None:
    """Raise RejectedScene for the first check that fails.

    The order is from broken to merely dull.
    """
    height, width = panorama.labels.shape
    area = np.repeat(row_area_sr(width, height)[:, None], width, axis=1) / (4 * np.pi)
    _check_labels(panorama)
    for check in (_check_finite, _check_distance, _check_exposure, _check_magenta, _check_content):
        check(panorama, area, settings)


def _check_labels(panorama: RenderedPanorama) -> None:
    bad = int(((panorama.labels == 0) & np.isfinite(panorama.depth_m)).sum())
    if bad:
        raise RejectedScene(
            "unlabelled",
            f"{counted(bad, 'pixel shows', 'pixels show')} a surface (depth is finite) and have"
            " no id: something renders that"
            " is not labelled. Please report it with the scene",
        )


def _check_finite(panorama: RenderedPanorama, area: NDArray, settings: QualitySettings) -> None:
    bad = int((~np.isfinite(panorama.linear)).any(axis=-1).sum())
    if bad:
        raise RejectedScene("nan", f"{counted(bad, 'pixel is', 'pixels are')} not finite")


def _check_distance(panorama: RenderedPanorama, area: NDArray, settings: QualitySettings) -> None:
    near = float(area[panorama.depth_m < settings.near_m].sum())
    if near > settings.max_near:
        raise RejectedScene(
            "too_close", f"{near:.1%} of the sphere is nearer than {settings.near_m} m"
        )


def _check_exposure(panorama: RenderedPanorama, area: NDArray, settings: QualitySettings) -> None:
    mean = float((luminance(panorama.linear) * area).sum())
    if mean < settings.min_mean_luminance:
        raise RejectedScene(
            "black", f"mean luminance {mean:.2g} is below {settings.min_mean_luminance:.2g}"
        )
    clipped = float(area[(panorama.rgb >= 254).all(axis=-1)].sum())
    if clipped > settings.max_clipped:
        raise RejectedScene("blown_out", f"{clipped:.1%} of the sphere is pure white")
    spread = float(luminance(panorama.rgb.astype(np.float32)).std())
    if spread < settings.min_spread:
        raise RejectedScene("flat", f"8-bit luma varies by {spread:.2f} only")


def _check_magenta(panorama: RenderedPanorama, area: NDArray, settings: QualitySettings) -> None:
    red, green, blue = np.moveaxis(panorama.linear, -1, 0)
    share = float(
        area[(green < 0.01 * red) & (np.abs(red - blue) < 0.01 * red) & (red > 0.05)].sum()
    )
    if share > settings.max_magenta:
        raise RejectedScene(
            "magenta", f"{share:.2%} of the sphere has the colour of a missing shader"
        )


def _check_content(panorama: RenderedPanorama, area: NDArray, settings: QualitySettings) -> None:
    share = np.bincount(panorama.labels.ravel(), weights=area.ravel())
    share[0] = 0
    movable = share.copy()
    movable[[i for i in panorama.structure_ids if i < len(movable)]] = 0
    if movable.max(initial=0) > settings.max_single_instance:
        raise RejectedScene(
            "single_instance", f"one object fills {movable.max():.1%} of the sphere"
        )
    visible = int((share * 4 * np.pi >= settings.min_instance_sr).sum())
    least = settings.least_instances(panorama.indoor)
    if visible < least:
        raise RejectedScene(
            "too_few_instances",
            f"{counted(visible, 'instance is', 'instances are')} visible, {least} are asked for",
        )


def luminance(rgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rec. 709 luminance of ...×3 linear colour (or luma of encoded colour)."""
    return rgb @ np.array([0.2126, 0.7152, 0.0722], rgb.dtype)


def auto_exposure_ev(
    linear: NDArray[np.float32], *, key: float = 0.18, limit_ev: float = 8.0
) -> float:
    """Exposure in stops that brings the log-average luminance of the sphere to middle grey.

    After Reinhard et al. 2002, eq. 1, weighted by solid angle. Pixels above the 99th percentile of
    luminance (lamps, the sun) are left out.
    """
    height, width = linear.shape[:2]
    value = luminance(np.nan_to_num(linear, posinf=0, neginf=0)).astype(np.float64)
    weight = np.repeat(row_area_sr(width, height)[:, None], width, axis=1)
    weight = np.where(value <= np.quantile(value, 0.99), weight, 0)
    log_mean = float(np.exp((np.log(value.clip(0) + 1e-5) * weight).sum() / weight.sum()))
    return float(np.clip(np.log2(key / log_mean), -limit_ev, limit_ev))
