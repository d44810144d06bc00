"""The report of `pano annotate`: coverage, what was asked, what changed when, pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from panoforge.core import __version__
from panoforge.core.numbers import count, counted, duration, percent
from panoforge.core.report.page import (
    Banner,
    Block,
    Chart,
    Charts,
    Details,
    Facts,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    Table,
    Tile,
    write_report,
)
from panoforge.core.report.pictures import (
    SERIES,
    chart_svg,
    jpeg_uri,
    overlay_ids,
    shrink_ids,
    shrink_rgb,
)
from panoforge.core.run_layout import DATASET
from panoforge.core.sample.revisions import Revision
from panoforge.core.shards.read import Dataset
from panoforge.label.config import AnnotateConfig, TeacherChoice
from panoforge.label.records import FootageRecord

SHEET_FILES, SHEET_FRAMES, SHEET_PX = 12, 6, 480
TABLE_ROWS = 200
KINDS = {
    "begun": "found in the first frame",
    "refined": "mask taken from the model's answers",
    "kept": "teachers' mask kept, no answer fitted",
    "border": "border asked again, turned by half",
    "completed": "blank area joined to its object",
    "returned": "lost object found again",
    "new": "object that was not seen before",
    "corrected": "drifted mask corrected",
    "backfilled": "carried back to earlier frames",
    "merged": "two ids made one",
    "over_limit": "no room for another object",
}
PHASES = {"initial": "initial", "refine": "auto-refine", "finish": "finish"}


def write_annotate_report(
    path: Path,
    place: Path,
    out: Path,
    config: AnnotateConfig,
    records: Sequence[FootageRecord],
    failures: Mapping[str, str],
    revise: Sequence[Revision],
) -> None:
    """Write the page of a run of `pano annotate`."""
    shares = [share for record in records for share in record.coverage.values()]
    mean = sum(shares) / len(shares) if shares else None
    frames = sum(record.frames for record in records)
    seconds = sum(sum(record.seconds.values()) for record in records)
    report = Report(
        title="Labels",
        subtitle=str(place),
        made_by=f"panoforge {__version__}",
        banners=_banners(config, records, failures),
        tiles=[
            Tile("Files", count(len(records)), counted(frames, "frame")),
            Tile("Objects", count(sum(record.objects for record in records))),
            Tile("Coverage", percent(mean), "of the sphere, mean of keyframes"),
            Tile("To look at", count(len(revise)), "worst first in revise.json"),
            Tile("Time", duration(seconds), f"{seconds / max(1, frames):.2f} s a frame"),
        ],
        sections=[
            Section("Contact sheet", _sheet(out, records), text=_SHEET),
            Section("To be looked at", _to_revise(revise), text=_REVISE),
            Section("Coverage", _coverage(records)),
            Section("What changed", _changes(records), text=_CHANGED),
            Section("Labels", _labels(config, records), text=_LABELS),
            Section("Time and memory", _time(records)),
        ],
    )
    write_report(path, report)


_SHEET = "Labels over the pictures; an id has one colour on all frames."
_REVISE = "Areas without a label, doubtful labels and masks. Severity is a rank, no probability."
_CHANGED = "What each phase did, counted over objects and frames."
_LABELS = "Where labels come from: agreement of panoptic teachers, the checker, or nobody."


def _banners(
    config: AnnotateConfig, records: Sequence[FootageRecord], failures: Mapping[str, str]
) -> list[Banner]:
    found = [Banner(f"{name}: {why}", "bad", "Not labelled") for name, why in failures.items()]
    found += [
        Banner(f"{record.name}: {record.ended}", "warn", "Ends early")
        for record in records
        if record.ended
    ]
    down = next((record.checker_failure for record in records if record.checker_failure), "")
    if down:
        found.append(Banner(f"{down}: went on without", "warn", "The checker did not answer"))
    every = (*config.entities, *config.panoptic)
    if any(one.kind in ("truth", "noisy_truth") for one in every):
        words = "Teachers read the truth of a dataset and spoil it: this shows the way, no model."
        found.append(Banner(words, "warn", "Truth as teacher"))
    if config.follow.kind == "noisy_truth":
        words = "Masks are carried along by true ids with stated faults, in the place of SAM2."
        found.append(Banner(words, "warn", "Stand-in"))
    models = [*(one.model for one in every), config.follow.model]
    if any(model.checkpoint == "random" for model in models):
        words = "A model has random weights: its answers say nothing of a trained one."
        found.append(Banner(words, "warn", "Random weights"))
    return found


def _sheet(out: Path, records: Sequence[FootageRecord]) -> list[Block]:
    dataset = Dataset.open(out / DATASET)
    items = []
    for record in records[:SHEET_FILES]:
        step = max(1, -(-len(record.keys) // SHEET_FRAMES))
        pictures = []
        for number, key in list(enumerate(record.keys))[::step]:
            sample = dataset.by_key(key, ("rgb", "instance"))
            rgb = shrink_rgb(sample.read("rgb"), SHEET_PX)
            labels = shrink_ids(sample.read("instance"), rgb.shape[1])
            label = f"frame {number}" if record.is_video else "labels"
            pictures.append(Picture(jpeg_uri(overlay_ids(rgb, labels)), label))
        note = f"{counted(record.objects, 'object')}, {record.width}×{record.height}"
        items.append(Item(record.name, pictures, note=note))
    left = len(records) - SHEET_FILES
    more: list[Block] = [Banner(f"{counted(left, 'more file')} not shown")] if left > 0 else []
    return [Gallery(items, columns=3), *more]


def _to_revise(revise: Sequence[Revision]) -> list[Block]:
    if not revise:
        return [Banner("Nothing was found that needs a person.", "good")]
    rows = [
        (
            f"{one.severity:.2f}",
            one.item,
            one.frame,
            one.kind.replace("_", " "),
            one.id,
            one.label,
            "" if one.lon_deg is None else f"{one.lon_deg:.0f}°, {one.lat_deg:.0f}°",
            one.why,
        )
        for one in revise[:TABLE_ROWS]
    ]
    columns = ["severity", "file", "frame", "what", "id", "label", "at", "why"]
    kinds = Counter(one.kind.replace("_", " ") for one in revise)
    left = len(revise) - len(rows)
    caption = f"{counted(left, 'milder entry', 'milder entries')} in revise.json" if left else ""
    return [
        Facts({kind: count(number) for kind, number in kinds.most_common()}),
        Table(columns, rows, caption=caption),
    ]


def _coverage(records: Sequence[FootageRecord]) -> list[Block]:
    rows = []
    for record in records:
        shares = list(record.coverage.values())
        mean = sum(shares) / max(1, len(shares))
        low, worst = min(((share, k) for k, share in record.coverage.items()), default=(None, 0))
        rows.append((record.name, len(shares), percent(mean), percent(low), worst))
    table = Table(["file", "keyframes", "mean", "lowest", "on frame"], rows)
    videos = [record for record in records if len(record.coverage) > 1][:6]
    if not videos:
        return [table]

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        for record, colour in zip(videos, SERIES, strict=False):
            numbers = sorted(record.coverage)
            shares = [100 * record.coverage[k] for k in numbers]
            axes.plot(numbers, shares, color=colour, label=record.name[:24])
        axes.set_xlabel("frame")
        axes.set_ylabel("% of the sphere")
        axes.legend(fontsize=7)

    return [Charts([Chart("Coverage by keyframe", chart_svg(draw), wide=True)]), table]


def _changes(records: Sequence[FootageRecord]) -> list[Block]:
    total: dict[str, Counter[str]] = {}
    for record in records:
        for phase, kinds in record.changes.items():
            total.setdefault(phase, Counter()).update(kinds)
    rows = [
        (PHASES[phase], KINDS[kind], count(number))
        for phase in PHASES
        for kind, number in total.get(phase, Counter()).most_common()
    ]
    return [Table(["phase", "what", "times"], rows)]


def _labels(config: AnnotateConfig, records: Sequence[FootageRecord]) -> list[Block]:
    named: Counter[str] = Counter()
    for record in records:
        named.update(record.named)
    total = max(1, sum(named.values()))
    rows = [(how, count(n), percent(n / total)) for how, n in named.most_common()]
    asked, answered = sum(r.asked for r in records), sum(r.answered for r in records)
    said = Facts(
        {
            "checker": config.checker.address or "none: nothing leaves the machine",
            "asked of the checker": f"{count(asked)}, answered {count(answered)}",
            "entity teachers": _called(config.entities),
            "panoptic teachers": _called(config.panoptic),
            "carried along by": config.follow.kind.replace("_", " "),
            "hidden": ", ".join(config.hide.classes) or "nothing",
        }
    )
    resolved = Details("The whole config", [Facts({"config": config.model_dump_json()})])
    return [Table(["label from", "asked", "share"], rows), said, resolved]


def _called(choices: Sequence[TeacherChoice]) -> str:
    return ", ".join(choice.called for choice in choices) or "none"


def _time(records: Sequence[FootageRecord]) -> list[Block]:
    phases = sorted({phase for record in records for phase in record.seconds})
    rows = []
    for phase in phases:
        spent = sum(record.seconds.get(phase, 0.0) for record in records)
        frames = sum(record.frames for record in records)
        rows.append((phase, duration(spent), f"{spent / max(1, frames):.3f}"))
    peak = max((record.peak_memory_mb or 0.0 for record in records), default=0.0)
    return [
        Table(["phase", "time", "s a frame"], rows),
        Facts({"most memory of a process": f"{peak / 1000:.2f} GB"}),
    ]
