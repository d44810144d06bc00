"""Which teacher a config names, what it needs, and what it can be asked for."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.config.needed import Needed
from panoforge.core.models import FrozenModel, Probability
from panoforge.core.storage.location import LocalPath
from panoforge.eval.config import ModelConfig
from panoforge.label.teachers.base import DepthUnit
from panoforge.label.teachers.noisy import NoiseRates

TeacherKind = Literal[
    "truth", "noisy_truth", "sam2", "panoptic", "depth", "classes", "sam3", "moge", "http"
]
TeacherRole = Literal["entities", "panoptic", "depth", "normals", "classes"]
CAN: dict[TeacherRole, frozenset[TeacherKind]] = {
    "entities": frozenset({"truth", "noisy_truth", "sam2", "http"}),
    "panoptic": frozenset({"truth", "noisy_truth", "panoptic", "sam3", "http"}),
    "depth": frozenset({"truth", "noisy_truth", "depth", "moge", "http"}),
    "normals": frozenset({"truth", "noisy_truth", "moge", "http"}),
    "classes": frozenset({"truth", "noisy_truth", "classes", "panoptic", "http"}),
}
_IN_FOLDERS = ("panoptic", "depth", "classes", "sam3")


class TeacherChoice(FrozenModel):
    """One teacher.

    `truth` and `noisy_truth` read the labels of a dataset of ours. `sam2` is SAM2's automatic mask
    generator. `panoptic` (Mask2Former, OneFormer, …), `depth` (Depth Anything, DPT, …), `classes`
    (SegFormer, …) and `sam3` are models of transformers in a folder of yours. `moge` is MoGe, if it
    is installed, and `http` your own model behind an address (`panoforge.label.teachers.http`).
    """

    kind: Annotated[TeacherKind, Field(description="Which teacher it is.")]
    name: Annotated[
        str, Field(max_length=60, description="What reports call it; empty: its kind.")
    ] = ""
    noise: Annotated[NoiseRates, Field(description="Of noisy_truth: its faults.")] = NoiseRates()
    model: Annotated[ModelConfig, Field(description="Of sam2: its size and weights.")] = (
        ModelConfig()
    )
    points_per_side: Annotated[
        int, Field(ge=1, le=64, description="Of sam2: clicks along each side of a view.")
    ] = 32
    folder: Annotated[
        LocalPath | None,
        Field(
            description="Of panoptic, depth, classes, sam3: the model's folder; of moge: its file."
        ),
    ] = None
    threshold: Annotated[
        Probability, Field(description="Of panoptic and sam3: least score of a segment.")
    ] = 0.5
    words: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
        Field(description="Of sam3: what is looked for, each a class."),
    ] = ()
    unit: Annotated[
        DepthUnit | None,
        Field(description="Of depth: what its numbers mean; null asks the model's configuration."),
    ] = None
    address: Annotated[str, Field(description="Of http: where views are sent to.")] = ""
    timeout_s: Annotated[
        float, Field(gt=0, le=3600, description="Of http: seconds for one answer.")
    ] = 60.0
    weights: Annotated[
        str,
        Field(max_length=200, description="Of http: what to record as its weights."),
    ] = ""

    @property
    def called(self) -> str:
        """Its name in reports."""
        return self.name or self.kind.replace("_", " ")

    def needed(self, key: str) -> Iterator[Needed]:
        """What must be there before it is loaded; `key` is where it stands in the config."""
        if self.kind == "sam2":
            yield Needed(f"{key}.model.checkpoint", self.model.checkpoint_file)
        what = "a file of weights" if self.kind == "moge" else "a model's folder (config.json)"
        yield Needed(f"{key}.folder", self.folder, what)

    def can(self, role: TeacherRole) -> bool:
        """Whether it can be asked for that."""
        return self.kind in CAN[role]

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needs = {"folder": (*_IN_FOLDERS, "moge"), "words": ("sam3",), "address": ("http",)}
        for key, kinds in needs.items():
            if self.kind in kinds and not getattr(self, key):
                raise ValueError(f"a teacher of kind {self.kind} needs {key}")
            if self.kind not in kinds and getattr(self, key):
                raise ValueError(f"{key} is of teachers of kind {', '.join(kinds)} alone")
        return self
