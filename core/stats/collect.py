"""The pass over a dataset: samples in, `DatasetStats` and thumbnails out, files written last."""

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError, UsageError, UserError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.progress import Progress
from panoforge.core.report.page import write_report as write_page
from panoforge.core.shards.read import Dataset
from panoforge.core.stats.choice import pictured
from panoforge.core.stats.model import Cost, DatasetStats, RunFacts, StageTime
from panoforge.core.stats.page import build_report
from panoforge.core.stats.pixels import (
    PixelTotals,
    SampleView,
    Thumbnails,
    find_duplicates,
    look_at,
    pixel_statistics,
)
from panoforge.core.stats.played import played_videos
from panoforge.core.stats.tables import index_statistics
from panoforge.core.stats.videos import video_statistics
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import read_run
from panoforge.core.storage.store import StoreLike

GALLERY, PLAYED = 24, 2


@dataclass(frozen=True)
class Prices:
    """Dollars per hour.

    The default is about what clouds ask for a preemptible to on-demand CPU core in 2025.
    """

    core_hour: float = 0.04
    gpu_hour: float = 0.0


DEFAULT_PRICES = Prices()


@dataclass
class _Gathered:
    """What the pass has seen so far."""

    totals: PixelTotals | None = None
    keys: list[str] = field(default_factory=list)
    looks: list[bytes] = field(default_factory=list)
    core_s: list[dict[str, float]] = field(default_factory=list)
    gpu_s: float = 0.0
    peak_memory_mb: float | None = None
    versions: dict[str, Counter[str]] = field(default_factory=dict)
    hardware: dict[str, Counter[str]] = field(default_factory=dict)
    thumbnails: list[Thumbnails] = field(default_factory=list)

    def add(self, view: SampleView) -> None:
        self.totals = view.totals if self.totals is None else self.totals + view.totals
        self.keys.append(view.key)
        self.looks.append(view.look)
        self.core_s.append(view.core_s)
        self.gpu_s += view.gpu_s
        if view.peak_memory_mb is not None:
            self.peak_memory_mb = max(view.peak_memory_mb, self.peak_memory_mb or 0.0)
        for seen, found in ((self.versions, view.versions), (self.hardware, view.hardware)):
            for name, value in found.items():
                seen.setdefault(name, Counter())[value] += 1
        if view.thumbnails:
            self.thumbnails.append(view.thumbnails)


def dataset_statistics(
    dataset: StoreLike, *, prices: Prices = DEFAULT_PRICES, threads: int | None = None
) -> DatasetStats:
    """All statistics of a published dataset. Raises DataError for a damaged sample, naming it."""
    return _collect(Dataset.open(dataset), 0, prices, threads)[0]


def write_report(
    dataset: StoreLike,
    out: Path,
    *,
    gallery: int = GALLERY,
    prices: Prices = DEFAULT_PRICES,
    threads: int | None = None,
) -> DatasetStats:
    """Write `out`/report.json and `out`/report.html.

    A report of an earlier state of the same dataset stays beside, as report-<index>.json and .html.

    Args:
        dataset: a published dataset: a folder, a URL or a store.
        out: the folder of the report; it is made if it does not exist.
        gallery: how many panoramas are pictured at most, and videos played (two at most).
        prices: for what a panorama costs.
        threads: samples read at once; the numbers are the same for any number.

    Returns:
        The statistics.

    Raises:
        UsageError: `out` holds the report of another dataset, or of something else.
        InUse: another process writes a report there.
        DataError: a sample is damaged.
    """
    opened = Dataset.open(dataset)
    earlier_report(out, opened)
    with held(out, "pano stats") as lease:  # first: two at once would both do all the work
        stats, thumbnails = _collect(opened, gallery, prices, threads)
        played = played_videos(opened, min(gallery, PLAYED))
        made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        page = build_report(stats, thumbnails, made_at, played)
        lease.check()
        if suffix := earlier_report(out, opened):
            with storage_errors(out):
                for name in ("report.html", "report.json"):  # the one that says whose, last
                    kept = out / name.replace("report", f"report-{suffix}")
                    os.replace(out / name, kept)
        without = {"videos"} if stats.videos is None else None
        data = stats.model_dump_json(indent=1, exclude=without).encode() + b"\n"
        write_bytes_atomic(out / "report.json", data)
        write_page(out / "report.html", page)
    return stats


