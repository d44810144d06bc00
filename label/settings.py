"""Settings of agreement: how depth of views is aligned, and what makes segments one thing."""

from pydantic import Field

from panoforge.core.models import FrozenModel, Probability


class AlignSettings(FrozenModel):
    """How depth of overlapping views is made one."""

    samples: int = Field(
        8000,
        ge=500,
        le=200_000,
        description="Directions of the sphere at which views are compared.",
    )
    iterations: int = Field(40, ge=1, le=500, description="Most rounds of robust weighting.")
    shift: bool = Field(
        True, description="Whether views may be shifted too; false solves for scales alone."
    )


class JoinSettings(FrozenModel):
    """When segments of two views are one thing, and what is left out."""

    match_iou: Probability = Field(
        0.5, description="Least IoU, within the overlap of two views, of one thing."
    )
    least_evidence_sr: float = Field(
        5e-5,
        ge=0,
        description="Least area in an overlap, steradians times nearness to the views' middles, to"
        " be compared at all.",
    )
    least_area_sr: float = Field(
        1e-4, ge=0, description="Smaller instances are left out, steradians."
    )
    least_won: Probability = Field(
        0.25, description="Least share of the area that it claims which an instance must win."
    )
    nothing_weight: Probability = Field(
        0.5, description="What a view's silence at a pixel counts, beside a segment's confidence."
    )
    grid_px: int = Field(
        768, ge=64, le=8192, description="Columns of the grid on which views are compared."
    )
