"""What a model is shown: clips, prompts, and the datasets that they are drawn from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.geometry.scan import Trajectory
from panoforge.core.models import Count, FrozenModel, Positive, Probability
from panoforge.core.storage.location import LocalPath
from panoforge.train.settings.reads import READ_BY_KINDS

SourceKind = Literal["shards", "looks", "video", "scan_of_video", "sa1b", "sav", "vos", "coco"]
# Kinds that are cut from the run's own dataset.
OWN_PANORAMAS = ("shards", "looks", "video", "scan_of_video")
PANORAMAS_ONLY = "panoramas-only"


class ClipSettings(FrozenModel):
    """What one training video is: consecutive frames of a scan at random yaw."""

    frames: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Frames of a clip: of a scan at most its trajectory twice over.",
        ),
    ] = 8
    frames_are: Annotated[
        Literal["views", "panorama", "patches"],
        Field(
            description="What a frame is: a view of a scan (SAP), the whole panorama, turning, or a"
            " window of it."
        ),
    ] = "views"
    turn_deg: Annotated[
        float, Field(ge=0, le=90, description="Turn of a whole panorama from frame to frame.")
    ] = 15.0
    fov_deg: Annotated[
        float, Field(ge=20, le=120, description="Field of view of a scan's views.")
    ] = 90.0
    overlap: Annotated[
        float, Field(ge=0, le=0.9, description="Least share of a view that the next one shows too.")
    ] = 0.5
    trajectory: Annotated[
        Trajectory, Field(description="The order of a scan's views; another is SAP's ablation.")
    ] = "column_first"
    fov_jitter_deg: Annotated[
        float, Field(ge=0, le=30, description="Uniform ± on the field of view, one draw a clip.")
    ] = 0.0
    tilt_jitter_deg: Annotated[
        float,
        Field(
            ge=0,
            le=45,
            description="The scan's axis or a whole panorama's camera leans: uniform up to this, to"
            " any side.",
        ),
    ] = 0.0
    affine_deg: Annotated[
        float,
        Field(
            ge=0, le=45, description="Rotation of all frames in their plane, uniform ± (SAM2: 25)."
        ),
    ] = 0.0
    shear_deg: Annotated[
        float, Field(ge=0, le=45, description="Shear after the rotation, uniform ± (SAM2: 20).")
    ] = 0.0
    reverse: Annotated[Probability, Field(description="Chance that the scan runs backwards.")] = 0.0
    flip: Annotated[Probability, Field(description="Chance that the whole clip is mirrored.")] = 0.5
    colour_jitter: Annotated[
        Probability,
        Field(description="Strength; 1 is SAM2's brightness 0.1, contrast 0.03, saturation 0.03."),
    ] = 1.0
    grayscale: Annotated[Probability, Field(description="Chance of a grey clip.")] = 0.05
    max_objects: Annotated[Positive, Field(description="Objects of a clip.")] = 3
    min_area_sr: Annotated[
        float,
        Field(
            gt=0,
            description="Least solid angle in the first frame; about 22×22 px of a 1024² 90° view.",
        ),
    ] = 0.002
    area_power: Annotated[
        float,
        Field(
            ge=0,
            le=4,
            description="Objects are drawn with chance ∝ area^power; 0 is SAM2's uniform draw.",
        ),
    ] = 0.0
    clips_per_panorama: Annotated[
        Positive, Field(description="Clips of each panorama in one epoch.")
    ] = 1


class PromptSettings(FrozenModel):
    """How prompts are drawn (training/model/sam2.py).

    Mask 50 %, box 25 %, click 25 %, with correction clicks.
    """

    points: Annotated[
        Probability, Field(description="Chance of points or boxes rather than the mask.")
    ] = 0.5
    box: Annotated[
        Probability, Field(description="Chance of a box rather than a click, given points.")
    ] = 0.5
    max_prompted_frames: Annotated[
        Positive, Field(description="Prompted frames are 1 to this many, the first always.")
    ] = 2
    max_corrected_frames: Annotated[
        Positive, Field(description="Frames with correction clicks are 1 to this many.")
    ] = 2
    corrections: Annotated[Count, Field(description="Clicks per corrected frame.")] = 7
    from_truth: Annotated[
        Probability,
        Field(
            description="Chance that a correction is drawn from the true mask, not from the error."
        ),
    ] = 0.1
    sphere_click: Annotated[
        Probability,
        Field(
            description="Chance of SAP's click in every frame that sees it, instead of the above."
        ),
    ] = 0.0

    @model_validator(mode="after")
    def _corrected(self) -> Self:
        if self.max_corrected_frames < self.max_prompted_frames:
            raise ValueError(
                f"max_corrected_frames ({self.max_corrected_frames}) must be at least"
                f" max_prompted_frames ({self.max_prompted_frames}): SAM2 corrects every frame that"
                " it prompts with points"
            )
        if (
            not self.corrections
            and self.from_truth != type(self).model_fields["from_truth"].default
        ):
            raise ValueError(
                f"from_truth is {self.from_truth}, and corrections is 0, so nothing reads it: set"
                " corrections, or leave from_truth out"
            )
        return self


class SourceSettings(FrozenModel):
    """One entry of `mixture`.

    Scans of the panorama shards, closer looks at their objects, or another dataset
    (panoforge.train.data.sources).
    """

    kind: Annotated[SourceKind, Field(description="What kind of dataset.")]
    weight: Annotated[
        float, Field(gt=0, description="Share of clips, relative to the other entries.")
    ]
    folder: Annotated[
        LocalPath | None, Field(description="Where the dataset lies; none for the run's shards.")
    ] = None
    split: Annotated[
        str | None,
        Field(
            description="vos: its folder (train, val); coco: what follows instances_ (train2017)."
        ),
    ] = None
    annotations: Annotated[
        Literal["manual", "auto"],
        Field(description="sav: masks drawn by people, or found by SAM2."),
    ] = "manual"
    frame_step: Annotated[
        Positive, Field(description="Videos: every so many (annotated) frames.")
    ] = 1
    min_area_share: Annotated[
        float,
        Field(gt=0, lt=1, description="Least share of the first frame; about 23×23 px of 1024²."),
    ] = 0.0005
    panoramas: Annotated[
        bool | None,
        Field(
            description="vos: whether frames are whole panoramas (PanoVOS, 360VOS), to be turned"
            " and leant on the sphere; null shows them as they are."
        ),
    ] = None

    @model_validator(mode="after")
    def _read_by_its_kind(self) -> Self:
        fresh = type(self).model_fields
        for key, kinds in READ_BY_KINDS.items():
            if self.kind not in kinds and getattr(self, key) != fresh[key].default:
                raise ValueError(
                    f"{key} is {getattr(self, key)}, and a mixture entry of kind {self.kind} does"
                    f" not read it ({', '.join(kinds)} do): leave it out"
                )
        return self

    @model_validator(mode="after")
    def _has_its_folder(self) -> Self:
        if (self.folder is None) != (self.kind in OWN_PANORAMAS):
            raise ValueError(
                f"a mixture entry of kind {self.kind} takes no folder (it is the run's dataset)"
                if self.folder
                else f"a mixture entry of kind {self.kind} needs folder: where that dataset lies"
            )
        return self


def panoramas_only(value: object) -> object:
    """The word for a mixture of the run's shards alone, as such a mixture; all else as it is."""
    return panoramas_only_mixture() if value == PANORAMAS_ONLY else value


def panoramas_only_mixture() -> dict[str, SourceSettings]:
    """The mixture that the word stands for."""
    return {PANORAMAS_ONLY: SourceSettings(kind="shards", weight=1)}