def earlier_report(out: Path, dataset: Dataset) -> str | None:
    """What the report in `out` is to be kept under; None where it may be written over.

    Raises:
        UsageError: it is not a report of this dataset.
    """
    if not (out / "report.json").exists() and not (out / "report.html").exists():
        return None
    try:
        found = DatasetStats.model_validate_json(read_bytes(out / "report.json"))
    except (UserError, ValueError):
        found = None
    if found is None or found.dataset != name_of(dataset):
        whose = f"of {found.dataset}" if found else "of something else"
        raise UsageError(
            f"{out} holds the report {whose}, not of {name_of(dataset)}: reports of two things do"
            " not share a folder. Choose another one (--out)"
        )
    now = dataset.manifest.sample_index.sha256
    return None if found.index_sha256 == now else found.index_sha256[:8]


def name_of(dataset: Dataset) -> str:
    """What a report calls a dataset: its folder, with the run's where it lies in one."""
    store = dataset.store
    return store.name if store.name != "dataset" else f"{store.parent.name}/dataset"


def _collect(
    dataset: Dataset, gallery: int, prices: Prices, threads: int | None
) -> tuple[DatasetStats, list[Thumbnails]]:
    store, run = dataset.store, dataset.store.parent
    if not len(dataset):
        raise DataError(
            f"{store} holds no samples: there is nothing to describe. Pack some panoramas first"
            " (pano pack RUN)"
        )
    gathered = _Gathered()
    shown = pictured(dataset, gallery)
    with Progress("stats", total=len(dataset)) as progress:
        for view in _views(dataset, shown, threads or min(8, len(os.sched_getaffinity(0)))):
            gathered.add(view)
            progress.advance()
    assert gathered.totals is not None
    stats = DatasetStats(
        dataset=name_of(dataset),
        index_sha256=dataset.manifest.sample_index.sha256,
        index=index_statistics(dataset),
        pixels=pixel_statistics(gathered.totals),
        cost=cost(gathered.core_s, prices, gathered.peak_memory_mb, gathered.gpu_s),
        duplicates=find_duplicates(gathered.keys, gathered.looks),
        run=_run_facts(run.local) if run.local else None,
        versions=_plain(gathered.versions),
        hardware=_plain(gathered.hardware),
        videos=video_statistics(dataset),
    )
    return stats, gathered.thumbnails


def _views(dataset: Dataset, shown: frozenset[int], threads: int) -> Iterator[SampleView]:
    """Views of all samples in order, `threads` at a time; at most twice as many are in flight."""
    with ThreadPoolExecutor(threads, thread_name_prefix="stats") as pool:
        waiting: deque[Future[SampleView]] = deque()
        try:
            for index in range(len(dataset)):
                waiting.append(
                    pool.submit(lambda i: look_at(dataset[i], with_thumbnails=i in shown), index)
                )
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def cost(
    core_s: list[dict[str, float]], prices: Prices, peak_memory_mb: float | None, gpu_s: float = 0.0
) -> Cost | None:
    """Core-seconds per panorama by stage, longest first.

    A stage that a panorama does not name took it 0 s. `gpu_s`: all panoramas' seconds on a GPU.
    """
    names = sorted({name for timings in core_s for name in timings})
    if not names:
        return None
    table = np.array([[timings.get(name, 0.0) for name in names] for timings in core_s])
    stages = [
        StageTime(
            name=name,
            mean_s=float(column.mean()),
            median_s=float(np.median(column)),
            p95_s=float(np.quantile(column, 0.95)),
        )
        for name, column in zip(names, table.T, strict=True)
    ]
    total, gpu = float(table.sum() / len(table)), gpu_s / len(table)
    return Cost(
        stages=tuple(sorted(stages, key=lambda stage: -stage.mean_s)),
        core_seconds_per_panorama=total,
        gpu_seconds_per_panorama=gpu,
        price_per_core_hour=prices.core_hour,
        price_per_gpu_hour=prices.gpu_hour,
        price_per_1000=1000 / 3600 * (total * prices.core_hour + gpu * prices.gpu_hour),
        peak_memory_mb=peak_memory_mb,
    )


def _run_facts(run: Path) -> RunFacts | None:
    """How the scenes of the run ended, from its run.json; None where it does not say."""
    render = read_run(run)["stages"].get("render")
    if not isinstance(render, dict):
        return None
    scenes, reasons = render.get("scenes"), render.get("reasons") or {}
    if not isinstance(scenes, dict) or not isinstance(reasons, dict):
        return None
    whole = {str(name): n for name, n in scenes.items() if isinstance(n, int)}
    return RunFacts(
        scenes=whole, reasons={str(name): n for name, n in reasons.items() if isinstance(n, int)}
    )


def _plain(counters: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(counter.most_common()) for name, counter in sorted(counters.items())}
