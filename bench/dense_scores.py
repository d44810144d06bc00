"""What bench.learns_dense measures: held-out scores of a model by room, pooled, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEAM_COLUMNS = 8
METRICS = ("miou", "abs_rel", "normal_deg")
HIGHER = ("miou",)


@dataclass(frozen=True)
class Scored:
    """Held-out scores of one trained model, by room.

    `confusion` (rooms, K, K + 1). `depth` and `normal` (rooms, 2): sums of weighted errors, and of
    weights. `seam` (2, 2): the same of the seam's columns alone, depth and normals. `turned` (2,):
    degrees and relative depth that a quarter turn changes.
    """

    confusion: NDArray[np.float64]
    depth: NDArray[np.float64]
    normal: NDArray[np.float64]
    seam: NDArray[np.float64]
    turned: NDArray[np.float64]

    def metric(self, name: str, times: NDArray[np.int64] | None = None) -> float:
        """A pooled score, each room counted so many times (once)."""
        from panoforge.eval.scoring.metrics.semantics import semantic_scores

        times = np.ones(len(self.depth), np.int64) if times is None else times
        if name == "miou":
            return semantic_scores(np.tensordot(times, self.confusion, 1))["miou"]
        error, weight = times @ (self.depth if name == "abs_rel" else self.normal)
        return float(error / weight)

    def metrics(self) -> dict[str, float]:
        """The three pooled scores."""
        return {name: self.metric(name) for name in METRICS}

    def at_the_seam(self) -> tuple[float, float]:
        """AbsRel and degrees of the seam's columns over those of all columns."""
        whole = self.metrics()
        depth, normal = self.seam
        return (
            float(depth[0] / depth[1] / whole["abs_rel"]),
            float(normal[0] / normal[1] / whole["normal_deg"]),
        )

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @staticmethod
    def load(path: Path) -> "Scored":
        with np.load(path) as found:
            return Scored(*(found[name] for name in Scored.__dataclass_fields__))


@dataclass(frozen=True)
class Said:
    """One panorama's predictions."""

    semantic: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normal: NDArray[np.float32]


def room_sums(said: Any, panorama: Any, classes: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """One room's confusion, sums of depth and of normals, and those of the seam's columns.

    `said` and `panorama` have `semantic` uint8 H×W, `depth_m` H×W and `normal` H×W×3.
    """
    from panoforge.core.geometry.sphere import row_area_sr
    from panoforge.eval.scoring.metrics.normals import angles_deg
    from panoforge.eval.scoring.metrics.semantics import confusion

    height, width = panorama.depth_m.shape
    rows = row_area_sr(width, height)
    weights = np.broadcast_to(rows[:, None], (height, width))
    table = confusion(panorama.semantic, said.semantic, classes, row_weight=rows)
    off = np.abs(said.depth_m - panorama.depth_m) / panorama.depth_m
    degrees = angles_deg(panorama.normal.reshape(-1, 3), said.normal.reshape(-1, 3))
    degrees = degrees.reshape(height, width)
    half = SEAM_COLUMNS // 2
    seam = np.r_[0:half, width - half : width]

    def sums(errors: NDArray, columns: Any = slice(None)) -> NDArray[np.float64]:
        w = weights[:, columns]
        return np.array([(errors[:, columns] * w).sum(), w.sum()])

    return table, sums(off), sums(degrees), np.stack([sums(off, seam), sums(degrees, seam)])


def gathered(
    parts: list[tuple[NDArray, NDArray, NDArray, NDArray]],
    turned: NDArray[np.float64] | None = None,
) -> Scored:
    """All rooms' sums."""
    tables, depth, normal, seam = zip(*parts, strict=True)
    sums = np.stack(tables), np.stack(depth), np.stack(normal), np.sum(seam, axis=0)
    return Scored(*sums, np.zeros(2) if turned is None else turned)


def quarter_turn(model: Any, room: Any, said: Said) -> NDArray[np.float64]:
    """Mean degrees of normals and mean relative depth that a turn by a quarter changes."""
    from panoforge.eval.scoring.metrics.normals import angles_deg
    from panoforge.train.data.sources.whole import about_vertical

    columns = room.depth_m.shape[1] // 4
    moved = predicted(model, np.roll(room.rgb, columns, axis=1))
    # What was ahead is a quarter further right now: back by as much.
    normal = np.roll(moved.normal, -columns, axis=1) @ about_vertical(90.0)
    depth_m = np.roll(moved.depth_m, -columns, axis=1)
    degrees = angles_deg(said.normal.reshape(-1, 3), normal.reshape(-1, 3))
    return np.array([degrees.mean(), (np.abs(depth_m - said.depth_m) / said.depth_m).mean()])


def held_out_rooms(dataset: Path, config: Any) -> list[Any]:
    """The held-out panoramas with their truth, as they are, in the order of the dataset."""
    from panoforge.core.categories.class_map import class_map
    from panoforge.core.shards.read import Dataset
    from panoforge.train.data.dense_source import PLAIN
    from panoforge.train.data.panoramas import PanoramaPlan, build_panorama

    data, model = Dataset.open(dataset / "val", "val"), config.dense.model
    still = PanoramaPlan(0, 0, 0.0, 0.0, 0.0, False, 0, 0.0, 0.0)
    classes = class_map(model.classes)
    return [
        build_panorama(data.read(i), still, PLAIN, model.tasks, classes, model.height_px)
        for i in range(len(data))
    ]


def score_model(weights: Path, dataset: Path, config: Any) -> Scored:
    """The held-out scores of a trained model, rebuilt from its file."""
    from panoforge.train.model.mtpano.build import load_dense

    model, parts, turned = load_dense(weights), [], []
    for room in held_out_rooms(dataset, config):
        said = predicted(model, room.rgb)
        parts.append(room_sums(said, room, model.classes))
        turned.append(quarter_turn(model, room, said))
    return gathered(parts, np.mean(turned, axis=0))


def predicted(model: Any, rgb: NDArray[np.float32]) -> Said:
    """The model's predictions of a picture H×W×3."""
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None])
    return Said(
        out.semantic[0].argmax(dim=0).byte().numpy(),
        out.depth_m[0].numpy(),
        out.normal[0].numpy().transpose(1, 2, 0),
    )


