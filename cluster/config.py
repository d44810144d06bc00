"""Configs of the verbs that start work: a stage's own config with where the run lives and how Ray
is reached.

Here and not in the stages, because a stage does not know who runs it. No Ray is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, model_validator
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
from panoforge.datagen.source_settings import Infinigen1Indoors, Infinigen1Nature
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

    address: Annotated[
        str | None,
        Field(
            description="The cluster to join, auto or HOST:PORT; null starts a private Ray here."
        ),
    ] = None
    auth: Annotated[
        Literal["token", "off"],
        Field(
            description="Who may use a private Ray: off lets all who reach its ports run code here."
        ),
    ] = "token"
    listen: Annotated[
        Literal["loopback", "all"], Field(description="Addresses of a private Ray's ports.")
    ] = "loopback"
    cpus_per_scene: Annotated[float, Field(gt=0, description="CPU cores that a task asks for.")] = (
        1.0
    )
    gpus_per_scene: Annotated[float, Field(ge=0, description="GPUs that a task asks for.")] = 0.0
    memory_per_scene_gb: Annotated[
        float,
        Field(ge=0, description="Memory that a task asks for; 0 leaves memory out of scheduling."),
    ] = 0.0
    in_flight_per_slot: Annotated[
        int,
        Field(
            ge=1,
            description="Tasks that Ray has for each that can run: it never waits, never drowns.",
        ),
    ] = 2


class LimitsConfig(FrozenModel):
    """When a scene's worker process is given up, and how much disk must stay free for another."""

    scene_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds after which a scene's process is given up.")
    ] = 3600.0
    no_progress_s: Annotated[
        float,
        Field(gt=0, description="Seconds without a line of output after which it is given up."),
    ] = 1800.0
    memory_gb: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="Memory at which it is given up; null takes ray.memory_per_scene_gb."),
    ] = None
    log_mb: Annotated[
        float, Field(gt=0, description="Size of its log at which it is given up.")
    ] = 64.0
    min_free_gb: Annotated[
        float, Field(ge=0, description="Disk that must be free for another scene to start.")
    ] = 1.0
    disk_wait_s: Annotated[
        float,
        Field(ge=0, description="For how long a full disk is waited for before the run stops."),
    ] = 3600.0


class AssumedConfig(FrozenModel):
    """What a panorama takes, until scenes of the run say it: from another machine or room."""

    core_s: Annotated[float, Field(ge=0, description="Core-seconds of a panorama.")]
    gpu_s: Annotated[float, Field(ge=0, description="GPU-seconds of a panorama.")] = 0.0
    staged_mb: Annotated[float, Field(ge=0, description="Megabytes of a staged panorama.")]
    memory_mb: Annotated[float, Field(ge=0, description="Memory of a scene at most.")]
    source: Annotated[str, Field(min_length=1, description="Where the figures were measured.")]


class CostConfig(FrozenModel):
    """Prices, for `pano status` and `pano plan`, and what `pano plan` takes a panorama to cost
    before any was made. Money is left out while both prices are 0.
    """

    usd_per_cpu_hour: Annotated[
        float,
        Field(
            ge=0,
            description="Price of a core's hour, in pano status and pano plan; 0 leaves money out.",
        ),
    ] = 0.0
    usd_per_gpu_hour: Annotated[
        float, Field(ge=0, description="Price of a GPU's hour, likewise.")
    ] = 0.0
    assumed: Annotated[
        AssumedConfig | None,
        Field(description="What pano plan reckons with where no scene was made yet."),
    ] = None


class ShardConfig(FrozenModel):
    """What shapes a dataset's bytes: shard size, and the shares of the splits (by scene, by a
    stable hash of `salt` and its name).
    """

    shard_bytes: Annotated[int, Field(ge=1024, description="Size at which a shard is full.")] = (
        DEFAULT_SHARD_BYTES
    )
    splits: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1)]],
        Field(description="Shares of the splits; a scene is in one split, by a hash of its name."),
    ] = DEFAULT_SPLITS
    salt: Annotated[str, Field(description="Changes which scenes are in which split.")] = ""

    def options(self) -> PackOptions:
        """The same as the writer of shards takes it."""
        return PackOptions(self.shard_bytes, tuple(self.splits.items()), self.salt)


