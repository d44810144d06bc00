"""The stages as the `pano` command runs them.

Each loads the config, runs the stage and records it in run.json.

Every function takes typed configs and gives typed results; printing is the command's business.
Heavy imports (torch, Ray) happen inside, so that `pano --help` and `pano verify` start at once.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from panoforge.cluster.config.jobs import EvalJobConfig, RenderJobConfig, TrainJobConfig
from panoforge.cluster.config.packing import PackConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.state.ledger import Ledger
from panoforge.core.config.needed import Needed, require
from panoforge.core.errors import DataError, UsageError
from panoforge.core.names import digest_digits, slug
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.core.run_layout import DATASET, JOB_FILE, LEDGER, REPORT_FILE, STAGED, STATS
from panoforge.core.shards.contents import shard_files
from panoforge.core.shards.data_fault import VerifyReport
from panoforge.core.shards.layout import Manifest, read_manifest
from panoforge.core.shards.repair import RepairReport, repair
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import StagedSource, pack
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import record_stage
from panoforge.core.storage.staged import list_staged
from panoforge.core.storage.store import Store, StoreLike

if TYPE_CHECKING:
    from panoforge.cluster.config.labelling import AnnotateJobConfig, PseudolabelJobConfig
    from panoforge.cluster.render.runner import RenderSummary
    from panoforge.cluster.status.plan import RunPlan
    from panoforge.eval.folders import Evaluation
    from panoforge.label.annotating import AnnotateSummary
    from panoforge.label.pseudo.run import PseudoSummary


def render_stage(config: RenderJobConfig) -> "RenderSummary":
    """Render what is missing of the run."""
    from panoforge.cluster.render.images import image_config_sha256
    from panoforge.cluster.render.runner import render

    digest = image_config_sha256(config.render)
    Ledger(config.ledger_url).check(digest)  # before run.json says anything of this config
    with record_stage(
        config.run, "render", config, seed=config.render.seed, config_sha256=digest
    ) as entry:
        summary = render(config)
        entry.update(
            scenes={state: summary.count(state) for state in ("done", "rejected", "failed")},
            panoramas=summary.panoramas,
            reasons=summary.reasons,
            made_now=summary.made_now,
            seconds_by_phase=summary.seconds_by_phase,
            core_hours=round(summary.tally.core_hours, 4),
        )
    return summary


def plan_stage(
    config: RenderJobConfig, calibration: Path | None = None, slots: int | None = None
) -> "RunPlan":
    """What a run will take, calibrated on its own scenes or on another run's.

    Where nothing was made and the config assumes nothing, a probe renders for some 5 seconds.
    """
    from panoforge.cluster.render.images import image_config_sha256
    from panoforge.cluster.state.job_file import ledger_of, load_job
    from panoforge.cluster.status.plan import assumed_plan, plan_run, probed_cost
    from panoforge.datagen.cost.speed_probe import measure_speed

    ledger = ledger_of(load_job(calibration)) if calibration else Ledger(config.ledger_url)
    slots = slots or max(1, int(len(os.sched_getaffinity(0)) / config.ray.cpus_per_scene))
    digest, in_place = image_config_sha256(config.render), calibration is None
    if in_place and ledger.job() is None:
        assumed = config.cost.assumed or probed_cost(
            config.render, measure_speed(config.render.device)
        )
        return assumed_plan(config, assumed, slots=slots)
    return plan_run(config, ledger, digest, slots=slots, in_place=in_place)


def pack_stage(
    runs: StoreLike | Sequence[StoreLike],
    config: PackConfig,
    to: StoreLike | None = None,
    *,
    prefix: bool = False,
) -> Manifest:
    """Pack what the runs have staged into `to`, with `config.workers`.

    By default, for one run, that is its own `dataset`. With `prefix` the names of samples and
    scenes begin with the name of their run.
    """
    from panoforge.cluster.ray.packing import builder

    stores = (
        [Store.at(runs)]
        if isinstance(runs, (str, Path, Store))
        else [Store.at(run) for run in runs]
    )
    if to is None and len(stores) != 1:
        raise UsageError(
            "several runs become one dataset of their own: say where with --to DATASET"
        )
    prefixes = _prefixes(stores) if prefix else [""] * len(stores)
    staged = [
        StagedSource(store.below(STAGED), before)
        for store, before in zip(stores, prefixes, strict=True)
    ]
    dataset = stores[0].below(DATASET) if to is None else Store.at(to)
    # A record belongs to a run, and lies on a disk.
    recorded = stores[0].local if len(stores) == 1 else None
    keys = [source.prefix + key for source in staged for key in list_staged(source.staged)]
    again = len(keys) - len(set(keys))
    record: AbstractContextManager[dict[str, Any]] = (
        record_stage(recorded, "pack", config) if recorded else nullcontext({})
    )
    with record as entry, Progress("pack", total=len(set(keys))) as progress:
        manifest = pack(
            staged,
            dataset,
            config.options(),
            build=builder(config),
            on_sample=lambda key: progress.advance(),
        )
        if again:
            progress.log(
                f"{counted(again, 'panorama')} of several runs with equal content: packed once"
            )
        entry.update(
            samples=manifest.samples,
            instances=manifest.instances,
            splits=manifest.splits,
            bytes=sum(shard.bytes for shard in manifest.shards),
        )
    return manifest


def _prefixes(runs: Sequence[Store]) -> list[str]:
    """What goes before each run's keys: its folder's name as a slug.

    Where two runs give the same one, digits of their addresses tell them apart.
    """
    slugs = [slug(run.name) for run in runs]
    return [
        f"{name}-" if slugs.count(name) == 1 else f"{name}-{digest_digits(run.absolute)}-"
        for name, run in zip(slugs, runs, strict=True)
    ]


def verify_stage(dataset: StoreLike, *, deep: bool = False) -> VerifyReport:
    """Verify a dataset, with a progress bar."""
    with Progress("verify", total=read_manifest(dataset).samples) as progress:
        return verify(dataset, deep=deep, on_sample=lambda key: progress.advance())


def repair_stage(dataset: StoreLike, *, deep: bool = False) -> RepairReport:
    """Repair a dataset, with a progress bar over its shards."""
    total = len(shard_files(Store.at(dataset)))
    with Progress("repair", total=total) as progress:
        return repair(dataset, deep=deep, on_shard=lambda name: progress.advance())


def stats_stage(
    dataset: StoreLike, out: Path, usd_per_core_hour: float = 0.04, usd_per_gpu_hour: float = 0.0
) -> Path:
    """Write the statistics report of a dataset; gives the path of report.html."""
    from panoforge.core.stats import Prices, write_report

    write_report(dataset, out, prices=Prices(usd_per_core_hour, usd_per_gpu_hour))
    return out / REPORT_FILE


class _Needing(Protocol):
    """A config that says which paths must be there."""

    def needed(self) -> Iterator[Needed]: ...


def _require_here(config: _Needing, ray: RayConfig) -> None:
    """DataError for a path that leads nowhere, before anything heavy is imported.

    A cluster's nodes may have what this machine has not: there they look themselves.
    """
    if ray.address is None:
        require(config.needed())


def train_stage(config: TrainJobConfig) -> Path:
    """Fine-tune on the dataset; gives the exported weights.

    Several ranks are Ray Train's; under torchrun this is one of them.
    """
    _require_here(config.train, config.ray)
    from panoforge.cluster.ray.training import train_on_ray
    from panoforge.train.run import run_training

    with record_stage(config.run, "train", config, seed=config.train.seed):
        if config.ranks > 1 and "RANK" not in os.environ:
            return train_on_ray(config)
        return run_training(config.train, config.dataset_location, config.run)


def eval_stage(config: EvalJobConfig) -> "Evaluation":
    """Score a model on the dataset."""
    _require_here(config.eval, config.ray)
    from panoforge.cluster.ray.evaluation import evaluator
    from panoforge.eval.run import run_evaluation

    with record_stage(config.run, "eval", config, seed=config.eval.seed) as entry:
        found = run_evaluation(config.eval, config.dataset_location, config.run, evaluator(config))
        entry.update(folder=found.folder.relative_to(config.run).as_posix())
    return found


def annotate_stage(config: "AnnotateJobConfig", place: Path) -> "AnnotateSummary":
    """Label what is at a place."""
    _require_here(config.annotate, config.ray)
    from panoforge.cluster.ray.labelling import labelling_runner
    from panoforge.label.annotating import annotate

    runner = labelling_runner(config.workers, config.ray)
    with record_stage(config.run, "annotate", config, place=str(place)) as entry:
        found = annotate(place, config.run, config.annotate, runner)
        entry.update(
            files=len(found.records), failed=len(found.failures), to_revise=len(found.revise)
        )
    return found


def pseudolabel_stage(config: "PseudolabelJobConfig", place: Path) -> "PseudoSummary":
    """Pseudo-labels of the panoramas at a place."""
    _require_here(config.pseudolabel, config.ray)
    from panoforge.cluster.ray.labelling import labelling_runner
    from panoforge.label.pseudo.run import pseudolabel

    runner = labelling_runner(config.workers, config.ray)
    with record_stage(config.run, "pseudolabel", config, place=str(place)) as entry:
        found = pseudolabel(place, config.run, config.pseudolabel, runner)
        entry.update(panoramas=len(found.records), failed=len(found.failures))
    return found


@dataclass(frozen=True)
class Demo:
    """The configs of the whole chain."""

    render: RenderJobConfig
    pack: PackConfig
    train: TrainJobConfig
    eval: EvalJobConfig


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind for a person to look at."""

    dataset: Path
    dataset_report: Path
    checkpoints: Path
    evaluation_report: Path
    seconds: dict[str, float]