def score_mean(dataset: Path, config: Any) -> Scored:
    """The held-out scores of what is most frequent, or the mean, in each row of training rooms."""
    from panoforge.core.categories.class_sets import class_set
    from panoforge.core.shards.read import Dataset
    from panoforge.train.data.dense_source import PanoramaSource

    data = Dataset.open(dataset / "train", "train")
    source = PanoramaSource(data, config)
    classes, height = len(class_set(config.dense.model.classes)), config.dense.model.height_px
    counts, log_depth = np.zeros((height, classes)), np.zeros(height)
    normal = np.zeros((height, 3))
    for position in range(len(data)):  # one epoch, augmented as for the networks
        batch: Any = source.batch((position,))
        ids = batch.semantic[0].numpy()
        for row in range(height):
            counts[row] += np.bincount(ids[row][ids[row] < classes], minlength=classes)
        log_depth += np.log(batch.depth_m[0].numpy()).mean(axis=1)
        normal += batch.normal[0].numpy().mean(axis=2).T
    shape = (height, 2 * height)
    said = Said(
        np.broadcast_to(counts.argmax(axis=1).astype(np.uint8)[:, None], shape),
        np.broadcast_to(np.exp(log_depth / len(data)).astype(np.float32)[:, None], shape),
        np.broadcast_to(normal[:, None].astype(np.float32), (*shape, 3)),
    )
    rooms = held_out_rooms(dataset, config)
    return gathered([room_sums(said, room, classes) for room in rooms])


def draws(
    scores: Sequence[Scored], metric: str, other: Sequence[Scored] | None
) -> NDArray[np.float64]:
    """Bootstrap draws of a score, or of the difference to `other`'s, paired by seed and room."""
    rng = np.random.default_rng(0)
    count, rooms = len(scores), len(scores[0].depth)
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        seeds = rng.integers(count, size=count)
        times = np.bincount(rng.integers(rooms, size=rooms), minlength=rooms)
        values = [
            scores[s].metric(metric, times) - (other[s].metric(metric, times) if other else 0.0)
            for s in seeds
        ]
        found[draw] = np.mean(values)
    return found


def bounds(
    scores: Sequence[Scored], metric: str, other: Sequence[Scored] | None = None
) -> tuple[float, float]:
    """The central 95 % of the draws."""
    low, high = np.percentile(draws(scores, metric, other), [2.5, 97.5])
    return float(low), float(high)


def interval(scores: Sequence[Scored], metric: str, other: Sequence[Scored] | None = None) -> str:
    """A score, or a difference, with its interval."""
    middle = np.mean([score.metric(metric) for score in scores])
    if other:
        middle -= np.mean([score.metric(metric) for score in other])
    low, high = bounds(scores, metric, other)
    digits = 2 if metric == "normal_deg" else 3
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