class PackConfig(ShardConfig):
    """`pano pack`: the shards, and how many Ray tasks build them at once (1: no Ray). The bytes do
    not depend on `workers`.
    """

    workers: Annotated[
        int,
        Field(
            ge=1,
            description="Ray tasks that build shards at once; 1 needs no Ray. Same bytes for any.",
        ),
    ] = 1
    ray: Annotated[RayConfig, Field(description="How Ray is reached.")] = RayConfig()


class PackingConfig(ShardConfig):
    """Packing beside rendering (`pano render`); the shards are those of `pano pack`. The packer
    looks again after `every_scenes`, and after a hundredth of the settled scenes at least.
    """

    while_rendering: Annotated[bool, Field(description="Pack beside rendering.")] = False
    every_scenes: Annotated[
        int,
        Field(
            ge=1, description="After how many more settled scenes in a row the packer looks again."
        ),
    ] = 100
    max_behind_scenes: Annotated[
        int,
        Field(
            ge=1, description="By how many scenes it may fall behind before no new scene starts."
        ),
    ] = 2000


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
    packing: Annotated[PackingConfig, Field(description="Packing beside rendering.")] = (
        PackingConfig()
    )
    cost: Annotated[CostConfig, Field(description="Prices.")] = CostConfig()

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
    """`pano train`: the training config, the run folder, the dataset (a folder or a URL; default:
    the run's own), and how many ranks train.

    More than one are started by Ray Train, on the Ray that `ray` says. The weights do not depend on
    their number, up to the order of float additions. Under torchrun these keys say nothing.
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
    """`pano eval`: the evaluation config, the run folder (where the report goes), the dataset, and
    how many Ray tasks evaluate panoramas at once (1: no Ray).

    The dataset is a folder or a URL (default: the run's own). Scores do not depend on `workers`;
    videos are evaluated in one process.
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


class SubmitConfig(FrozenModel):
    """`pano submit`: where a job goes, what its process holds there, and what it finds there. The
    cluster's image has panoforge, unless `send_code` sends this one's; `pip` are requirements to
    install on top, `py_modules` folders of Python packages to send along. Ray keeps both per job,
    apart from the image.
    """

    address: Annotated[
        str | None,
        Field(
            description="The cluster's dashboard, http://HOST:8265, or auto; null: a private Ray."
        ),
    ] = None
    cpus: Annotated[
        float, Field(ge=0, description="CPU cores that the job's own process holds.")
    ] = 1.0
    gpus: Annotated[float, Field(ge=0, description="GPUs that it holds.")] = 0.0
    memory_gb: Annotated[float, Field(ge=0, description="Memory that it holds.")] = 0.0
    python: Annotated[
        str | None,
        Field(description="The command of the Python over there; null is the first on its path."),
    ] = None
    send_code: Annotated[
        bool, Field(description="Send this panoforge along instead of using the image's.")
    ] = False
    py_modules: Annotated[
        tuple[LocalPath, ...], Field(description="Folders of Python packages to send along.")
    ] = ()
    pip: Annotated[
        tuple[str, ...], Field(description="Requirements to install on top of the image.")
    ] = ()
    env: Annotated[dict[str, str], Field(description="Environment variables of the job.")] = {}


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
                f"override {shown(f'{key}={text}')}: here the keys are those of {section}, so its"
                f" name is left out: {own}={text}"
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
        f"override {shown(key)}: {path} has the sections {', '.join(present)}: begin with the name"
        f" of one.{guess}"
    )


def _for_section(name: str, overrides: Sequence[str]) -> list[str]:
    shared = [key for key in SHARED_KEYS if key in flat_fields(SECTIONS[name])]
    return [text.removeprefix(f"{name}.") for text in overrides if text.startswith(f"{name}.")] + [
        text for text in overrides if text.partition("=")[0] in shared
    ]
