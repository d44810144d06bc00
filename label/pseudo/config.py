"""What `pano pseudolabel` labels with: a teacher for each product, views, and how they agree."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from panoforge.core.config.needed import Needed
from panoforge.core.models import FrozenModel, Positive
from panoforge.core.storage.location import LocalPath
from panoforge.label.settings import AlignSettings, JoinSettings
from panoforge.label.teachers.choice import TeacherChoice, TeacherRole
from panoforge.label.views.sets import ViewSetConfig

ROLES: tuple[TeacherRole, ...] = ("depth", "normals", "classes", "panoptic")


class PseudolabelConfig(FrozenModel):
    """`pano pseudolabel`: everything that decides what is written."""

    depth: Annotated[
        TeacherChoice | None, Field(description="Whose depth is written; null writes none.")
    ] = None
    normals: Annotated[
        TeacherChoice | None, Field(description="Whose normals are written; null writes none.")
    ] = None
    classes: Annotated[
        TeacherChoice | None, Field(description="Whose classes are written; null writes none.")
    ] = None
    panoptic: Annotated[
        TeacherChoice | None,
        Field(description="Whose instances are written; null writes a map without any."),
    ] = None
    views: Annotated[ViewSetConfig, Field(description="The views that teachers are shown.")] = (
        ViewSetConfig()
    )
    align: Annotated[AlignSettings, Field(description="How depth of views is made one.")] = (
        AlignSettings()
    )
    join: Annotated[JoinSettings, Field(description="When segments of two views are one.")] = (
        JoinSettings()
    )
    vocabulary: Annotated[
        LocalPath | None,
        Field(description="Your own classes (YAML) in the place of configs/vocabulary.yaml."),
    ] = None
    relative_median_m: Annotated[
        float,
        Field(gt=0, le=1000, description="The median that depth without a unit is scaled to, m."),
    ] = 2.0
    splits: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1)]],
        Field(description="Shares of the dataset's splits."),
    ] = {"train": 1.0}
    least_free_mb: Annotated[
        Positive, Field(description="Free space on the disk without which no file is begun.")
    ] = 200

    @property
    def chosen(self) -> dict[TeacherRole, TeacherChoice]:
        """The teachers that are named, by what they are asked for."""
        named = {role: getattr(self, role) for role in ROLES}
        return {role: choice for role, choice in named.items() if choice is not None}

    def needed(self) -> Iterator[Needed]:
        """What must be there before anything is loaded."""
        for role, choice in self.chosen.items():
            yield from choice.needed(role)
        yield Needed("vocabulary", self.vocabulary, "a file of classes (YAML)")

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        if not self.chosen:
            raise ValueError(
                "no teacher is named: give depth={kind: depth, folder: DIR}, or normals, classes or"
                " panoptic"
            )
        for role, choice in self.chosen.items():
            if not choice.can(role):
                raise ValueError(f"{role}: a teacher of kind {choice.kind} says nothing of it")
        if self.views.kind == "slices" and (self.depth or self.normals):
            raise ValueError(
                "views.kind is slices, and depth and normals need views with a camera: take scan,"
                " cube or dense32"
            )
        return self