def _delete_run(run: Path) -> None:
    """Delete a run that no other process works on. DataError if the folder is no run of ours."""
    with storage_errors(run):
        if any(run.iterdir()) and not (run / JOB_FILE).is_file():
            raise DataError(
                f"--fresh deletes a run, and {run} is none: expected {JOB_FILE} there, and nothing"
                " was deleted. Name a run with run=FOLDER"
            )
        with held(run / LEDGER, "pano demo --fresh"), held(run / DATASET, "pano demo --fresh"):
            pass  # nobody else is at it
        shutil.rmtree(run)


def demo_stage(demo: Demo, say: Callable[[str], None], *, fresh: bool = False) -> DemoResult:
    """The whole chain: render → pack → verify → stats → train → eval.

    `say` gets a line before each stage. Resumes what an earlier call left; `fresh` deletes the run
    first.
    """
    run, scenes = demo.render.run, demo.render.render.scenes
    if fresh and run.exists():
        _delete_run(run)
    seconds: dict[str, float] = {}

    def timed(name: str, what: str, stage: Callable[[], Any]) -> Any:
        say(f"[{len(seconds) + 1}/6] {what}")
        begin = time.monotonic()
        result = stage()
        seconds[name] = time.monotonic() - begin
        return result

    summary = timed(
        "render",
        f"render {counted(scenes, 'Infinigen scene')} with"
        f" {counted(demo.render.render.cameras_per_scene, 'panorama')}"
        " each",
        lambda: render_stage(demo.render),
    )
    if summary.interrupted or not summary.panoramas or summary.count("failed"):
        raise DataError(
            f"rendering did not finish: {summary.count('failed')} of {counted(scenes, 'scene')}"
            f" failed, reasons: {summary.reasons}. Logs are in {run / 'logs'}. Give the same"
            f" command to go on from here (after `pano retry {run}` if scenes failed)"
        )
    timed("pack", "pack WebDataset shards", lambda: pack_stage(run, demo.pack))
    report = timed(
        "verify", "verify every digest, schema and label map", lambda: verify_stage(run / DATASET)
    )
    if report.faults:
        raise DataError(
            f"the dataset that was just packed has {counted(len(report.faults), 'fault')}, first:"
            f" {report.faults[0]}"
        )
    page = timed("stats", "describe the dataset", lambda: stats_stage(run / DATASET, run / STATS))
    checkpoints = timed(
        "train",
        "fine-tune SAM2 on scan clips (random weights, a few steps: it shows the machinery)",
        lambda: train_stage(demo.train),
    )
    scored = timed("eval", "score it", lambda: eval_stage(demo.eval))
    return DemoResult(run / DATASET, page, checkpoints, scored.folder / REPORT_FILE, seconds)


