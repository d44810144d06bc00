"""The table of bench.reproduce_sap: scores by row and world, differences to the vanilla scan, and
what was forgotten of perspective videos.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.sap_recipes import IMAGE_PX, Row
from bench.solid_worlds import ANNOTATED_EVERY
from panoforge.core.foreign.masks import fill_runs, run_counts
from panoforge.core.foreign.pictures import read_image
from panoforge.eval.reports.sap import GROUPS, our_lines
from panoforge.eval.reports.text_table import columns
from panoforge.eval.scoring.metrics.stats import Interval, bootstrap_mean, holm, paired_test

GAIN = 0.05  # points of mIoU that the claim asks for, zero-shot
REFERENCE = ("vanilla", "scan")
VIDEO_FIGURES = ("click", "j", "shown", "missed", "invented")
HEADS = ("model", "method", "mIoU 1 (3)", "95 %", "small", "medium", "large")
MORE_HEADS = ("small px", "medium px", "large px", "seam or pole", "to vanilla scan", "p")
# Differences to the fine-tuned scan have a p of their own, not corrected for their number.
LAST_HEADS = ("to scan_mixed, scan", "p, alone")


def results_file(out: Path, row: Row) -> Path:
    """Where the scores of a row are listed."""
    return out / "scores" / row.name / "row.json"


def write_table(out: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """table.json and table.txt of the rows that are there; gives the content of the former."""
    listed = {row.name: json.loads(results_file(out, row).read_text()) for row in rows}
    shared = set.intersection(*(set(entry["worlds"]) for entry in listed.values()))
    worlds = {w: world_lines(out, rows, listed, w) for w in ("a", "b", "c") if w in shared}
    videos = {
        name: interval(entry["videos"]["j"], entry["videos"]["video"])
        for name, entry in listed.items()
    }
    gain = next(
        (
            line["difference"]
            for line in worlds["b"]
            if (line["model"], line["method"]) == ("scan_mixed", "scan")
        ),
        None,
    )
    table = {
        "worlds": worlds,
        "merges": merges(out, listed),
        "perspective_videos_j": videos,
        "perspective_videos": {
            name: video_summary(entry["videos"]) for name, entry in listed.items()
        },
        "gain": gain,
        "ok": gain is not None and gain[0] >= GAIN and (gain[1] or 0) > 0,
    }
    (out / "table.json").write_text(json.dumps(table, indent=1, ensure_ascii=False))
    (out / "table.txt").write_text(as_text(table) + "\n")
    return table


def world_lines(
    out: Path, rows: Sequence[Row], listed: dict[str, Any], world: str
) -> list[dict[str, Any]]:
    """A line for each model and method on one world; differences corrected for their number."""
    lines: list[dict[str, Any]] = []
    scores: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    for row in rows:
        results = json.loads((out / listed[row.name]["worlds"][world]).read_text())
        for sap in our_lines(results):
            own = [r for r in results["rows"] if (r["method"], r["role"]) == (sap.method, "model")]
            scores[row.name, sap.method] = {(r["key"], r["id"]): r["iou"] for r in own}
            keys = [r["key"] for r in own]
            lines.append(
                {
                    "model": row.name,
                    "what": row.what,
                    "method": sap.method,
                    "miou": interval([r["iou"] for r in own], keys),
                    "one_click": sap.first,
                    "three_clicks": sap.further,
                    "instances": sap.counts,
                    "ceiling": ceiling(results, sap.method),
                }
            )
    reference = scores[REFERENCE]
    instances = sorted(reference)
    keys = [key for key, _ in instances]
    base = [reference[i] for i in instances]
    others = [line for line in lines if (line["model"], line["method"]) != REFERENCE]
    tests = [
        paired_test(base, [scores[line["model"], line["method"]][i] for i in instances], keys)
        for line in others
    ]
    for line, test, p in zip(others, tests, holm([t.p_value for t in tests]), strict=True):
        line["difference"], line["p"] = spread(test.difference), p
    mixed = scores.get(("scan_mixed", "scan"), {})
    for line in lines if mixed else ():
        found = scores[line["model"], line["method"]]
        test = paired_test([mixed[i] for i in instances], [found[i] for i in instances], keys)
        line["to_mixed"], line["p_to_mixed"] = spread(test.difference), test.p_value
    return lines


def ceiling(results: dict[str, Any], method: str) -> float:
    """What ground truth scores at the resolution of the model's logits."""
    (found,) = [
        s["miou"]
        for s in results["scores"]
        if (s["method"], s["role"]) == (method, "logit ceiling")
    ]
    return float(found)


