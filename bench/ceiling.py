"""What a perfect model would score: ground truth through the scan, at its own resolution and at
SAM2's 256² logits, with and without a second look.

    python -m bench.ceiling [--quick] [--dataset DIR --panoramas N | --staged DIR …] [--record]
    python -m bench.ceiling --scan-only --view-px 256 --staged DIR …     rooms of 1024×512

The work: real rendered label maps, instances of at least 64 pixels, the 24 views of SAP's scan at
1024². The maps are bench/data's furnished room at 4096×2048, or N panoramas of a dataset, or staged
panoramas, of which only instance.zst is read. Lines: masks as they are (what geometry alone costs)
and masks averaged down to 256² logits (what SAM2's resolution costs). Both are merged by mean and
by maximum, and go through `scan_zoom`. Ground truth has no memory: a second cycle says the same, so
one cycle stands for both. Tables: by size, by what is lost by cause, and mIoU with 95 % intervals,
by panorama where there are several, else by instance. The causes are measured for each instance:
the median width of its thinner half, in panorama pixels and in logits of the scan, and in how many
pieces it is. `--quick` is the room at 2048×1024 through views of 512² and logits of 128²,
`--view-px` any other size: the same pixels per logit. No race, so "ok" instead of a ratio.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.common import RESULTS, arguments, machine, use_one_thread
from bench.maps import room_labels
from panoforge.core.sample.array_codec import decode_array
from panoforge.eval.config import MergeRule
from panoforge.eval.scoring.metrics.crops import crop_instances

MIN_PIXELS = 64
TARGETS = {("scan_zoom", "as they are"): 0.997, ("scan_zoom", "logits"): 0.97}
WORST = 6
RULES: tuple[MergeRule, ...] = ("mean", "max")
CAUSES = ("no wider than a pixel", "thinner than a logit", "in pieces", "outline")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--dataset", type=Path, help="score panoramas of this dataset instead of the room"
    )
    parser.add_argument(
        "--staged",
        type=Path,
        nargs="+",
        help="score these staged panoramas (folders with instance.zst)",
    )
    parser.add_argument("--scan-only", action="store_true", help="leave scan_zoom out")
    parser.add_argument("--panoramas", type=int, default=1, help="how many of the dataset")
    parser.add_argument("--view-px", type=int, help="default: 1024, or 512 with --quick")
    args = parser.parse_args()
    size = args.view_px or (512 if args.quick else 1024)
    use_one_thread()
    import torch

    torch.set_num_threads(1)
    scores: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    facts: list[NDArray[np.float64]] = []
    shapes: list[list[Shape]] = []
    names = []
    for name, labels in panoramas(args):
        names.append(name)
        facts.append(instance_facts(labels))
        shapes.append(
            [
                shape_of(crop.mask)
                for crop in crop_instances(labels, facts[-1][:, 0].astype(int).tolist(), wrap=True)
            ]
        )
        for (method, masks), values in score(labels, size, args.scan_only).items():
            scores.setdefault((method, masks), []).append(values)
        logit_px = labels.shape[1] / 4 / (size // 4)  # panorama pixels to one of a 90° view, about
        worst(
            name,
            facts[-1],
            shapes[-1],
            {key: values[-1] for key, values in scores.items()},
            logit_px,
        )
    all_facts = np.concatenate(facts)
    several = len(names) > 1
    groups = [
        f"{name} {'' if several else i}"
        for name, some in zip(names, facts, strict=True)
        for i in range(len(some))
    ]
    table = {key: np.concatenate(values) for key, values in scores.items()}
    lines = [
        *by_size(table, all_facts),
        "",
        *by_cause(table, [shape.cause(logit_px) for some in shapes for shape in some]),
        "",
        *intervals(table, groups, "panorama" if several else "instance"),
    ]
    print("\n".join(lines))
    found = {key: float(values.mean()) for key, values in table.items()}
    ok = all(found[key] >= target for key, target in TARGETS.items() if key in found)
    if args.record:
        figures = ", ".join(
            f"{method} {masks} {value:.4f}" for (method, masks), value in found.items()
        )
        with open(RESULTS, "a") as file:
            file.write(
                f"| {time.strftime('%Y-%m-%d')} | ceiling, {', '.join(names)} | {figures} | | | | |"
                f" | {'yes' if ok else '**no**'} | {machine()} |\n"
            )
    print(
        json.dumps(
            {
                "bench": "ceiling",
                "ok": ok,
                "miou": {f"{a}, {b}": round(v, 4) for (a, b), v in found.items()},
                "targets": {f"{a}, {b}": v for (a, b), v in TARGETS.items()},
                "instances": len(all_facts),
                "panoramas": len(facts),
                "quick": args.quick,
                "machine": machine(),
            }
        )
    )


def panoramas(args: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    if args.dataset:
        from panoforge.core.shards.read import Dataset

        data = Dataset.open(args.dataset)
        for index in range(min(args.panoramas, len(data))):
            yield data[index].key, data[index].read("instance")
    elif args.staged:
        for folder in args.staged:
            yield folder.name, decode_array((folder / "instance.zst").read_bytes())
    else:
        labels = room_labels()
        yield "livingroom", np.ascontiguousarray(labels[::2, ::2]) if args.quick else labels


def instance_facts(labels: NDArray[np.uint16]) -> NDArray[np.float64]:
    """(N, 4) of the instances that count: id, pixels, steradians, seam or pole."""
    from panoforge.core.sample.label_maps import instance_stats

    stats = instance_stats(labels)
    kept = stats.pixels >= MIN_PIXELS
    return np.stack([stats.ids, stats.pixels, stats.area_sr, stats.seam | stats.pole], axis=1)[
        kept
    ].astype(np.float64)


def score(
    labels: NDArray[np.uint16], size: int, scan_only: bool
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """IoU of every instance by method and kind of mask."""
    from panoforge.eval.config import EvalConfig, MergeConfig
    from panoforge.eval.predictors.truth import GroundTruth
    from panoforge.eval.scoring.metrics import iou, row_counts
    from panoforge.eval.segmentation.prompts import click_instances
    from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs, segment
    from panoforge.eval.views.methods import get_method

    ids = instance_facts(labels)[:, 0].astype(int).tolist()
    panorama = PanoramaInput("", np.zeros((*labels.shape, 3), np.uint8), labels)
    prompts, found = click_instances(labels, ids), {}
    config = EvalConfig.model_validate({"scan": {"size_px": size}})
    for method in ("scan",) if scan_only else ("scan", "scan_zoom"):
        plan = get_method(method).plan(panorama.width, panorama.height, config)
        inputs = frame_inputs(panorama, plan)
        for masks, logits in (("as they are", None), ("logits", size // 4)):
            for rule in RULES if method == "scan" else RULES[:1]:
                how = MergeConfig(rule=rule)
                merged = segment(panorama, plan, inputs, prompts, GroundTruth(logits), how)
                name = method if rule == "mean" else f"{method}, {rule}"
                found[name, masks] = iou(row_counts(merged, labels, ids))
    return found


def intervals(
    table: dict[tuple[str, str], NDArray[np.float64]], groups: list[str], by: str
) -> list[str]:
    """The third table: mIoU, and the maximum's difference to the mean, with 95 % intervals."""
    from panoforge.eval.scoring.metrics.stats import Interval, bootstrap_mean, paired_test

    def cell(found: Interval) -> str:
        low, high = (100 * (v if v is not None else np.nan) for v in (found.low, found.high))
        return f"{100 * (found.value or 0):.2f} [{low:.2f}, {high:.2f}]"

    rows = [f"| ground truth through | mIoU, 95 % by {by} | to the mean | p |", "|---|---|---|---|"]
    for (method, masks), values in table.items():
        base = table[method.removesuffix(", max"), masks]
        test = paired_test(base.tolist(), values.tolist(), groups)
        against = "| | |"
        if base is not values:
            against = f"| {cell(test.difference)} | {test.p_value:.3g} |"
        own = cell(bootstrap_mean(values.tolist(), groups))
        rows.append(f"| {method}, masks {masks} | {own} {against}")
    return rows


