"""The report of a video benchmark.

J&F and its spherical forms, the tracking scores of 360VOTS, and what others publish. One HTML file.

Takes the content of results.json (`panoforge.eval.videos.run.run_videos`); gives a page made with
`panoforge.core.report.page`. The ceiling, ground truth at the model's resolution on the same path,
stands beside the score; so does the benchmark's warning, if it has one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panoforge.core.numbers import count, counted, percent
from panoforge.core.report.page import (
    Banner,
    Bar,
    Details,
    Facts,
    Report,
    Section,
    Table,
    Tile,
    write_report,
)
from panoforge.eval.reports.published import TABLES, block_of
from panoforge.eval.scoring.metrics.tracking import ROTATED, TRACKING

OF_MASKS = (
    "Means over the annotated frames after each object's first, then over objects; the first mask"
    " is the prompt. The ceiling is ground truth at the model's resolution. Intervals are 95 %"
    " bootstrap intervals over videos."
)
OF_BOXES = (
    "Means over sequences; the first box is the prompt, and its frame counts, as in the toolkit."
    " The ceiling is the true box at the resolution of the model's logits; no BFoV can be had from"
    " a box, so it has no S_sphere."
)
SCORES_SHOWN = (
    "j",
    "f",
    "f_seam",
    "j_sphere",
    "f_sphere",
    "j_sphere_official",
    "f_sphere_official",
)
SEARCHES = {
    "whole": "whole, resized",
    "bfov": "of each object a view fitted to its last mask (BFoV search)",
    "scan": "as the views of a scan, frame by frame",
}
TOOLKIT = ("J sphere, official", "F sphere, official")
HEADS = (
    "S_dual",
    "P_dual at 20 px",
    "normalised P_dual",
    "P_angle at 3°",
    "S_sphere",
    "P_angle of BFoVs",
)


def write_video_report(path: Path, results: Mapping[str, Any]) -> None:
    """Write the report page of a video benchmark."""
    write_report(path, video_report(results))


def video_report(results: Mapping[str, Any]) -> Report:
    """The report as data."""
    data, weights, model = results["dataset"], results["weights"], results["model"]
    best = next((s for s in results["scores"] if s["role"] == "model"), None)
    what = (
        f"SAM2.1 {model['size']} at {model['image_size']}²"
        if model["predictor"] == "sam2"
        else weights["source"]
    )
    banners = (
        [Banner(data["warning"], kind="warn", title="Before you compare.")]
        if data.get("warning")
        else []
    )
    if weights["kind"] == "random":
        banners.insert(
            0,
            Banner(
                "The scores of the model say nothing about SAM2.",
                kind="warn",
                title="Random weights.",
            ),
        )
    return Report(
        title="Video evaluation",
        subtitle=(
            f"{what} · {count(data['videos'])} of {counted(data['of'], 'video')} of {data['name']}"
        ),
        made_by=f"panoforge {results['versions']['panoforge']} · protocol {results['protocol_id']}",
        banners=banners,
        tiles=_tiles(best, data["videos"]),
        sections=[_scores(results), _published(), _protocol(results)],
    )


def _tiles(best: Mapping[str, Any] | None, videos: int) -> list[Tile]:
    """The model's scores of its masks.

    Of the boxes around them where boxes are the truth.
    """
    scores: Mapping[str, Any] = best or {}
    objects = Tile(
        "Objects", count(scores.get("objects", 0)), note=f"in {counted(videos, 'video')}"
    )
    if scores.get("j") is None and scores.get("tracking"):
        tracking = scores["tracking"]
        return [
            Tile("S_dual", percent(tracking.get("s_dual_official")), note="official, as published"),
            Tile("S_dual, seam-aware", percent(tracking.get("s_dual"))),
            Tile("P_angle at 3°, seam-aware", percent(tracking.get("p_angle"))),
            objects,
        ]
    return [
        Tile("J&F", percent(scores.get("j_and_f")), note="seam as an edge, as published"),
        Tile("J sphere", percent(scores.get("j_sphere"))),
        Tile("F sphere", percent(scores.get("f_sphere"))),
        objects,
    ]


def _scores(results: Mapping[str, Any]) -> Section:
    blocks: list[Table | Details] = []
    masks = any(s["j"] is not None for s in results["scores"])
    if masks:
        rows = [
            [
                s["role"],
                Bar(s["j_and_f"], percent(s["j_and_f"])),
                _span(s),
                *(percent(s.get(name)) for name in SCORES_SHOWN),
            ]
            for s in results["scores"]
        ]
        blocks.append(
            Table(
                ["", "J&F", "95 %", "J", "F", "F, seam-aware", "J sphere", "F sphere", *TOOLKIT],
                rows,
                caption=(
                    "Of 360VOTS' toolkit are J and F with the seam as an edge, and J and F sphere,"
                    " official; the others know the seam and a pixel's solid angle."
                ),
            )
        )
    tracked = [
        [s["role"], mode, *(percent(s["tracking"].get(name + end)) for name in TRACKING)]
        for s in results["scores"]
        if s["tracking"]
        for mode, end in (("official", "_official"), ("seam-aware", ""))
    ]
    if tracked:
        blocks.append(
            Table(
                ["boxes around the masks", "mode", *HEADS],
                tracked,
                caption=(
                    "Official is the toolkit with what it does unasked"
                    " (eval/scoring/metrics/tracking.py lists it), to stand beside published"
                    " numbers; seam-aware is what the names say."
                ),
            )
        )
    turned = [
        [s["role"], *(percent(s["tracking"].get(name)) for name in ROTATED)]
        for s in results["scores"]
        if any(name in s["tracking"] for name in ROTATED)
    ]
    if turned:
        blocks.append(
            Table(
                ["rotated bounds", *HEADS],
                turned,
                caption=(
                    "Rotated boxes and rotated BFoVs, seam-aware. The toolkit's own overlap of"
                    " rotated boxes takes degrees for radians and needs a GPU: it was not run."
                ),
            )
        )
    if results.get("labels"):
        found = [
            [
                entry["label"],
                count(entry["objects"]),
                Bar(entry["j_and_f"], percent(entry["j_and_f"])),
            ]
            for entry in results["labels"]
        ]
        table = Table(["what it is", "objects", "J&F of the model"], found)
        blocks.append(Details("By what the objects are", [table]))
    return Section("Scores", text=OF_MASKS if masks else OF_BOXES, blocks=blocks)


def _span(entry: Mapping[str, Any]) -> str:
    low, high = entry["j_and_f_low"], entry["j_and_f_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _published() -> Section:
    tables = [
        block_of(table) for table in TABLES if "360VOTS" in table.title or "PanoVOS" in table.title
    ]
    return Section(
        "Beside published results",
        text="Numbers of others, copied from their texts; none was reproduced here.",
        blocks=[Details("360VOTS and PanoVOS, as published", tables)],
    )


def _protocol(results: Mapping[str, Any]) -> Section:
    weights, data = results["weights"], results["dataset"]
    video = results["protocol"].get("video", {})
    return Section(
        "Protocol",
        text="Two results may be compared only if their protocol ids are equal.",
        blocks=[
            Facts(
                {
                    "protocol id": results["protocol_id"],
                    "prompt": results["protocol"]["prompt"],
                    "frames are shown": SEARCHES[video.get("search", "whole")],
                    "memory": video.get("memory") or "as the weights were trained",
                    "weights": weights["source"],
                    "weights sha256": weights["sha256"],
                    "data sha256": data["manifest_sha256"],
                    "licence": data["licence"],
                    "left out": data["left_out"] or "nothing",
                }
            )
        ],
    )
