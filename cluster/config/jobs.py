"""Configs of the verbs that start work: a stage's own, with the run's place and the way to Ray.

Here and not in the stages, because a stage does not know who runs it. No Ray is imported.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from panoforge.cluster.config.limits import CostConfig, LimitsConfig
from panoforge.cluster.config.packing import PackingConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.core.config.flat import FlatModel
from panoforge.core.run_layout import DATASET, LEDGER
from panoforge.core.storage.location import LocalPath, Location, absolute
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.source_settings import Infinigen1Indoors, Infinigen1Nature
from panoforge.eval.config import EvalConfig
from panoforge.train.config import TrainConfig


def _not_a_url(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        raise PydanticCustomError(
            "folder",
            "expected a folder that every node mounts (NFS, a shared claim, a local disk for one"
            " machine), not a URL: scenes and checkpoints are committed by renaming, which buckets"
            " cannot do. What may be in a bucket: the ledger (ledger=s3://…) and the dataset (pano"
            " pack RUN --to s3://…)",
        )
    return value


RunFolder = Annotated[LocalPath, BeforeValidator(_not_a_url)]


class RenderJobConfig(FlatModel):
    """`pano render`: the render config, the run folder, Ray, limits, packing and prices.

    `ledger` is a folder or a URL (default: a folder of the run). `worker` is the module that makes
    a scene, `python -m WORKER JOB.json` as `panoforge.datagen.worker` defines.
    """

    inner: ClassVar[str] = "render"

    render: Annotated[RenderConfig, Field(description="What is rendered.")] = RenderConfig()
    run: Annotated[RunFolder, Field(description="The run folder, which every node mounts.")]
    ledger: Annotated[
        Location | None,
        Field(
            description="Where attempts are recorded, a folder or a URL; null is in the run folder."
        ),
    ] = None
    worker: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][\w.]*$",
            description="The module that makes a scene, started as python -m WORKER JOB.json.",
        ),
    ] = "panoforge.datagen.worker"
    ray: Annotated[
        RayConfig, Field(description="How Ray is reached, and what a scene asks of it.")
    ] = RayConfig()
    limits: Annotated[LimitsConfig, Field(description="When a scene's process is given up.")] = (
        LimitsConfig()
    )
    packing: Annotated[
        PackingConfig, Field(description="Whether and when shards are packed beside rendering.")
    ] = PackingConfig()
    cost: Annotated[
        CostConfig, Field(description="Prices, and what a panorama is assumed to cost.")
    ] = CostConfig()

    @model_validator(mode="after")
    def _generators_end_first(self) -> "RenderJobConfig":
        limit, tries = (
            min(self.limits.scene_timeout_s, self.render.time_limit_s),
            self.render.scene_tries,
        )
        for source in self.render.sources:
            if isinstance(source, Infinigen1Indoors | Infinigen1Nature) and (
                source.timeout_s * tries > limit
            ):
                need = source.timeout_s * tries
                raise ValueError(
                    f"{source.source}: timeout_s={source.timeout_s:g} for each of"
                    f" scene_tries={tries} seeds is more than a scene has, {limit:g} s: it would be"
                    " given up before its generator is. Set time_limit_s and"
                    f" limits.scene_timeout_s to {need:g} at least, or lower timeout_s"
                )
        return self

    @property
    def ledger_url(self) -> str:
        """Where the ledger is: what `ledger` says, else a folder of the run."""
        return str(absolute(self.ledger or self.run / LEDGER))


class TrainJobConfig(FlatModel):
    """`pano train`: the training config, the run folder, the dataset, and how many ranks train.

    The dataset is a folder or a URL (default: the run's own). More than one rank: Ray Train starts
    them, on the Ray that `ray` says. The weights do not depend on their number, up to the order of
    float additions. Under torchrun these keys say nothing.
    """

    inner: ClassVar[str] = "train"

    train: Annotated[TrainConfig, Field(description="What is trained.")] = TrainConfig()
    run: Annotated[RunFolder, Field(description="The run folder, for checkpoints and metrics.")]
    dataset: Annotated[
        Location | None, Field(description="The dataset, a folder or a URL; null is the run's own.")
    ] = None
    devices: Annotated[
        int, Field(ge=1, description="Ranks on a node: GPUs, or processes on CPUs.")
    ] = 1
    nodes: Annotated[int, Field(ge=1, description="Nodes with so many ranks each.")] = 1
    min_ranks: Annotated[
        int,
        Field(ge=0, description="Ranks with which the run goes on where nodes are lost; 0: all."),
    ] = 0
    resize_every_s: Annotated[
        float, Field(gt=0, description="With min_ranks: seconds between looks for nodes come back.")
    ] = 60.0
    max_restarts: Annotated[
        int,
        Field(ge=0, description="Lost ranks after which the run goes on from its checkpoint."),
    ] = 10
    ray: Annotated[
        RayConfig, Field(description="How Ray is reached, and how many cores a rank asks for.")
    ] = RayConfig()

    @model_validator(mode="after")
    def _ranks_fit(self) -> Self:
        forwards = self.train.clips_per_step // self.train.clips_per_forward
        if not self.min_ranks <= self.ranks <= forwards:
            raise ValueError(
                f"nodes × devices ({self.nodes} × {self.devices}) must be from min_ranks"
                f" ({self.min_ranks}) to the forward passes of a step, clips_per_step /"
                f" clips_per_forward ({forwards}): a rank has at least one"
            )
        return self

    @property
    def ranks(self) -> int:
        """How many there are when none is lost."""
        return self.nodes * self.devices

    @property
    def dataset_location(self) -> Path | str:
        """Where the dataset is."""
        return self.dataset or self.run / DATASET


class EvalJobConfig(FlatModel):
    """`pano eval`: the evaluation config, the run folder, the dataset, and how many Ray tasks.

    The report goes to the run folder. The dataset is a folder or a URL (default: the run's own).
    `workers` tasks evaluate panoramas at once (1: no Ray), and scores do not depend on it; videos
    are evaluated in one process.
    """

    inner: ClassVar[str] = "eval"

    eval: Annotated[EvalConfig, Field(description="What is evaluated.")] = EvalConfig()
    run: Annotated[RunFolder, Field(description="The run folder, for results and the report.")]
    dataset: Annotated[
        Location | None, Field(description="The dataset, a folder or a URL; null is the run's own.")
    ] = None
    workers: Annotated[
        int,
        Field(
            ge=1,
            description="Ray tasks that evaluate at once; 1 needs no Ray. The scores are the same.",
        ),
    ] = 1
    ray: Annotated[
        RayConfig, Field(description="How Ray is reached, and what a task asks of it.")
    ] = RayConfig()

    @property
    def dataset_location(self) -> Path | str:
        """Where the dataset is."""
        return self.dataset or self.run / DATASET