def merges(out: Path, listed: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean and maximum, one and two cycles, views near the click. By one click, with differences to
    the mean of one cycle and to the vanilla model seen in the same way.
    """
    lines = []
    for name, entry in listed.items():
        for world in ("a", "b", "c"):
            paths = {
                how.removeprefix(f"{world} "): path
                for how, path in entry["worlds"].items()
                if how.startswith(f"{world} ")
            }
            if not paths:
                continue
            ious = {
                how: scan_ious(json.loads((out / path).read_text()))
                for how, path in (("mean 1", entry["worlds"][world]), *paths.items())
            }
            instances = sorted(ious["mean 1"])
            keys = [key for key, _ in instances]
            base = [ious["mean 1"][i] for i in instances]
            for how, own in ious.items():
                column = [own[i] for i in instances]
                test = paired_test(base, column, keys)
                lines.append(
                    {
                        "model": name,
                        "world": world,
                        "merge": how,
                        "miou": interval(column, keys),
                        "difference": spread(test.difference),
                        "p": test.p_value,
                        "to_vanilla": to_vanilla(out, listed, world, how, column, instances),
                    }
                )
    return lines


def to_vanilla(
    out: Path,
    listed: dict[str, Any],
    world: str,
    how: str,
    column: Sequence[float],
    instances: Sequence[tuple[str, int]],
) -> list[float | None] | None:
    """Difference to the vanilla model seen in the same way, paired."""
    worlds = listed["vanilla"]["worlds"]
    path = worlds[world] if how == "mean 1" else worlds.get(f"{world} {how}")
    if path is None:
        return None
    base = scan_ious(json.loads((out / path).read_text()))
    keys = [key for key, _ in instances]
    return spread(paired_test([base[i] for i in instances], column, keys).difference)


def scan_ious(results: dict[str, Any]) -> dict[tuple[str, int], float]:
    """The model's IoU of each instance by the scan and one click."""
    rows = [r for r in results["rows"] if (r["method"], r["role"]) == ("scan", "model")]
    return {(r["key"], r["id"]): r["iou"] for r in rows}


def interval(values: Sequence[float], names: Sequence[str]) -> list[float | None]:
    """Mean, low and high; None without values."""
    return spread(bootstrap_mean(values, names)) if len(values) else [None, None, None]


def spread(found: Interval) -> list[float | None]:
    return [None if v is None else round(v, 4) for v in (found.value, found.low, found.high)]


def video_scores(weights: Path, folder: Path) -> dict[str, list[Any]]:
    """Held-out videos, each object from one click in the first frame: a line for each object.

    `click`: IoU in the first frame. `j`: the mean over all others, 1 where it is rightly not there.
    `shown`: the mean over those of them that show it. `missed`, `invented`: of the frames that
    show it, or do not, the share in which the model says otherwise. None: no such frame.
    """
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors import FrameInput, ObjectPrompt
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.load import load_model

    model = {"size": "micro", "image_size": IMAGE_PX, "checkpoint": weights}
    predictor = BatchedSam2(load_model(EvalConfig.model_validate({"model": model})).model)
    found: dict[str, list[Any]] = {name: [] for name in ("video", *VIDEO_FIGURES)}
    for path in sorted(folder.glob("*_manual.json")):
        content = json.loads(path.read_text())
        size = content["video_height"], content["video_width"]
        truth = np.stack(
            [
                [fill_runs(run_counts(rle, *size, str(path)), *size) for rle in objects]
                for objects in content["masklet"]
            ]
        )
        name = content["video_id"]
        images = [
            read_image(path.with_name(name) / f"{ANNOTATED_EVERY * t:05d}.jpg")
            for t in range(len(truth))
        ]
        shown = [k for k in range(truth.shape[1]) if truth[0, k].sum() >= 64]
        prompts = []
        for k in shown:
            inside = np.pad(truth[0, k], 1).astype(np.uint8)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
            v, u = divmod(int(depth.argmax()), size[1])
            point = np.array([[float(u), float(v)]]), np.ones(1, np.int32)
            prompts.append(ObjectPrompt(k + 1, {0: point}))
        frames = [FrameInput(image, np.zeros(size, np.uint16)) for image in images]
        said = np.zeros((len(truth), len(shown), *size), bool)
        for frame in predictor.predict(frames, prompts):
            for k, logits in zip(frame.objects, frame.logits, strict=True):
                said[frame.frame, k] = enlarged(logits.cpu().numpy(), size) > 0
        for k, object_ in enumerate(shown):
            for figure, value in video_figures(truth[:, object_], said[:, k]).items():
                found[figure].append(value)
            found["video"].append(name)
    return found


def video_figures(truth: np.ndarray, said: np.ndarray) -> dict[str, float | None]:
    """VIDEO_FIGURES of one object, from its T×H×W masks."""
    either, both = (truth | said).sum(axis=(1, 2)), (truth & said).sum(axis=(1, 2))
    iou = np.where(either, both / np.maximum(either, 1), 1.0)
    there, empty = truth[1:].any(axis=(1, 2)), ~said[1:].any(axis=(1, 2))
    return {
        "click": float(iou[0]),
        "j": float(iou[1:].mean()),
        "shown": float(iou[1:][there].mean()) if there.any() else None,
        "missed": float(empty[there].mean()) if there.any() else None,
        "invented": float((~empty)[~there].mean()) if not there.all() else None,
    }


def video_summary(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Mean and 95 % interval by video of each of VIDEO_FIGURES, and the objects that count."""
    summary: dict[str, Any] = {}
    for figure in VIDEO_FIGURES:
        pairs = [
            (value, video)
            for value, video in zip(found[figure], found["video"], strict=True)
            if value is not None
        ]
        values, videos = zip(*pairs, strict=True) if pairs else ((), ())
        summary[figure] = {"objects": len(pairs), "mean": interval(values, videos)}
    return summary


def enlarged(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Logits h×w at the size of a frame."""
    return cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR)


def as_text(table: dict[str, Any]) -> str:
    """The table as people read it, in percent."""
    lines = []
    for world, entries in table["worlds"].items():
        rows = [[*HEADS, *MORE_HEADS, *LAST_HEADS]]
        for line in entries:
            pairs = list(zip(line["one_click"], line["three_clicks"], strict=True))
            assert len(pairs) == len(GROUPS)
            rows.append(
                [
                    line["model"],
                    line["method"],
                    cell(*pairs[0]),
                    " to ".join(percent(v) for v in line["miou"][1:]),
                    *(cell(*pair) for pair in pairs[1:]),
                    signed(line.get("difference")),
                    "" if "p" not in line else f"{line['p']:.3g}",
                    signed(line.get("to_mixed")),
                    "" if "p_to_mixed" not in line else f"{line['p_to_mixed']:.3g}",
                ]
            )
        lines += [f"world {world}", *columns(rows), ""]
    heads = ("model", "world", "merge, cycles", "mIoU", "to mean of one cycle", "p", "to vanilla's")
    rows = [[*heads]]
    rows += [
        [
            entry["model"],
            entry["world"],
            entry["merge"],
            percent(entry["miou"][0]),
            signed(entry["difference"]),
            f"{entry['p']:.3g}",
            signed(entry["to_vanilla"]),
        ]
        for entry in table["merges"]
    ]
    lines += [*columns(rows), ""]
    rows = [["held-out perspective videos", "J", "95 %", *VIDEO_FIGURES[2:]]]
    for name, found in table["perspective_videos_j"].items():
        more = [percent(table["perspective_videos"][name][f]["mean"][0]) for f in VIDEO_FIGURES[2:]]
        rows.append([name, percent(found[0]), " to ".join(percent(v) for v in found[1:]), *more])
    return "\n".join([*lines, *columns(rows)])


def cell(first: float | None, further: float | None) -> str:
    return "–" if first is None else f"{percent(first)} ({percent(further)})"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def signed(found: Sequence[float | None] | None) -> str:
    if found is None or found[0] is None:
        return ""
    low, high = (percent(v) for v in found[1:])
    return f"{100 * found[0]:+.1f} [{low}, {high}]"
