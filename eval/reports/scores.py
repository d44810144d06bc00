"""How well it went, as tables: scores, groups, saliency, and what others publish."""

from collections.abc import Mapping, Sequence
from typing import Any

from panoforge.core.numbers import count, percent
from panoforge.core.report.page import (
    Bar,
    Cell,
    Details,
    Facts,
    Section,
    Table,
)
from panoforge.eval.reports.published import SAP_ON_PAV_SOD, SAP_SOURCE, TABLES, block_of
from panoforge.eval.scoring.salient import OFFICIAL, SALIENCY_HEADS, SEAM_AWARE
from panoforge.eval.views.methods import get_method

SIDE_BY_SIDE = 3
SCORES = ("boundary_f", "j_and_f", "j_sphere", "f_sphere")


def scores_section(results: Mapping[str, Any]) -> Section:
    """A table of the methods' scores beside their bounds, and tables by group."""
    found = {(s["method"], s["role"]): s for s in results["scores"]}
    methods = list(dict.fromkeys(s["method"] for s in results["scores"]))
    rows: list[list[Any]] = []
    others: list[list[Any]] = []  # in a table of their own: in one, the ceilings were off the page
    for method in methods:
        score = found[method, "model"]
        rows.append(
            [
                method,
                Bar(score["miou"] or 0.0, percent(score["miou"])),
                _span(score),
                *(
                    percent(found[method, role]["miou"], 2)
                    for role in ("ceiling", "logit ceiling", "floor")
                ),
            ]
        )
        others.append(
            [
                method,
                percent(score["miou_cos"]),
                percent(score["miou_by_image"]),
                *(percent(score[name]) for name in SCORES),
                percent(score["ap"]),
            ]
        )
    best = max(range(len(rows)), key=lambda k: found[methods[k], "model"]["miou"] or 0.0, default=0)
    summaries = {name: get_method(name).summary for name in methods}
    return Section(
        "Scores",
        text=(
            "IoU of every instance on the panorama itself, then the mean. The ceiling is ground"
            " truth sent through the same frames and the same merging; the logit ceiling does so at"
            " the resolution of the model's own masks, which no weights can beat; the floor is no"
            " mask at all. Boundary F (DAVIS) is how much of both outlines lies within 0.8 % of the"
            " image diagonal of the other, also across the seam; J&F is the mean of both, the"
            " spherical ones weigh every pixel by its solid angle. AP ranks masks by how sure they"
            " are. Intervals are 95 % bootstrap intervals over panoramas."
        ),
        blocks=[
            Table(
                ["method", "mIoU", "95 %", "ceiling", "logit ceiling", "floor"],
                rows,
                strong=[best] if len(rows) > 1 else [],
            ),
            Table(
                [
                    "method",
                    "cos φ-weighted",
                    "mean over panoramas",
                    "boundary F",
                    "J&F",
                    "J sphere",
                    "F sphere",
                    "AP",
                ],
                others,
                strong=[best] if len(rows) > 1 else [],
            ),
            *_saliency(results),
            Facts(summaries),
            *_groups(results, methods),
        ],
    )


def _saliency(results: Mapping[str, Any]) -> list[Table]:
    """The masks together as a saliency map, for benchmarks of salient objects."""
    names = (*OFFICIAL, *SEAM_AWARE)
    rows = [
        [s["method"], s["role"], *(percent(s[name], 2) for name in names)]
        for s in results.get("saliency", ())
    ]
    heads = ["method", "", *SALIENCY_HEADS]
    caption = (
        "All masks of a panorama as one saliency map. First as the sets' evaluator computes it,"
        " then by solid angle, with E-measure as its paper has it, and with the seam turned to"
        " where nothing is. E-measure divides by one pixel less than there are, in the evaluator: a"
        " perfect map has a little over 100 %."
    )
    return [Table(heads, rows, caption=caption)] if rows else []


def _span(entry: Mapping[str, Any]) -> str:
    """'61.2 to 70.3', or a dash where one panorama says nothing of the spread."""
    low, high = entry["miou_low"], entry["miou_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _groups(results: Mapping[str, Any], methods: Sequence[str]) -> list[Table]:
    """A table per way to group.

    MIoU of each method with its interval, and its logit ceiling, in every group. Where many methods
    would run off the page, methods are rows if groups are few, and numbers stand alone if they are
    many too.
    """
    tables = []
    for by in dict.fromkeys(entry["by"] for entry in results["groups"]):
        entries = {
            (e["group"], e["method"], e["role"]): e for e in results["groups"] if e["by"] == by
        }
        groups = list(dict.fromkeys(key[0] for key in entries))
        numbers = {
            group: count(entries[group, methods[0], "model"]["instances"]) for group in groups
        }

        def pair(
            group: str, method: str, entries: Mapping[tuple[str, str, str], Any] = entries
        ) -> list[Any]:
            score, ceiling = (
                entries[group, method, "model"],
                entries[group, method, "logit ceiling"],
            )
            span = f" ({_span(score)})" if len(methods) <= SIDE_BY_SIDE else ""
            return [Bar(score["miou"], percent(score["miou"]) + span), percent(ceiling["miou"])]

        caption = f"mIoU by {by}"
        if len(methods) <= SIDE_BY_SIDE:
            caption += ", and its 95 % interval"
            heads = [
                by,
                "instances",
                *(head for method in methods for head in (method, "logit ceiling")),
            ]
            rows = [
                [
                    group,
                    numbers[group],
                    *(cell for method in methods for cell in pair(group, method)),
                ]
                for group in groups
            ]
        elif len(groups) <= SIDE_BY_SIDE:
            heads = [
                "method",
                *(
                    head
                    for group in groups
                    for head in (f"{group}, {numbers[group]}", "logit ceiling")
                ),
            ]
            rows = [
                [method, *(cell for group in groups for cell in pair(group, method))]
                for method in methods
            ]
        else:
            heads = [by, "instances", *methods]
            rows = [
                [
                    group,
                    numbers[group],
                    *(percent(entries[group, method, "model"]["miou"]) for method in methods),
                ]
                for group in groups
            ]
        tables.append(Table(heads, rows, caption=caption))
    return tables


def published_section(results: Mapping[str, Any]) -> Section:
    """Our scores above those that SAP publishes, then the tables of others."""
    data, weights = results["dataset"], results["weights"]
    what = (
        weights["source"]
        if weights["kind"] == "none"
        else f"SAM2.1 {results['model']['size']}, {weights['kind']} weights"
    )
    ours: list[list[Cell]] = [
        [
            f"{score['method']} ({what})",
            Bar(score["miou"] or 0.0, percent(score["miou"])),
            f"{data['name']}, this report",
            "measured here",
        ]
        for score in results["scores"]
        if score["role"] == "model"
    ]
    theirs: list[list[Cell]] = [
        [label, Bar(miou, percent(miou)), data_, "published, not reproduced"]
        for label, miou, data_ in SAP_ON_PAV_SOD
    ]
    tables = [block_of(table) for table in TABLES]
    return Section(
        "Beside published results",
        text=(
            "What others print of theirs. None of it was reproduced here, and a row compares with"
            " ours only on the same data under the same protocol: SAP publishes neither its clicks"
            " nor its averaging."
        ),
        blocks=[
            Table(
                ["method", "mIoU", "data", "evidence"],
                [*ours, *theirs],
                caption=(
                    "Zero-shot mIoU as published; ours as measured on our data. Source of the"
                    f" published rows: {SAP_SOURCE}."
                ),
            ),
            Details("Ablations and the 360° video benchmarks, as published", tables),
        ],
    )
