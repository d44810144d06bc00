"""`pano plan`: what a run will take, from scenes that were really made.

The calibration is the ledger of a run of the same images, say the first 20 scenes of this very
run. Scene 7 is the same scene whether 20 or 80,000 are asked for, so they count towards it. Means
are taken per kind of scene, because a kitchen costs three times a bathroom. They are weighted by
how many of each kind the run has, and their spread gives the range. Before any scene was made a
plan goes by what its config assumes (`cost.assumed`), or by a probe of this machine, and says so.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.limits import AssumedConfig, CostConfig
from panoforge.cluster.state.ledger import Ledger
from panoforge.core.errors import DataError
from panoforge.core.numbers import counted, duration, money, number, percent, size
from panoforge.datagen.config.render import RenderConfig, plan_scene
from panoforge.datagen.cost.expected_cost import FACTOR, expected_cost

_COLUMNS = (
    "index",
    "outcome",
    "seconds",
    "cpus",
    "gpus",
    "peak_memory_mb",
    "staged_bytes",
    "panoramas",
)

SAP_GPU_MINUTES = 13.1  # of a panorama: 40,000 GPU-hours for 183,440


@dataclass(frozen=True)
class RunPlan:
    """What a run takes, without what is made already.

    `wall_s` is the time on `slots` scenes at once; `spread` is the relative error (95 %) of the
    core-hours that so small a calibration leaves.
    """

    scenes: int
    calibrated_on: int
    slots: int
    panoramas: float
    wall_s: float
    core_hours: float
    gpu_hours: float
    spread: float | None
    memory_mb: float
    staged_bytes: float
    usd: float | None
    unseen_kinds: tuple[str, ...]
    cores: float = 0.0
    gpus: float = 0.0
    assumed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The plan as `pano plan --json` prints it."""
        return {"schema_version": 1, **asdict(self)}

    def as_lines(self) -> list[str]:
        """For a terminal."""
        lines = [
            (
                f"{counted(self.scenes, 'scene is', 'scenes are')} left to make, about"
                f" {counted(self.panoramas, 'panorama')}"
                f" ({self._calibration()})"
            ),
            (
                f"  time          {duration(self.wall_s)} with {counted(self.slots, 'scene')} at"
                " once"
                f" on {counted(self.cores, 'core')}, {counted(self.gpus, 'GPU')}"
            ),
            f"  core-hours    {number(self.core_hours)}"
            + (f" ± {percent(self.spread, 0)}" if self.spread is not None else ""),
            f"  memory        {size(1e6 * self.memory_mb)} per scene at most so far",
            f"  disk          {size(self.staged_bytes)} staged, as much again for the shards",
        ]
        lines += [f"  GPU-hours     {number(self.gpu_hours)}"] if self.gpu_hours else []
        if self.panoramas:
            lines.append(
                f"  a panorama    {number(60 * self.core_hours / self.panoramas)} core-minutes,"
                f" {number(60 * self.gpu_hours / self.panoramas)} GPU-minutes"
                f" (SAP: {SAP_GPU_MINUTES} GPU-minutes; secondary source)"
            )
            of_a_scene = self.cores / self.slots
            lines.append(
                f"                {duration(3600 * self.core_hours / self.panoramas / of_a_scene)}"
                f" on the clock (cores of a scene: {number(of_a_scene)})"
            )
        lines += [f"  money         {money(self.usd)}"] if self.usd is not None else []
        if self.unseen_kinds:
            lines.append(
                f"  no scene was made yet of: {', '.join(self.unseen_kinds)} (taken as the mean of"
                " the others)"
            )
        return lines

    def _calibration(self) -> str:
        if self.assumed is not None:
            return f"no scene was made yet; assumed: {self.assumed}"
        return f"calibrated on {counted(self.calibrated_on, 'scene')}"


def probed_cost(config: RenderConfig, probe: float) -> AssumedConfig:
    """What a panorama is expected to take where a probe took `probe` core-s per million samples."""
    expected = expected_cost(config, probe)
    return AssumedConfig(
        core_s=expected.core_s,
        staged_mb=expected.staged_mb,
        memory_mb=expected.memory_mb,
        source=f"a probe of this machine ({number(probe)} core-seconds per million samples); off by"
        f" a factor of {number(FACTOR)} at most where it was tried (bench/RESULTS.md)",
    )


def assumed_plan(config: RenderJobConfig, assumed: AssumedConfig, *, slots: int) -> RunPlan:
    """The plan of a run of which nothing was made, by what a panorama is assumed to take."""
    cost, scenes = config.cost, config.render.scenes
    panoramas = float(scenes * config.render.panoramas_per_scene)
    core_hours = panoramas * assumed.core_s / 3600
    gpu_hours = panoramas * assumed.gpu_s / 3600
    cpus, gpus = float(config.ray.cpus_per_scene), float(config.ray.gpus_per_scene)
    wall_hours = max(core_hours / (slots * cpus), gpu_hours / (slots * gpus) if gpus else 0.0)
    return RunPlan(
        scenes=scenes,
        calibrated_on=0,
        slots=slots,
        panoramas=panoramas,
        wall_s=3600 * wall_hours,
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        spread=None,
        memory_mb=assumed.memory_mb,
        staged_bytes=1e6 * assumed.staged_mb * panoramas,
        usd=_usd(cost, core_hours, gpu_hours),
        unseen_kinds=(),
        cores=slots * cpus,
        gpus=slots * gpus,
        assumed=assumed.source,
    )


