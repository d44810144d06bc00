"""The report of a dense evaluation: scores, maps with their errors, and panoramas in space.

One HTML file. Takes the content of results.json and the folder of panoramas' results (their
pictures); gives a page made with `panoforge.core.report.page`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.core.numbers import count, counted, percent
from panoforge.core.report.page import (
    Banner,
    Block,
    Cell,
    Details,
    Facts,
    Gallery,
    PointView,
    Report,
    Section,
    Table,
    Tile,
    write_report,
)
from panoforge.eval.dense.gallery import panorama_item, point_view
from panoforge.eval.dense.scores import HEADLINES, Headline, classes_of
from panoforge.eval.reports.published import DENSE_TABLES, block_of
from panoforge.eval.scoring.metrics.places import WHOLE

POINT_VIEWS = 4
FEW_STEPS = 1000
COLUMNS = {
    "semantic": (
        ("miou", "mIoU", "%"),
        ("miou_by_image", "mIoU by panorama", "%"),
        ("pixel_accuracy", "pixel accuracy", "%"),
        ("class_accuracy", "class accuracy", "%"),
    ),
    "depth": (
        ("abs_rel", "AbsRel", ""),
        ("rmse_m", "RMSE", "m"),
        ("log_rmse", "log RMSE", ""),
        ("silog", "SILog", ""),
        ("delta_1", "δ < 1.25", "%"),
        ("delta_2", "δ < 1.25²", "%"),
        ("delta_3", "δ < 1.25³", "%"),
    ),
    "normal": (
        ("mean_deg", "mean", "°"),
        ("median_deg", "median", "°"),
        ("rms_deg", "RMS", "°"),
        ("under_5", "under 5°", "%"),
        ("under_11_25", "under 11.25°", "%"),
        ("under_22_5", "under 22.5°", "%"),
        ("under_30", "under 30°", "%"),
    ),
}
TITLES = {"semantic": "Semantics", "depth": "Depth", "normal": "Normals"}
ALIGNED = {
    "metric": "as predicted",
    "scale": "times the median ratio to the truth",
    "scale and shift": "a·d + b fitted to the truth",
}
ROLES = {"model": "scored", "ceiling": "ceiling", "floor": "mean predictor"}


def write_dense_report(
    path: Path, results: Mapping[str, Any], folder: Path, panoramas: int
) -> None:
    """Write the report of `results`, with pictures of up to `panoramas` panoramas."""
    write_report(path, dense_report(results, folder, panoramas))


def dense_report(results: Mapping[str, Any], folder: Path, panoramas: int) -> Report:
    """The report as data."""
    data = results["dataset"]
    tasks = [task for task in COLUMNS if _of(results, task)]
    shown = chosen(results, panoramas)
    return Report(
        title="Dense evaluation",
        subtitle=(
            f"{results['model']['name']} · {counted(data['panoramas'], 'panorama')} of"
            f" {', '.join(data['size'])}"
        ),
        made_by=f"panoforge {results['versions']['panoforge']} · protocol {results['protocol_id']}",
        banners=_banners(results),
        tiles=[
            *(_tile(results, headline) for headline in HEADLINES if headline.task in tasks),
            Tile("Panoramas", count(data["panoramas"]), note=_of_split(data)),
        ],
        sections=[
            *(_section(results, task) for task in tasks),
            *_pictures(results, folder, shown, tasks),
            _published(results),
            _protocol(results),
        ],
    )


def value_text(value: float | None, unit: str) -> str:
    """A score for people."""
    if value is None or not np.isfinite(value):
        return "–"
    if unit == "%":
        return percent(value)
    return f"{value:.2f}{unit}" if unit == "°" else f"{value:.3f} {unit}".rstrip()


def chosen(results: Mapping[str, Any], limit: int) -> list[str]:
    """The panoramas that are shown: all, or `limit` spread from the worst to the best.

    By the first score of the first task.
    """
    worst = by_badness(results)
    if len(worst) <= limit:
        return worst
    if not limit:
        return []
    return [worst[k] for k in np.linspace(0, len(worst) - 1, limit).round().astype(int).tolist()]


def by_badness(results: Mapping[str, Any]) -> list[str]:
    """Keys from the worst to the best."""
    keys = list(dict.fromkeys(row["key"] for row in results["rows"]))
    for task, name, better in (
        ("depth", "abs_rel", -1),
        ("normal", "mean_deg", -1),
        ("semantic", "", 1),
    ):
        found = {
            row["key"]: _badness(row, name, better)
            for row in results["rows"]
            if row["task"] == task and row["variant"] in ("", "metric")
        }
        if found:
            return sorted(keys, key=lambda key: (-found.get(key, 0.0), key))
    return keys


def _badness(row: Mapping[str, Any], name: str, better: int) -> float:
    if row["task"] != "semantic":
        value = row["scores"][name]
        return -better * value if value is not None else 0.0
    classes = classes_of(row["size"])
    right = sum(n for k, n in row["confusion"] if k // (classes + 1) == k % (classes + 1))
    return -float(right) / max(sum(n for _, n in row["confusion"]), 1)


def _of(results: Mapping[str, Any], task: str, **more: str) -> list[Mapping[str, Any]]:
    return [
        entry
        for entry in results["scores"]
        if entry["task"] == task and all(entry[key] == value for key, value in more.items())
    ]


def _tile(results: Mapping[str, Any], headline: Headline) -> Tile:
    entries = _of(results, headline.task, variant=headline.variant, place=WHOLE, role="model")
    plain = next((e for e in entries if e["weighting"] == "pixels"), None)
    sphere = next((e for e in entries if e["weighting"] == "solid angle"), None)
    value = plain["mean"][headline.name] if plain else None
    other = sphere["mean"][headline.name] if sphere else None
    note = f"by solid angle: {value_text(other, headline.unit)}"
    return Tile(headline.title, value_text(value, headline.unit), note=note)


def _banners(results: Mapping[str, Any]) -> list[Banner]:
    weights, data, found = results["weights"], results["dataset"], []
    if weights["kind"] in ("none", "mean"):
        found.append(Banner(f"No model was scored, but the {weights['source']}.", title="No model"))
    steps = weights.get("steps")
    if weights["kind"] == "checkpoint" and steps is not None and steps < FEW_STEPS:
        found.append(
            Banner(
                f"These weights were trained for {counted(steps, 'step')} only: the scores show"
                " that the chain works.",
                kind="warn",
                title="Hardly trained.",
            )
        )
    if data.get("warning"):
        found.append(Banner(data["warning"], kind="warn", title="Before you compare."))
    return found


def _of_split(data: Mapping[str, Any]) -> str:
    return f"split {data['split']}" if data["split"] else f"all of {data['name']}"


def _section(results: Mapping[str, Any], task: str) -> Section:
    blocks: list[Block] = []
    variants = list(dict.fromkeys(entry["variant"] for entry in _of(results, task)))
    for variant in variants:
        said = f"Depth {ALIGNED[variant]}" if task == "depth" else TITLES[task]
        table = _whole(results, task, variant, said)
        blocks.append(table if variant == variants[0] else Details(said, [table]))
    blocks.append(_places(results, task, variants[0]))
    if task == "semantic":
        rows = [
            [entry["class"], percent(entry["iou"]), percent(entry["share"])]
            for entry in results["classes"]
        ]
        blocks.append(
            Details("IoU of every class", [Table(["class", "IoU", "of the truth"], rows)])
        )
    pooling = (
        "mIoU is of the confusion matrix of all panoramas' pixels."
        if task == "semantic"
        else "A panorama is scored alone, and the mean taken over panoramas; pooled scores are of"
        " all pixels together."
    )
    return Section(
        TITLES[task],
        text=(
            f"{pooling} The ceiling is the truth at the model's resolution; the mean predictor has"
            " one guess for each latitude. Intervals are 95 % bootstrap intervals over panoramas."
        ),
        blocks=blocks,
    )


def _whole(results: Mapping[str, Any], task: str, variant: str, said: str) -> Table:
    columns = COLUMNS[task]
    rows: list[list[Cell]] = []
    strong: list[int] = []
    for entry in _of(results, task, variant=variant, place=WHOLE):
        plain = entry["weighting"] == "pixels"
        intervals = entry.get("interval", {}) if plain else {}  # else the table is off the page
        weighting = {"pixels": "pixels", "solid angle": "solid angle"}
        cells = [
            _with_interval(entry["mean"].get(name), intervals.get(name), unit)
            for name, _, unit in columns
        ]
        if entry["role"] == "model" and plain:
            strong = [len(rows)]
        rows.append([ROLES[entry["role"]], weighting[entry["weighting"]], *cells])
        if task != "semantic" and entry["role"] == "model" and plain:
            pooled = [value_text(entry["pooled"].get(name), unit) for name, _, unit in columns]
            rows.append([ROLES["model"], "pixels, pooled", *pooled])
    return Table(
        ["", "weighting", *(title for _, title, _ in columns)], rows, caption=said, strong=strong
    )


def _with_interval(value: float | None, interval: Sequence[float | None] | None, unit: str) -> str:
    text = value_text(value, unit)
    if not interval or interval[0] is None or interval[1] is None:
        return text
    if unit == "%":
        return f"{text} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{text} ({interval[0]:.3g} to {interval[1]:.3g})"


def _places(results: Mapping[str, Any], task: str, variant: str) -> Table:
    columns = COLUMNS[task][:3] if task != "semantic" else COLUMNS[task][:1]
    entries = _of(results, task, variant=variant, weighting="pixels")
    places = list(dict.fromkeys(entry["place"] for entry in entries))
    roles = [role for role in ROLES if any(entry["role"] == role for entry in entries)]
    rows = []
    for place in places:
        here = {entry["role"]: entry for entry in entries if entry["place"] == place}
        cells = [
            value_text(here[role]["mean"].get(name), unit) if role in here else "–"
            for name, _, unit in columns
            for role in roles
        ]
        rows.append([place, *cells])
    heads = [
        f"{title}, {ROLES[role]}" if role != "model" else title
        for _, title, _ in columns
        for role in roles
    ]
    return Table(["where", *heads], rows, caption=f"{TITLES[task]} by place")


def _pictures(
    results: Mapping[str, Any], folder: Path, shown: Sequence[str], tasks: Sequence[str]
) -> list[Section]:
    if not shown:
        return []
    classes = results["protocol"]["classes"]
    limit = results["protocol"]["depth_m"]
    items = [panorama_item(folder / key, key, classes, limit and limit[1]) for key in shown]
    found = [
        Section(
            "Panoramas",
            text=(
                "From the worst to the best. A click on a picture opens the panorama to look"
                " around in; truth and prediction of the classes can be switched. Depth: near is"
                " bright, sky dark. Errors: dark is right, the brighter the worse."
            ),
            blocks=[Gallery(items, columns=3)],
        )
    ]
    if "depth" in tasks:
        views: list[PointView] = [
            view
            for key in shown[:POINT_VIEWS]
            if (view := point_view(folder / key, key, classes)) is not None
        ]
        found.append(
            Section(
                "In space",
                text=(
                    "The pixels of a panorama as points where its depth puts them, seen from"
                    " outside. Drag to turn, scroll or pinch to come nearer; height hides what is"
                    " above, so that one looks into a room."
                ),
                blocks=views,
            )
        )
    return found


def _published(results: Mapping[str, Any]) -> Section:
    return Section(
        "Beside published results",
        text=(
            "What others print of theirs, not reproduced here. A row compares with ours only on"
            " the same data at the same size, with the same classes and limits of depth."
        ),
        blocks=[block_of(table) for table in DENSE_TABLES],
    )


def _protocol(results: Mapping[str, Any]) -> Section:
    protocol, data, weights = results["protocol"], results["dataset"], results["weights"]
    facts = {
        "protocol id": results["protocol_id"],
        "tasks": ", ".join(protocol["tasks"]),
        "classes": protocol["classes"],
        "void": data.get("void"),
        "depth that counts": protocol["depth_m"]
        and f"up to {protocol['depth_m'][1]:g} m, predictions clamped to it",
        "scored at": (
            f"{2 * protocol['height_px']}×{protocol['height_px']}"
            if protocol["height_px"]
            else "the data's own size"
        ),
        "average": protocol["average"],
        "weights": weights["source"],
        "weights sha256": weights["sha256"],
        "dataset manifest sha256": data["manifest_sha256"],
        "left out": data.get("left_out"),
    }
    return Section("Protocol", blocks=[Facts({k: v for k, v in facts.items() if v is not None})])
