"""Configs of the verbs that start work: a stage's own config with where the run lives and how Ray
is reached.

Here and not in the stages, because a stage does not know who runs it. No Ray is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from panoforge.core.config import load_config, top_level
from panoforge.core.config.flat import FlatModel, flat_fields
from panoforge.core.config.load import SHARED_KEYS
from panoforge.core.config.messages import shown
from panoforge.core.config.overrides import split
from panoforge.core.errors import ConfigError, nearest
from panoforge.core.models import FrozenModel
from panoforge.core.run_layout import DATASET, LEDGER
from panoforge.core.shards.layout import DEFAULT_SPLITS
from panoforge.core.shards.write import DEFAULT_SHARD_BYTES, PackOptions
from panoforge.core.storage.location import LocalPath, Location, absolute
from panoforge.datagen.config import RenderConfig
from panoforge.eval.config import EvalConfig
from panoforge.train.config import TrainConfig

Model = TypeVar("Model", bound=FrozenModel)


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


class RayConfig(FrozenModel):
    """How `pano` reaches Ray. `address` null starts a private Ray on this machine; `auto` or
    `HOST:PORT` joins a cluster.
    """

    address: str | None = None
    auth: Literal["token", "off"] = (
        "token"  # of a private Ray: off lets whoever reaches its ports run code here
    )
    listen: Literal["loopback", "all"] = "loopback"  # addresses of a private Ray's ports
    cpus_per_scene: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_scene: Annotated[float, Field(ge=0)] = 0.0
    memory_per_scene_gb: Annotated[float, Field(ge=0)] = 0.0  # 0 leaves memory out of scheduling
    in_flight_per_slot: Annotated[int, Field(ge=1)] = (
        2  # tasks handed to Ray beyond what runs: it never waits, never drowns
    )


class LimitsConfig(FrozenModel):
    """When a scene's worker process is given up (wall clock, seconds without a line of output,
    memory of it and its children, size of its log), and how much disk must stay free for another
    scene to start.
    """

    scene_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    no_progress_s: Annotated[float, Field(gt=0)] = 1800.0
    memory_gb: Annotated[float, Field(gt=0)] | None = (
        None  # None: ray.memory_per_scene_gb where that is set
    )
    log_mb: Annotated[float, Field(gt=0)] = 64.0
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0
    disk_wait_s: Annotated[float, Field(ge=0)] = (
        3600.0  # for how long a full disk is waited for before the run stops
    )


class CostConfig(FrozenModel):
    """Prices, for `pano status` and `pano plan`. Money is left out of them while both are 0."""

    usd_per_cpu_hour: Annotated[float, Field(ge=0)] = 0.0
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] = 0.0


class ShardConfig(FrozenModel):
    """What shapes a dataset's bytes: shard size, and the shares of the splits (by scene, by a
    stable hash of `salt` and its name).
    """

    shard_bytes: Annotated[int, Field(ge=1024)] = DEFAULT_SHARD_BYTES
    splits: dict[str, Annotated[float, Field(ge=0, le=1)]] = DEFAULT_SPLITS
    salt: str = ""

    def options(self) -> PackOptions:
        return PackOptions(self.shard_bytes, tuple(self.splits.items()), self.salt)


class PackConfig(ShardConfig):
    """`pano pack`: the shards, and how many Ray tasks build them at once (1: no Ray). The bytes do
    not depend on `workers`.
    """

    workers: Annotated[int, Field(ge=1)] = 1
    ray: RayConfig = RayConfig()


class PackingConfig(ShardConfig):
    """Packing beside rendering (`pano render`): whether, after how many more settled scenes in a
    row (a hundredth of those before at least) the packer looks again, and by how many it may fall
    behind before no new scene is started. Shards as of `pano pack`.
    """

    while_rendering: bool = False
    every_scenes: Annotated[int, Field(ge=1)] = 100
    max_behind_scenes: Annotated[int, Field(ge=1)] = 2000


class RenderJobConfig(FlatModel):
    """`pano render`: the render config, the run folder, Ray, limits, packing and prices.

    `ledger` is a folder or a URL (default: a folder of the run). `worker` is the module that makes
    a scene, `python -m WORKER JOB.json` as `panoforge.datagen.worker` defines.
    """

    inner: ClassVar[str] = "render"

    render: RenderConfig = RenderConfig()
    run: RunFolder
    ledger: Location | None = None
    worker: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")] = "panoforge.datagen.worker"
    ray: RayConfig = RayConfig()
    limits: LimitsConfig = LimitsConfig()
    packing: PackingConfig = PackingConfig()
    cost: CostConfig = CostConfig()

    @property
    def ledger_url(self) -> str:
        return str(absolute(self.ledger or self.run / LEDGER))


class TrainJobConfig(FlatModel):
    """`pano train`: the training config, the run folder, and the dataset: a folder or a URL
    (default: the run's own).
    """

    inner: ClassVar[str] = "train"

    train: TrainConfig = TrainConfig()
    run: RunFolder
    dataset: Location | None = None

    @property
    def dataset_location(self) -> Path | str:
        """Where the dataset is."""
        return self.dataset or self.run / DATASET


class EvalJobConfig(FlatModel):
    """`pano eval`: the evaluation config, the run folder (where the report goes), the dataset, and
    how many Ray tasks evaluate panoramas at once (1: no Ray).

    The dataset is a folder or a URL (default: the run's own). Scores do not depend on `workers`;
    videos are evaluated in one process.
    """

    inner: ClassVar[str] = "eval"

    eval: EvalConfig = EvalConfig()
    run: RunFolder
    dataset: Location | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    ray: RayConfig = RayConfig()

    @property
    def dataset_location(self) -> Path | str:
        """Where the dataset is."""
        return self.dataset or self.run / DATASET


class SubmitConfig(FrozenModel):
    """`pano submit`: where a job goes, what its process holds there, and what it finds there. The
    cluster's image has panoforge, unless `send_code` sends this one's; `pip` are requirements to
    install on top, `py_modules` folders of Python packages to send along. Ray keeps both per job,
    apart from the image.
    """

    address: str | None = (
        None  # of the dashboard, http://HOST:8265, or auto; None: a private Ray on this machine
    )
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    memory_gb: Annotated[float, Field(ge=0)] = 0.0
    python: str | None = (
        None  # the command of the Python over there; None: the first one on its path
    )
    send_code: bool = False
    py_modules: tuple[LocalPath, ...] = ()
    pip: tuple[str, ...] = ()
    env: dict[str, str] = {}


VERBS: dict[str, type[FrozenModel]] = {
    "render": RenderJobConfig,
    "pack": PackConfig,
    "train": TrainJobConfig,
    "eval": EvalJobConfig,
}
# What a file of a whole chain may hold.
SECTIONS: dict[str, type[FrozenModel]] = {**VERBS, "submit": SubmitConfig}


def load_section(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """The config of one verb (or of `submit`) from its own file, or from its section of a chain.
    ConfigError for whatever is wrong.
    """
    section = next(name for name, known in SECTIONS.items() if known is model)
    for key, text in split(overrides):
        if key.startswith(f"{section}."):
            own = key.removeprefix(f"{section}.")
            raise ConfigError(
                f"override {shown(f'{key}={text}')}: here the keys are those of {section}, so its name"
                f" is left out: {own}={text}"
            )
    return load_config(path, model, overrides, section=section, chain=SECTIONS)


def sections_of(path: Path, overrides: Sequence[str]) -> list[tuple[str, BaseModel]]:
    """The resolved configs that a file holds, by section: all its sections, or the one verb whose
    keys it has. Overrides of a file with sections begin with the section's name
    (`render.scenes=1`), or are `run=FOLDER`. ConfigError for whatever is wrong.
    """
    keys = top_level(path)
    present = [name for name in SECTIONS if name in keys]
    if not present:
        keys |= {key.partition(".")[0] for key, _ in split(overrides)}
        verb = max(VERBS, key=lambda verb: len(keys & set(flat_fields(VERBS[verb]))))
        return [(verb, load_section(path, VERBS[verb], overrides))]
    for key, _ in split(overrides):
        _check_prefix(path, key, present)
    return [
        (name, load_section(path, SECTIONS[name], _for_section(name, overrides)))
        for name in present
    ]


def _check_prefix(path: Path, key: str, present: Sequence[str]) -> None:
    """ConfigError unless an override says which section it is for."""
    head = key.partition(".")[0]
    if key in SHARED_KEYS or (head in present and head != key):
        return
    having = [name for name in present if head in flat_fields(SECTIONS[name])]
    guess = (
        f" Write {' or '.join(f'{name}.{key}' for name in having)}"
        if having
        else nearest(head, present)
    )
    raise ConfigError(
        f"override {shown(key)}: {path} has the sections {', '.join(present)}: begin with the name of"
        f" one.{guess}"
    )


def _for_section(name: str, overrides: Sequence[str]) -> list[str]:
    shared = [key for key in SHARED_KEYS if key in flat_fields(SECTIONS[name])]
    return [text.removeprefix(f"{name}.") for text in overrides if text.startswith(f"{name}.")] + [
        text for text in overrides if text.partition("=")[0] in shared
    ]
