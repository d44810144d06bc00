"""Configs of the verbs that start work: a stage's own config with where the run lives and how Ray is reached.

Here and not in the stages, because a stage does not know who runs it. No Ray is imported.
"""

from pathlib import Path
from typing import Annotated

from eval.config import EvalConfig
from pydantic import Field
from train.config import TrainConfig

from datagen.config import RenderConfig
from pano.config import Config
from pano.shards.layout import DEFAULT_SPLITS
from pano.shards.write import DEFAULT_SHARD_BYTES, PackOptions


class RayConfig(Config):
    """How `pano` reaches Ray. `address` null starts a private Ray on this machine; `auto` or `HOST:PORT` joins a cluster."""

    address: str | None = None
    cpus_per_scene: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_scene: Annotated[float, Field(ge=0)] = 0.0
    memory_per_scene_gb: Annotated[float, Field(ge=0)] = 0.0  # 0 leaves memory out of scheduling
    in_flight_per_slot: Annotated[int, Field(ge=1)] = 2  # tasks handed to Ray beyond what runs: it never waits, never drowns


class LimitsConfig(Config):
    """When a scene's worker process is given up: wall clock, and seconds without a line of output."""

    scene_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    no_progress_s: Annotated[float, Field(gt=0)] = 1800.0


class RenderJobConfig(RenderConfig):
    """`pano render`: the render config, the run folder, Ray and limits."""

    run: Path
    ray: RayConfig = RayConfig()
    limits: LimitsConfig = LimitsConfig()


class PackConfig(Config):
    """`pano pack`: shard size, and the shares of the splits (by scene, by a stable hash of `salt` and its name)."""

    shard_bytes: Annotated[int, Field(ge=1024)] = DEFAULT_SHARD_BYTES
    splits: dict[str, Annotated[float, Field(ge=0, le=1)]] = DEFAULT_SPLITS
    salt: str = ""

    def options(self) -> PackOptions:
        return PackOptions(self.shard_bytes, tuple(self.splits.items()), self.salt)


class TrainJobConfig(TrainConfig):
    """`pano train`: the training config, the run folder and the dataset (default: the run's own)."""

    run: Path
    dataset: Path | None = None

    @property
    def dataset_folder(self) -> Path:
        return self.dataset or self.run / "dataset"


class EvalJobConfig(EvalConfig):
    """`pano eval`: the evaluation config, the run folder and the dataset (default: the run's own)."""

    run: Path
    dataset: Path | None = None

    @property
    def dataset_folder(self) -> Path:
        return self.dataset or self.run / "dataset"