def _usd(cost: CostConfig, core_hours: float, gpu_hours: float) -> float | None:
    """Money, where there are prices."""
    if not (cost.usd_per_cpu_hour or cost.usd_per_gpu_hour):
        return None
    return core_hours * cost.usd_per_cpu_hour + gpu_hours * cost.usd_per_gpu_hour


def plan_run(
    config: RenderJobConfig, calibration: Ledger, job_sha256: str, *, slots: int, in_place: bool
) -> RunPlan:
    """Estimate `config` from `calibration`.

    `in_place` means that the calibration is this run's own ledger, whose scenes need not be made
    again. DataError if there is nothing to calibrate on.
    """
    if calibration.job() != job_sha256:
        raise DataError(
            f"{calibration.url} holds no scenes of these images to calibrate on. Make some: "
            "pano render CONFIG --scenes 20 --calibrate (they count towards the run)"
        )
    table = calibration.table(_COLUMNS)
    table = table.filter(pc.is_in(table["outcome"], pa.array(["done", "rejected", "fault"])))
    settled = table.filter(pc.is_in(table["outcome"], pa.array(["done", "rejected"])))
    if not settled.num_rows:
        raise DataError(
            f"{calibration.url}: no scene of it has ended yet, so there is nothing to"
            " calibrate on: wait for one, or plan without --from"
        )
    kinds, at = _kinds(config.render)
    scenes = config.render.scenes
    of_kind = _per_kind(_left(scenes, settled) if in_place else np.arange(scenes), at)
    kind_of = np.array(at)[table["index"].to_numpy() % len(at)]
    seconds = table["seconds"].to_numpy()
    ended = _per_kind(settled["index"].to_numpy(), at)
    seen = ended > 0

    def per_scene(values: NDArray) -> NDArray:
        """Mean cost of a settled scene by kind; failed attempts are part of it."""
        sums = np.bincount(kind_of, weights=values, minlength=len(kinds))
        mean = sums[seen].sum() / ended.sum()
        return np.where(seen, sums / np.maximum(ended, 1), mean)

    cpus, gpus = float(config.ray.cpus_per_scene), float(config.ray.gpus_per_scene)
    busy_s = float((per_scene(seconds) * of_kind).sum())
    panoramas = pc.fill_null(pc.list_value_length(table["panoramas"]), 0).to_numpy().astype(float)
    core_hours, gpu_hours = busy_s * cpus / 3600, busy_s * gpus / 3600
    return RunPlan(
        scenes=int(of_kind.sum()),
        calibrated_on=int(ended.sum()),
        slots=slots,
        panoramas=float((per_scene(panoramas) * of_kind).sum()),
        wall_s=max(busy_s / slots, float(seconds.max()) if of_kind.sum() else 0.0),
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        spread=_spread(seconds, kind_of),
        memory_mb=float(pc.max(table["peak_memory_mb"]).as_py() or 0.0),
        staged_bytes=float(
            (per_scene(table["staged_bytes"].to_numpy().astype(float)) * of_kind).sum()
        ),
        usd=_usd(config.cost, core_hours, gpu_hours),
        unseen_kinds=tuple(kind for kind, known in zip(kinds, seen, strict=True) if not known),
        cores=slots * cpus,
        gpus=slots * gpus,
    )


def _kinds(config: RenderConfig) -> tuple[list[str], list[int]]:
    """Kinds of scene, and the kind of the n-th scene of each round: kinds are taken in turn."""
    period = sum(len(source.variants) for source in config.sources)
    jobs = [plan_scene(config, index) for index in range(period)]
    names = [f"{job.source} {job.variant}" for job in jobs]
    kinds = sorted(set(names))
    return kinds, [kinds.index(name) for name in names]


def _per_kind(indices: NDArray[np.int64], at: list[int]) -> NDArray[np.float64]:
    """How many of the scenes are of each kind."""
    of_round = np.bincount(indices % len(at), minlength=len(at)).astype(float)
    return np.bincount(at, weights=of_round).astype(float)


def _left(total: int, settled: pa.Table) -> NDArray[np.int64]:
    """Indices that the ledger does not settle."""
    is_left = np.ones(total, bool)
    made = settled["index"].to_numpy()
    is_left[made[made < total]] = False
    return np.flatnonzero(is_left)


def _spread(seconds: NDArray, kind_of: NDArray) -> float | None:
    """Relative half-width of the 95 % interval of the mean, from the spread within kinds."""
    means = {kind: seconds[kind_of == kind].mean() for kind in set(kind_of.tolist())}
    rest = len(seconds) - len(means)
    if rest < 2 or not seconds.mean():
        return None
    residual = seconds - np.array([means[kind] for kind in kind_of.tolist()])
    return float(1.96 * math.sqrt((residual**2).sum() / rest / len(seconds)) / seconds.mean())