def by_size(
    table: dict[tuple[str, str], NDArray[np.float64]], facts: NDArray[np.float64]
) -> list[str]:
    """The table: mIoU of all, by size, of those on the seam or over a pole."""
    from panoforge.eval.scoring.scores import LARGE_SR, SMALL_SR

    area, crossing = facts[:, 2], facts[:, 3] > 0
    tiny = SMALL_SR / 4
    groups = {
        "all": np.ones(len(facts), bool),
        "tiny (< 16²)": area < tiny,
        "small (< 32²)": (area >= tiny) & (area < SMALL_SR),
        "medium": (area >= SMALL_SR) & (area < LARGE_SR),
        "large (> 96²)": area >= LARGE_SR,
        "seam or pole": crossing,
        "of 500 pixels and more": facts[:, 1] >= 500,
    }
    groups = {name: kept for name, kept in groups.items() if kept.any()}
    rows = [
        "| ground truth through | "
        + " | ".join(f"{name}, {kept.sum()}" for name, kept in groups.items())
        + " |",
        "|---|" + "---|" * len(groups),
    ]
    for (method, masks), values in table.items():
        cells = [f"{100 * values[kept].mean():.2f}" for kept in groups.values()]
        rows.append(f"| {method}, masks {masks} | " + " | ".join(cells) + " |")
    return rows


