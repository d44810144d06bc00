"""Sets of views: which frames of a panorama teachers are shown.

- `scan`: ours and SAP's, 24 views of 90° that overlap by half (`panoforge.core.geometry.scan`).
- `cube`: the six faces of a cube, wider than 90° so that they overlap: without an overlap nothing
  can be made to agree.
- `slices`: A3360V's (Leader360V, arXiv 2506.14271). The panorama is padded by 1/8 of its width on
  either side, wrapped, and cut into three squares of half its width, which overlap by 1/8. That
  padding is on both sides is our reading: only then do all three fit.
- `dense32`: 32 views, as many as MTPano (arXiv 2602.05330) takes. Its text does not say which:
  here eight around in four rows, of 90°.

All cover the whole sphere (tested), and each view overlaps its neighbours, over the seam too.
"""

from typing import Literal

from pydantic import Field

from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.sphere import View
from panoforge.core.models import FrozenModel
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame, Projection

ViewSetName = Literal["scan", "cube", "slices", "dense32"]
CUBE = ((0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (-90.0, 0.0), (0.0, 90.0), (0.0, -90.0))
DENSE_PITCHES_DEG = (-67.5, -22.5, 22.5, 67.5)


class ViewSetConfig(FrozenModel):
    """Which views of a panorama teachers are shown."""

    kind: ViewSetName = Field(
        "scan",
        description="scan (24 views of 90°), cube (6 that overlap), slices (A3360V's three of the"
        " wrapped panorama) or dense32 (32 views, as many as MTPano).",
    )
    size_px: int = Field(
        1024, ge=16, le=4096, description="Pixels on each side of a perspective view."
    )
    fov_deg: float = Field(
        90.0, ge=45, le=120, description="Field of view of scan and dense32, degrees."
    )
    cube_fov_deg: float = Field(
        110.0,
        gt=90,
        le=120,
        description="Field of view of a face of cube; over 90, so that they overlap.",
    )
    overlap: float = Field(
        0.5, ge=0.1, le=0.9, description="Share of a view of scan that its neighbour shows too."
    )


def view_frames(config: ViewSetConfig, width: int, height: int) -> tuple[Projection, ...]:
    """The frames of a set over a panorama of that size, in a fixed order.

    Args:
        config: Which set, and how large its views are.
        width: Columns of the panorama.
        height: Its rows, half as many.
    """
    size, fov = config.size_px, config.fov_deg
    if config.kind == "slices":
        return a3360v_slices(width, height)
    if config.kind == "scan":
        views = scan_views(ScanSpec(fov, config.overlap, size))
    elif config.kind == "cube":
        views = tuple(View(yaw, pitch, config.cube_fov_deg, size) for yaw, pitch in CUBE)
    else:
        views = tuple(
            View(45.0 * column - 180.0, pitch, fov, size)
            for column in range(8)
            for pitch in DENSE_PITCHES_DEG
        )
    return tuple(map(PerspectiveFrame, views))


def a3360v_slices(width: int, height: int) -> tuple[ErpFrame, ...]:
    """Three squares of the wrapped panorama, half its width each, 3/8 of it apart."""
    return tuple(
        ErpFrame((start * width // 8) % width, 0, width // 2, height, width, height)
        for start in (-1, 2, 5)
    )
