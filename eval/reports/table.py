"""The table that `pano eval` prints.

Every method's score with its interval, beside the ceilings, and both by size.

Takes the content of results.json (of panoramas or of videos), gives lines of text. The full tables
are in the report.
"""

from collections.abc import Mapping
from typing import Any

from panoforge.core.numbers import counted
from panoforge.eval.reports import sap
from panoforge.eval.reports.text_table import columns
from panoforge.eval.scoring.metrics.tracking import TRACKING
from panoforge.eval.scoring.salient import OFFICIAL, SALIENCY_HEADS, SEAM_AWARE

RANDOM = "Random weights: the model's scores say nothing about SAM2."


def as_lines(results: Mapping[str, Any]) -> list[str]:
    """The table of an evaluation of masks, in percent."""
    lines = (
        _video_lines(results)
        if results["format"] == "panoforge-video-results"
        else _panorama_lines(results)
    )
    said = {"Warning": "warning", "Left out": "left_out"}
    notes = {title: results["dataset"].get(key) for title, key in said.items()}
    random = [RANDOM] if results["weights"]["kind"] == "random" else []
    lines += sap.as_lines(results) if results.get("corrected") else []
    return [*random, *lines, *(f"{title}: {note}" for title, note in notes.items() if note)]


def _panorama_lines(results: Mapping[str, Any]) -> list[str]:
    found = {(s["method"], s["role"]): s for s in results["scores"]}
    sizes = [e for e in results["groups"] if e["by"] == "size"]
    groups = list(dict.fromkeys(e["group"] for e in sizes))
    by_size = {(e["group"], e["method"], e["role"]): e["miou"] for e in sizes}
    counts = {e["group"]: e["instances"] for e in sizes}
    heads = [f"{group} ({counts[group]}): mIoU | ceiling at logits" for group in groups]
    rows = [["method", "mIoU", "J&F", "AP", "ceiling", "at logits", "floor", *heads]]
    for method in dict.fromkeys(s["method"] for s in results["scores"]):
        score = found[method, "model"]
        cells = [
            f"{_percent(by_size[g, method, 'model'])} |"
            f" {_percent(by_size[g, method, 'logit ceiling'])}"
            for g in groups
        ]
        rows.append(
            [
                method,
                _interval(score["miou"], score["miou_low"], score["miou_high"]),
                _percent(score["j_and_f"]),
                _percent(score["ap"]),
                _percent(found[method, "ceiling"]["miou"]),
                _percent(found[method, "logit ceiling"]["miou"]),
                _percent(found[method, "floor"]["miou"]),
                *cells,
            ]
        )
    names = (*OFFICIAL, *SEAM_AWARE)
    salient = [
        [s["method"], s["role"], *(_percent(s[name]) for name in names)]
        for s in results.get("saliency", ())
    ]
    if salient:
        salient = [["all masks together", "", *SALIENCY_HEADS], *salient]
    first = next(iter(found.values()), None)
    what = (
        f"{counted(first['instances'], 'instance')} in {counted(first['panoramas'], 'panorama')}"
        if first
        else "nothing was scored"
    )
    return [
        *columns(rows),
        *(columns(salient) if salient else ()),
        (
            f"{what}, protocol {results['protocol_id']}; 95 % intervals by panorama; ceilings are"
            " ground truth on the same path, as it is and at the resolution of the model's logits;"
            " the floor is no masks"
        ),
    ]


VIDEO_SCORES = (
    "j",
    "f",
    "f_seam",
    "j_sphere",
    "f_sphere",
    "j_sphere_official",
    "f_sphere_official",
)
VIDEO_HEADS = (
    "J",
    "F",
    "F seam-aware",
    "J_sphere",
    "F_sphere",
    "J_sphere official",
    "F_sphere official",
)


def _video_lines(results: Mapping[str, Any]) -> list[str]:
    lines, scores = [], results["scores"]
    if any(s["j"] is not None for s in scores):
        rows = [["", "J&F", *VIDEO_HEADS]]
        rows += [
            [
                s["role"],
                _interval(s["j_and_f"], s["j_and_f_low"], s["j_and_f_high"]),
                *(_percent(s.get(name)) for name in VIDEO_SCORES),
            ]
            for s in scores
        ]
        lines += columns(rows)
    if any(s["tracking"] for s in scores):
        heads = ["S_dual", "P_dual", "normalised P_dual", "P_angle", "S_sphere", "P_angle of BFoVs"]
        rows_of = [
            [s["role"], mode, *(_percent(s["tracking"].get(name + end)) for name in TRACKING)]
            for s in scores
            for mode, end in (("official", "_official"), ("seam-aware", ""))
        ]
        lines += columns([["boxes around the masks", "mode", *heads], *rows_of])
    if results.get("submission"):
        lines.append(
            f"nothing to score with here: the masks for the benchmark's server are in"
            f" {results['submission']}, checked; zip that folder"
        )
    return [*lines, *_label_lines(results), _video_line(results)]


def _label_lines(results: Mapping[str, Any]) -> list[str]:
    """A line for each label that the data give their objects: how many, and the model's J&F."""
    rows = [
        [entry["label"], str(entry["objects"]), _percent(entry["j_and_f"])]
        for entry in results.get("labels", [])
    ]
    return columns([["label", "objects", "J&F"], *rows]) if rows else []


def _video_line(results: Mapping[str, Any]) -> str:
    data = results["dataset"]
    return (
        f"{data['videos']} of {counted(data['of'], 'video')} of {data['name']}, protocol"
        f" {results['protocol_id']}"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return (
        _percent(value)
        if low is None or high is None
        else f"{_percent(value)} [{_percent(low)}, {_percent(high)}]"
    )
