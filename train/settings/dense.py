"""What a run of dense tasks is: the model, its data, its losses. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import Count, FrozenModel, Probability, Rate
from panoforge.core.storage.location import LocalPath, Location
from panoforge.train.settings.mtpano import MtpanoSettings

DepthSupervision = Literal["merged", "random_view", "solved"]


class AugmentSettings(FrozenModel):
    """How a panorama is changed before it is shown; what it is, changes with it."""

    turn: Annotated[bool, Field(description="Turn the camera by whole columns, all alike.")] = True
    tilt_deg: Annotated[
        float, Field(ge=0, le=90, description="Lean it by up to this, to any side, uniform.")
    ] = 0.0
    mirror: Annotated[Probability, Field(description="Chance of a mirrored panorama.")] = 0.5
    colour_jitter: Annotated[
        Probability,
        Field(description="Strength; 1 is SAM2's brightness 0.1, contrast 0.03, saturation 0.03."),
    ] = 1.0
    grayscale: Annotated[Probability, Field(description="Chance of a grey panorama.")] = 0.05


class DenseLossSettings(FrozenModel):
    """The losses' weights; their defaults are MTPano's."""

    semantic: Annotated[Rate, Field(description="Weight of cross-entropy plus Dice.")] = 1.0
    depth: Annotated[Rate, Field(description="Weight of the depth's terms.")] = 1.0
    normal: Annotated[Rate, Field(description="Weight of the normals' terms.")] = 1.0
    depth_edges: Annotated[
        Rate, Field(description="Weight of the differences of the depth's Sobel edges.")
    ] = 0.5
    depth_detail: Annotated[
        Rate, Field(description="Weight of the differences of the depth's high frequencies (FFT).")
    ] = 5e-3
    normal_edges: Annotated[
        Rate, Field(description="Weight of the differences of the normals' Sobel edges.")
    ] = 0.1
    normal_detail: Annotated[
        Rate, Field(description="Weight of the differences of the normals' high frequencies (FFT).")
    ] = 1e-4
    intermediate: Annotated[
        Rate, Field(description="Weight of the small heads' predictions of the three tasks.")
    ] = 0.3
    auxiliary: Annotated[Rate, Field(description="Weight of each auxiliary task.")] = 3e-3
    depth_limit_m: Annotated[
        float,
        Field(gt=0, description="Beyond it a depth is only asked to be beyond it, metres."),
    ] = 10.0
    pixels: Annotated[
        Literal["alike", "solid_angle"],
        Field(description="What a pixel weighs: as any other (MTPano), or its part of the sphere."),
    ] = "alike"
    scale_shift: Annotated[
        bool,
        Field(description="Fit scale and shift of depth before it is compared: for teachers."),
    ] = False


# Keys of `dense.loss`, by the task or part of the model without which nothing reads them.
READ_BY_TASKS = {
    "semantic": "semantic",
    **dict.fromkeys(
        ("depth", "depth_edges", "depth_detail", "depth_limit_m", "scale_shift"), "depth"
    ),
    **dict.fromkeys(("normal", "normal_edges", "normal_detail"), "normal"),
    "intermediate": "streams",
    "auxiliary": "auxiliary",
}


class HeadsFirst(FrozenModel):
    """Steps in which aggregators and small heads are trained alone (MTPano: 1,000 at 1e-3)."""

    steps: Annotated[Count, Field(description="So many steps; 0 is none.")] = 0
    lr: Annotated[float, Field(gt=0, description="Their learning rate meanwhile.")] = 1e-3


class DenseSourceSettings(FrozenModel):
    """One dataset of the mixture: panoramas in our shards, rendered or pseudo-labelled."""

    weight: Annotated[
        float, Field(gt=0, description="Share of panoramas, relative to the other entries.")
    ]
    dataset: Annotated[
        Location | None,
        Field(description="A dataset of panoforge, a folder or a URL; null is the run's own."),
    ] = None
    split: Annotated[
        str | None, Field(description="Its split; null is the run's split for its own, all else.")
    ] = None
    depth_supervision: Annotated[
        DepthSupervision | None, Field(description="For it alone; null is the run's.")
    ] = None


class DenseSettings(FrozenModel):
    """A run of dense tasks: MTPano on whole panoramas."""

    model: Annotated[
        MtpanoSettings, Field(description="Which MTPano: its backbone, parts, tasks and classes.")
    ] = MtpanoSettings()
    checkpoint: Annotated[
        LocalPath | None,
        Field(description="An MTPano of pano train to start from; its classes may be others."),
    ] = None
    augment: Annotated[AugmentSettings, Field(description="Augmentation on the sphere.")] = (
        AugmentSettings()
    )
    loss: Annotated[DenseLossSettings, Field(description="Weights of the losses.")] = (
        DenseLossSettings()
    )
    depth_supervision: Annotated[
        DepthSupervision,
        Field(
            description="Depth as teachers' views were merged; one random view of each panorama,"
            " cut out, in its own scale; or solved for over all views. Truth is as good as solved."
        ),
    ] = "solved"
    merged_steps: Annotated[
        Count,
        Field(description="random_view: so many first steps learn from the merged map (1,000)."),
    ] = 1000
    view_fov_deg: Annotated[
        float, Field(ge=30, le=120, description="random_view: the view's field of view.")
    ] = 90.0
    heads_first: Annotated[HeadsFirst, Field(description="Small heads before the rest.")] = (
        HeadsFirst()
    )
    mixture: Annotated[
        dict[str, DenseSourceSettings],
        Field(description="Datasets to draw from, by names of your own; empty: the run's own."),
    ] = {}

    @model_validator(mode="after")
    def _random_views_are_asked_for(self) -> Self:
        asked = {self.depth_supervision, *(e.depth_supervision for e in self.mixture.values())}
        fresh = type(self).model_fields
        unread = [
            key
            for key in ("merged_steps", "view_fov_deg")
            if getattr(self, key) != fresh[key].default
        ]
        if unread and "random_view" not in asked:
            raise ValueError(
                f"{unread[0]} is {getattr(self, unread[0])}, and depth_supervision"
                f" {self.depth_supervision} does not read it: leave it out, or set"
                " depth_supervision to random_view"
            )
        return self

    @model_validator(mode="after")
    def _weights_weigh_something(self) -> Self:
        """ValueError for what no task, part or step of this run reads."""
        fresh = type(self.loss).model_fields
        for key, readers in READ_BY_TASKS.items():
            there = {*self.model.tasks, *(("streams",) if self.model.streams else ())}
            there |= {"auxiliary"} if self.model.streams and self.model.auxiliary else set()
            value = getattr(self.loss, key)
            if value != fresh[key].default and readers not in there:
                raise ValueError(
                    f"dense.loss.{key} is {value}, and without {readers} nothing reads it: leave it"
                    f" out, or train {readers}"
                )
        first = self.heads_first
        if first.lr != type(first).model_fields["lr"].default and not first.steps:
            raise ValueError(
                f"dense.heads_first.lr is {first.lr}, and its steps are 0: set them, or leave lr"
                " out"
            )
        if first.steps and not self.model.streams:
            raise ValueError(
                f"dense.heads_first.steps is {first.steps}, and without streams there are no small"
                " heads: those steps would train nothing. Leave it out, or set streams to true"
            )
        return self

    @model_validator(mode="after")
    def _one_line_of_its_own(self) -> Self:
        own = [name for name, entry in self.mixture.items() if entry.dataset is None]
        if len(own) > 1:
            raise ValueError(
                f"dense.mixture entries {own} are all the run's dataset and would show every"
                f" panorama {len(own)} times: keep one, and add up their weights"
            )
        return self
