"""The evaluation report: what was scored, with which weights, how well, and what it looks like.

One HTML file.

Takes the content of results.json and the folder of panorama results (their pictures); gives a page
made with `panoforge.core.report.page`. Scores never stand alone: beside each are the ceiling of its
geometry, the ceiling of the model's logit resolution, and the floor. Random or hardly trained
weights are announced above everything else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panoforge.core.numbers import count, counted, percent
from panoforge.core.report.page import (
    Banner,
    Details,
    Facts,
    Report,
    Section,
    Table,
    Tile,
    write_report,
)
from panoforge.eval.reports import sap
from panoforge.eval.reports.gallery import panoramas_section
from panoforge.eval.reports.scores import published_section, scores_section

FEW_STEPS = 1000
MERGES = {"mean": "centre-weighted mean", "max": "largest of the views that see a pixel"}


def write_evaluation_report(
    path: Path, results: Mapping[str, Any], folder: Path, panoramas: int
) -> None:
    """Write the report of `results` with pictures of up to `panoramas` panoramas.

    The worst and the best are included.
    """
    write_report(path, evaluation_report(results, folder, panoramas))


def evaluation_report(results: Mapping[str, Any], folder: Path, panoramas: int) -> Report:
    """The report as data."""
    data, weights, model = results["dataset"], results["weights"], results["model"]
    best = max(
        (s for s in results["scores"] if s["role"] == "model"),
        key=lambda s: s["miou"] or 0.0,
        default=None,
    )
    instances = len({(row["key"], row["id"]) for row in results["rows"]})
    what = (
        f"SAM2.1 {model['size']} at {model['image_size']}²"
        if model["predictor"] == "sam2"
        else weights["source"]
    )
    return Report(
        title="Evaluation",
        subtitle=f"{what} · {counted(data['panoramas'], 'panorama')} of {', '.join(data['size'])}",
        made_by=f"panoforge {results['versions']['panoforge']} · protocol {results['protocol_id']}",
        banners=_banners(results),
        tiles=[
            Tile(
                "Best mIoU",
                percent(best["miou"] if best else None),
                note=f"method {best['method']}" if best else "",
            ),
            Tile(
                "cos φ-weighted",
                percent(best["miou_cos"] if best else None),
                note="the same, by solid angle",
            ),
            Tile(
                "Instances",
                count(instances),
                note=f"prompts: {_prompts(results['protocol']['prompts']).split(',')[0]}",
            ),
            Tile(
                "Panoramas",
                count(data["panoramas"]),
                note=f"split {data['split']}" if data["split"] else "the whole dataset",
            ),
        ],
        sections=[
            scores_section(results),
            *([sap.section(results)] if results.get("corrected") else []),
            panoramas_section(results, folder, panoramas),
            published_section(results),
            _protocol(results),
        ],
    )


def _banners(results: Mapping[str, Any]) -> list[Banner]:
    weights = results["weights"]
    if weights["kind"] == "random":
        return [
            Banner(
                "The weights are random numbers: the scores of the model say nothing about SAM2 or"
                " SAP. Ceiling and floor are real measurements.",
                kind="warn",
                title="Random weights.",
            )
        ]
    if weights["kind"] == "none":
        return [
            Banner(
                f"No model was run: the predictor is “{weights['source']}”, which measures the path"
                " around a model.",
                title="No model.",
            )
        ]
    if weights["kind"] == "file":
        return [
            Banner(
                f"The masks are those of {weights['source']}, scored as they are: no views were"
                " shown and none merged. Ceilings are those of the method, not of that tool.",
                title="Masks of a file.",
            )
        ]
    steps = weights["steps"]
    if steps is not None and steps < FEW_STEPS:
        return [
            Banner(
                f"These weights were trained for {counted(steps, 'step')} only. The scores show"
                " that"
                " the chain works; they say nothing about what SAM2 or SAP can do. Ceiling and"
                " floor are real measurements.",
                kind="warn",
                title="Hardly trained.",
            )
        ]
    return []


def _prompts(rule: Mapping[str, Any]) -> str:
    """The prompts' rule in words."""
    if rule["kind"] == "click":
        number = "one click" if rule["clicks"] == 1 else counted(rule["clicks"], "click")
        return (
            f"{number} per instance, the first at its most interior point (angular distance, across"
            " seam and poles)"
        )
    if rule["kind"] == "file":
        return f"a prompts file, sha256 {rule['sha256']}"
    return f"the {rule['kind']} of every instance, in the frame that sees most of it"


def _protocol(results: Mapping[str, Any]) -> Section:
    weights, data, protocol = results["weights"], results["dataset"], results["protocol"]
    scan, chosen, machine = protocol["scan"], protocol["instances"], results["hardware"]
    limit = (
        f", at most {chosen['max_per_panorama']} drawn per panorama"
        if chosen["max_per_panorama"]
        else ""
    )
    facts = {
        "protocol id": results["protocol_id"],
        "prompts": f"{_prompts(protocol['prompts'])}; saved in prompts.json",
        "instances": f"all of at least {chosen['min_pixels']} pixels{limit}",
        "scan": (
            f"{scan['fov_deg']:g}° field of view, {scan['overlap']:.0%} overlap, views of"
            f" {scan['size_px']}²"
            + ("; shown twice, the second time's masks count" if scan["cycles"] == 2 else "")
        ),
        "merge": (
            f"logits clamped to ±{protocol['merge']['clamp']:g},"
            f" {MERGES[protocol['merge']['rule']]}, mask where above 0"
        ),
        "weights": (
            weights["source"]
            + (f", {counted(weights['steps'], 'step')}" if weights["steps"] is not None else "")
        ),
        "weights sha256": weights["sha256"],
        "dataset manifest sha256": data["manifest_sha256"],
        "machine": f"{machine['processor']}, {counted(int(machine['cores']), 'core')}",
    }
    if data.get("left_out"):
        facts["left out"] = data["left_out"]
    rows = [[name, version] for name, version in results["versions"].items()]
    return Section(
        "Protocol",
        text="Two results may be compared only if their protocol ids are equal.",
        blocks=[Facts(facts), Details("Versions", [Table(["package", "version"], rows)])],
    )
