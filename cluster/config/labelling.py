"""The configs of `pano annotate` and `pano pseudolabel`."""

from typing import Annotated, ClassVar

from pydantic import Field

from panoforge.cluster.config.jobs import RunFolder
from panoforge.cluster.config.ray import RayConfig
from panoforge.core.config.flat import FlatModel
from panoforge.label.config import AnnotateConfig
from panoforge.label.pseudo.config import PseudolabelConfig

LabelFolder = Annotated[RunFolder, Field(description="The folder that labels are written to.")]
Workers = Annotated[
    int,
    Field(ge=1, description="Ray tasks that label at once; 1 needs no Ray. The same labels."),
]
LabelRay = Annotated[
    RayConfig, Field(description="How Ray is reached, and what a file asks of it.")
]


class AnnotateJobConfig(FlatModel):
    """`pano annotate`: what labels, the folder that is written, and how many Ray tasks.

    `workers` files are labelled at once (1: no Ray), and labels do not depend on it.
    """

    inner: ClassVar[str] = "annotate"

    annotate: Annotated[AnnotateConfig, Field(description="With what is labelled.")]
    run: LabelFolder
    workers: Workers = 1
    ray: LabelRay = RayConfig()


class PseudolabelJobConfig(FlatModel):
    """`pano pseudolabel`: what labels, the folder that is written, and how many Ray tasks."""

    inner: ClassVar[str] = "pseudolabel"

    pseudolabel: Annotated[PseudolabelConfig, Field(description="With what is labelled.")]
    run: LabelFolder
    workers: Workers = 1
    ray: LabelRay = RayConfig()
