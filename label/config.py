"""What `pano annotate` labels with: teachers, who carries masks along, rules, what is written."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.config.needed import Needed
from panoforge.core.models import Count, FrozenModel, Positive, Probability
from panoforge.core.storage.location import LocalPath
from panoforge.eval.config import ModelConfig
from panoforge.label.checker import CheckerConfig
from panoforge.label.settings import JoinSettings
from panoforge.label.teachers.choice import TeacherChoice
from panoforge.label.video.rules import VideoRules
from panoforge.label.views.sets import ViewSetConfig

Writes = Literal["labelme", "coco"]


class FollowChoice(FrozenModel):
    """Who carries masks through the video, and answers SDR's shifted prompts."""

    kind: Annotated[
        Literal["edges", "sam2", "sam3", "noisy_truth"],
        Field(
            description="edges: optical flow and GrabCut, no weights. sam2: SAM2 in a view that"
            " goes with the object. sam3: SAM3's tracker, likewise. noisy_truth: true ids of a"
            " dataset of ours, with stated faults."
        ),
    ] = "edges"
    model: Annotated[ModelConfig, Field(description="Of sam2: its size and weights.")] = (
        ModelConfig()
    )
    folder: Annotated[
        LocalPath | None,
        Field(description="Of sam3: the folder of its weights, as transformers reads it."),
    ] = None
    edge_px: Annotated[Count, Field(description="Of noisy_truth: outlines are off by so much.")] = 0
    lost: Annotated[
        Probability, Field(description="Of noisy_truth: share of frames without an answer.")
    ] = 0.0
    drift: Annotated[
        Probability, Field(description="Of noisy_truth: share of frames that drift for good.")
    ] = 0.0
    seed: Annotated[Count, Field(description="Of noisy_truth: of its faults.")] = 0

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.kind == "sam2" and self.model.checkpoint is None:
            raise ValueError(
                "follow.kind is sam2 and follow.model.checkpoint is not given: name an official"
                " SAM2.1 file or one that pano train exported; random shows that the path runs"
            )
        if (self.kind == "sam3") != (self.folder is not None):
            raise ValueError(
                "follow.folder is of follow.kind sam3, and needed there: the folder of its weights"
            )
        return self


class HideChoice(FrozenModel):
    """Faces and number plates made unreadable in the pictures that are written."""

    classes: Annotated[
        tuple[str, ...],
        Field(description="What is hidden, by the words of `teachers` below; empty: nothing."),
    ] = ()
    teachers: Annotated[
        tuple[TeacherChoice, ...],
        Field(description="Who finds it, on every frame; panoptic teachers only."),
    ] = ()

    @model_validator(mode="after")
    def _somebody_looks(self) -> Self:
        if bool(self.classes) != bool(self.teachers):
            raise ValueError("hide needs both: classes to hide, and teachers that find them")
        return self


class AnnotateConfig(FrozenModel):
    """`pano annotate`: everything that decides what is written."""

    entities: Annotated[
        tuple[TeacherChoice, ...], Field(description="Teachers that propose masks without names.")
    ] = ()
    panoptic: Annotated[
        tuple[TeacherChoice, ...],
        Field(description="Teachers that name segments; what they propose counts as masks, too."),
    ] = ()
    views: Annotated[ViewSetConfig, Field(description="The views that teachers are shown.")] = (
        ViewSetConfig(kind="slices")
    )
    join: Annotated[JoinSettings, Field(description="When segments of two views are one.")] = (
        JoinSettings()
    )
    follow: Annotated[FollowChoice, Field(description="Who carries masks along.")] = FollowChoice()
    rules: Annotated[VideoRules, Field(description="The three phases and their values.")] = (
        VideoRules()
    )
    checker: Annotated[
        CheckerConfig, Field(description="Who is asked for labels that teachers do not agree on.")
    ] = CheckerConfig()
    vocabulary: Annotated[
        LocalPath | None, Field(description="Your own classes and words; null is our table.")
    ] = None
    hide: Annotated[HideChoice, Field(description="What is made unreadable.")] = HideChoice()
    video: Annotated[
        bool, Field(description="The pictures of the folder are the frames of one video.")
    ] = False
    fps: Annotated[
        float, Field(gt=0, le=1000, description="Frames a second where no file says so.")
    ] = 8.0
    write: Annotated[
        tuple[Writes, ...], Field(description="Formats beside the dataset: labelme, coco.")
    ] = ("labelme", "coco")
    splits: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1)]],
        Field(description="Shares of the dataset's splits."),
    ] = {"train": 1.0}
    least_free_mb: Annotated[
        Positive, Field(description="Free space on the disk without which no file is begun.")
    ] = 200

    def needed(self) -> Iterator[Needed]:
        """What must be there before anything is loaded."""
        for key, choices in (
            ("entities", self.entities),
            ("panoptic", self.panoptic),
            ("hide.teachers", self.hide.teachers),
        ):
            for number, choice in enumerate(choices):
                yield from choice.needed(f"{key}.{number}")
        if self.follow.kind == "sam2":
            yield Needed("follow.model.checkpoint", self.follow.model.checkpoint_file)
        yield Needed("follow.folder", self.follow.folder, "the folder of SAM3's weights")
        yield Needed("vocabulary", self.vocabulary, "a file of classes (YAML)")

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        if not self.entities and not self.panoptic:
            raise ValueError(
                "no teacher is named: give entities=[{kind: sam2, model: {checkpoint: FILE, size:"
                " large}}], or panoptic teachers, or both; without weights `pano serve` labels by"
                " hand"
            )
        for choice in (*self.panoptic, *self.hide.teachers):
            if not choice.can("panoptic"):
                raise ValueError(
                    f"{choice.kind} has no words for what it finds: it is no panoptic teacher"
                )
        for choice in self.entities:
            if not choice.can("entities"):
                raise ValueError(f"{choice.kind} proposes no masks: it is no teacher of entities")
        names = [choice.called for choice in (*self.entities, *self.panoptic)]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two teachers are called {max(names, key=names.count)!r}: give each a name"
            )
        return self