@dataclass(frozen=True)
class GenerationSummary:
    """What `pano generate` did: scenes in the cache before, scenes added, and why others failed."""

    cached: int
    made: int
    failed: dict[str, str]  # key of the scene → reason


def generate_stage(config: RenderJobConfig, workers: int | None = None) -> GenerationSummary:
    """Generate the scenes of a run's sources infinigen1.* into their caches, one process a core.

    Args:
        config: The run's. Nothing of it is rendered.
        workers: Processes at once; None takes every core that this process may use.

    Raises:
        UsageError: No source of the run has a cache.
    """
    from panoforge.core.parallel import prefetched
    from panoforge.datagen.config.render import plan_scene, source_of
    from panoforge.datagen.infinigen1.fill import fill, has_cache

    render = config.render
    jobs = [
        job
        for job in (plan_scene(render, index) for index in range(render.scenes))
        if has_cache(source_of(render, job))
    ]
    if not jobs:
        raise UsageError(
            "no source of this config has a cache to fill: set cache=FOLDER on a source"
            " infinigen1.indoors or infinigen1.nature"
        )
    threads = workers or len(os.sched_getaffinity(0))
    cached, made, failed = 0, 0, dict[str, str]()
    with Progress("generate", total=len(jobs)) as progress:
        for filled in prefetched(
            jobs, lambda job: fill(render, job), threads=threads, ahead=threads
        ):
            cached += filled.was_cached
            made += not filled.was_cached and not filled.failure
            if filled.failure:
                failed[filled.key] = filled.failure
                progress.fail()
                progress.log(f"{filled.key} failed: {filled.failure}")
            progress.advance()
    return GenerationSummary(cached, made, failed)
