"""What a perfect model would score: ground truth through the scan, at its own resolution and at SAM2's 256² logits, with and
without a second look.

    python -m bench.ceiling [--quick] [--dataset DIR --panoramas N] [--record]

The work: real rendered label maps (bench/data's furnished room at 4096×2048; or N panoramas of a dataset), instances of at least 64
pixels, the 24 views of SAP's scan at 1024². Four lines: masks as they are (what geometry alone costs), masks averaged down to 256²
logits (what SAM2's resolution costs), and both again with `scan_zoom`. Printed by size, and for the instances that lose most, why:
the width of their thinnest half, in panorama pixels and in logits, is measured, not guessed. `--quick` is the room at 2048×1024
through views of 512² and logits of 128²: the same pixels per logit. No race, so "ok" instead of a ratio.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.common import RESULTS, arguments, machine, use_one_thread
from bench.maps import room_labels

MIN_PIXELS = 64
TARGETS = {("scan", "as they are"): 0.997, ("scan_zoom", "logits"): 0.97}
WORST = 8


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dataset", type=Path, help="score panoramas of this dataset instead of the room")
    parser.add_argument("--panoramas", type=int, default=1, help="how many of the dataset")
    args = parser.parse_args()
    use_one_thread()
    import torch

    torch.set_num_threads(1)
    scores: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    facts: list[NDArray[np.float64]] = []
    for name, labels in panoramas(args):
        facts.append(instance_facts(labels))
        for (method, masks), values in score(labels, args.quick).items():
            scores.setdefault((method, masks), []).append(values)
        explain(name, labels, facts[-1], {key: values[-1] for key, values in scores.items()}, 256 // (2 if args.quick else 1))
    all_facts = np.concatenate(facts)
    table = {key: np.concatenate(values) for key, values in scores.items()}
    lines = by_size(table, all_facts)
    print("\n".join(lines))
    found = {key: float(values.mean()) for key, values in table.items()}
    ok = all(found[key] >= target for key, target in TARGETS.items())
    if args.record:
        with open(RESULTS, "a") as file:
            file.write("\n" + "\n".join(["`ceiling`, " + time.strftime("%Y-%m-%d") + f", {machine()}:", "", *lines]) + "\n")
    print(json.dumps({"bench": "ceiling", "ok": ok, "miou": {f"{a}, {b}": round(v, 4) for (a, b), v in found.items()},
                      "targets": {f"{a}, {b}": v for (a, b), v in TARGETS.items()}, "instances": len(all_facts),
                      "panoramas": len(facts), "quick": args.quick, "machine": machine()}))


def panoramas(args) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    if args.dataset:
        from pano.shards.read import Dataset

        data = Dataset.open(args.dataset)
        for index in range(min(args.panoramas, len(data))):
            yield data[index].key, data[index].read("instance")
    else:
        labels = room_labels()
        yield "livingroom", np.ascontiguousarray(labels[::2, ::2]) if args.quick else labels


def instance_facts(labels: NDArray[np.uint16]) -> NDArray[np.float64]:
    """(N, 4) of the instances that count: id, pixels, steradians, seam or pole."""
    from pano.masks import instance_stats

    stats = instance_stats(labels)
    kept = stats.pixels >= MIN_PIXELS
    return np.stack([stats.ids, stats.pixels, stats.area_sr, stats.seam | stats.pole], axis=1)[kept].astype(np.float64)


def score(labels: NDArray[np.uint16], quick: bool) -> dict[tuple[str, str], NDArray[np.float64]]:
    """IoU of every instance by method and kind of mask."""
    from eval.config import EvalConfig
    from eval.methods import get_method
    from eval.metrics import iou, row_counts
    from eval.predictors.truth import GroundTruth
    from eval.prompts import click_instances
    from eval.segment import Panorama, frame_inputs, segment

    size = 512 if quick else 1024
    ids = instance_facts(labels)[:, 0].astype(int).tolist()
    panorama = Panorama("", np.zeros((*labels.shape, 3), np.uint8), labels)
    prompts, found = click_instances(labels, ids), {}
    config = EvalConfig.model_validate({"scan": {"size_px": size}})
    for method in ("scan", "scan_zoom"):
        plan = get_method(method).plan(panorama.width, panorama.height, config)
        inputs = frame_inputs(panorama, plan)
        for masks, logits in (("as they are", None), ("logits", size // 4)):
            merged = segment(panorama, plan, inputs, prompts, GroundTruth(logits), clamp=10.0)
            found[method, masks] = iou(row_counts(merged, labels, ids))
    return found


def by_size(table: dict[tuple[str, str], NDArray[np.float64]], facts: NDArray[np.float64]) -> list[str]:
    """The table: mIoU of all, by size, of those on the seam or over a pole."""
    from eval.scores import LARGE_SR, SMALL_SR

    area, crossing = facts[:, 2], facts[:, 3] > 0
    tiny = SMALL_SR / 4
    groups = {
        "all": np.ones(len(facts), bool), "tiny (< 16²)": area < tiny, "small (< 32²)": (area >= tiny) & (area < SMALL_SR),
        "medium": (area >= SMALL_SR) & (area < LARGE_SR), "large (> 96²)": area >= LARGE_SR, "seam or pole": crossing,
    }
    groups = {name: kept for name, kept in groups.items() if kept.any()}
    rows = ["| ground truth through | " + " | ".join(f"{name}, {kept.sum()}" for name, kept in groups.items()) + " |",
            "|---|" + "---|" * len(groups)]
    for (method, masks), values in table.items():
        cells = [f"{100 * values[kept].mean():.2f}" for kept in groups.values()]
        rows.append(f"| {method}, masks {masks} | " + " | ".join(cells) + " |")
    return rows


def explain(
    name: str, labels: NDArray[np.uint16], facts: NDArray[np.float64], scores: dict[tuple[str, str], NDArray[np.float64]], side: int
) -> None:
    """Say of the instances that lose most in the best line how thin they are, and in how many pieces."""
    best, scan = scores["scan_zoom", "logits"], scores["scan", "logits"]
    lost = (1 - best).sum()
    logit_px = labels.shape[1] / 4 / side  # panorama pixels to a logit of a 90° view, about
    print(f"{name}: {len(best)} instances lose {lost:.2f} in all")
    for k in np.argsort(best)[:WORST]:
        mask = (labels == int(facts[k, 0])).astype(np.uint8)
        u = np.nonzero(mask)[1]
        if u.max() - u.min() > labels.shape[1] // 2:
            mask = np.roll(mask, labels.shape[1] // 2, axis=1)
        depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        ridge = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
        thin = 2 * float(np.quantile(depth[ridge], 0.5)) - 1
        pieces = cv2.connectedComponents(mask, connectivity=8)[0] - 1
        why = "thinner than a logit" if thin < logit_px else "in pieces" if pieces > 3 else "its outline"
        print(f"  id {int(facts[k, 0])}: {best[k]:.3f} ({scan[k]:.3f} without the look), {int(facts[k, 1])} pixels, "
              f"{thin:.1f} pixels thin = {thin / logit_px:.2f} logits of the scan, {pieces} pieces: {why}")


if __name__ == "__main__":
    main()