@dataclass(frozen=True)
class Shape:
    """How thin a mask is (median width along its ridges, pixels) and in how many pieces."""

    thin_px: float
    pieces: int

    def cause(self, logit_px: float) -> str:
        """What it loses by, of CAUSES."""
        return CAUSES[
            (
                0
                if self.thin_px <= 1
                else 1
                if self.thin_px < logit_px
                else 2
                if self.pieces > 3
                else 3
            )
        ]


def shape_of(mask: NDArray[np.bool_]) -> Shape:
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    ridge = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    return Shape(2 * float(np.quantile(depth[ridge], 0.5)) - 1, pieces)


def by_cause(table: dict[tuple[str, str], NDArray[np.float64]], causes: list[str]) -> list[str]:
    """The second table: how much mIoU each kind of instance costs, in points."""
    kind = np.array(causes)
    rows = [
        "| mIoU lost, points | "
        + " | ".join(f"{cause}, {(kind == cause).sum()}" for cause in CAUSES)
        + " |",
        "|---|" + "---|" * len(CAUSES),
    ]
    for (method, masks), values in table.items():
        lost = [100 * (1 - values[kind == cause]).sum() / len(values) for cause in CAUSES]
        rows.append(
            f"| {method}, masks {masks} | " + " | ".join(f"{points:.2f}" for points in lost) + " |"
        )
    return rows


def worst(
    name: str,
    facts: NDArray[np.float64],
    shapes: list[Shape],
    scores: dict[tuple[str, str], NDArray[np.float64]],
    logit_px: float,
) -> None:
    """The instances that lose most with the second look, of both kinds of mask."""
    for masks in ("as they are", "logits"):
        if ("scan_zoom", masks) not in scores:
            continue
        best, scan = scores["scan_zoom", masks], scores["scan", masks]
        print(
            f"{name}, masks {masks}: {len(best)} instances lose {(1 - best).sum():.2f} in all with"
            " the look"
        )
        for k in np.argsort(best)[:WORST]:
            shape = shapes[k]
            print(
                f"  id {int(facts[k, 0])}: {best[k]:.3f} ({scan[k]:.3f} without the look),"
                f" {int(facts[k, 1])} pixels, {shape.thin_px:.1f} pixels thin, {shape.pieces}"
                f" pieces: {shape.cause(logit_px)}"
            )


if __name__ == "__main__":
    main()
