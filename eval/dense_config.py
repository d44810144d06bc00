"""The section `dense` of an evaluation's config: what is predicted of every pixel, and by whom.

No torch here, so that `pano config` is quick.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import LocalPath
from panoforge.train.settings.mtpano import ClassSetName, DenseTask

DensePredictorName = Literal["model", "truth", "mean", "folder"]


class DenseConfig(FrozenModel):
    """What `task: dense` scores.

    `truth` is the ceiling: what the resolution of `ceiling_height_px` alone loses. `mean` has a
    best guess for each row, fitted on `fit_split`, and never looks at the picture.
    """

    predictor: Annotated[
        DensePredictorName,
        Field(
            description="What is scored: the model of checkpoint, the truth, the mean of"
            " fit_split, or a folder of predictions."
        ),
    ] = "model"
    checkpoint: Annotated[
        LocalPath | None, Field(description="A model.pt that pano train wrote; for model.")
    ] = None
    predictions: Annotated[
        LocalPath | None,
        Field(description="A folder of semantic/, depth/ and normal/ by key; for folder."),
    ] = None
    tasks: Annotated[
        tuple[DenseTask, ...], Field(min_length=1, description="The tasks that are scored.")
    ] = (
        "semantic",
        "depth",
        "normal",
    )
    classes: Annotated[
        ClassSetName,
        Field(description="The label set of the semantic scores; truth is mapped to it."),
    ] = "nyu40"
    max_depth_m: Annotated[
        float,
        Field(
            gt=0,
            le=65_000,
            description="Farther truths are not scored, and predictions are clamped here.",
        ),
    ] = 10.0
    height_px: Annotated[
        Annotated[int, Field(ge=16, le=8192, multiple_of=2)] | None,
        Field(description="Rows at which everything is scored; null is the data's own size."),
    ] = None
    fit_split: Annotated[
        str | None,
        Field(
            description="The split of the dataset that the mean predictor is fitted on, which then"
            " stands beside the scores; null leaves it out."
        ),
    ] = None
    fit_panoramas: Annotated[
        int, Field(ge=1, description="At most so many panoramas of that split are read.")
    ] = 500
    ceiling_height_px: Annotated[
        Annotated[int, Field(ge=16, le=8192, multiple_of=2)] | None,
        Field(
            description="Rows of the truth that is the ceiling; null is the model's own, or none"
            " lost where there is no model."
        ),
    ] = None

    @model_validator(mode="after")
    def _says_whom(self) -> Self:
        asked = {"folder": "predictions", "model": "checkpoint"}
        for name, key in asked.items():
            if self.predictor != name and getattr(self, key) is not None:
                raise ValueError(
                    f"dense.{key} is {getattr(self, key)}, and predictor: {self.predictor} does not"
                    f" read it: set predictor to {name}, or leave {key} out"
                )
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"dense.tasks must name each task once, got {', '.join(self.tasks)}")
        return self
