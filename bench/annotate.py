"""A3360V on held-out generated videos: what each phase gains, by seam, pole, size and absence.

Teachers are the truth of our renders, spoilt at stated rates (`RATES`): one entity and two panoptic
ones, each with a seed of its own. Two that need no weights carry masks along and answer SDR's
shifted prompts. `edges` is optical flow and GrabCut, and knows no truth. `stand-in` is true ids
with stated faults, in the place of a trained SAM2, of which there are no weights here.

Steps:

- teachers alone: the entity teacher on each frame, ids by IoU with the frame before;
- SDR on each frame;
- SDR on the first frame, then propagation;
- that, and MCR on keyframes.

J&F as of unsupervised video segmentation (DAVIS 2019): each true object takes one written id, all
together those with the most overlap. Boundaries go on over the seam. Objects without one score 0.

- **Target**: the whole scores 20 points more than teachers alone, where those have about 30.
- **Stills**: panoptic quality of the first frames, teachers alone and after SDR.
- **Cost**: seconds a frame by phase and peak memory, 63 objects at 2048×1024, in a process of its
  own, carried along by `edges`.

    python -m bench.annotate [--quick] [--dataset DIR] [--record]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import RESULTS, Outcome, Peer, arguments, finish, machine, use_one_thread

RATES = {
    "missing": 0.12,
    "merged": 0.04,
    "split": 0.08,
    "eroded": 0.3,
    "erode_px": 2,
    "mislabelled": 0.1,
}
STAND_IN = {"edge_px": 1, "lost": 0.05, "drift": 0.05}
STEPS: dict[str, dict[str, bool]] = {
    "teachers alone": {"sdr": False, "propagation": False},
    "+ SDR": {"propagation": False},
    "+ propagation": {"mcr": False},
    "+ MCR": {},
}
LEAST_PX, RESAMPLES, SMALL_SR, LARGE_SR = 64, 2000, 0.02, 0.2
FRAMES, QUICK = {"stand-in": 12, "edges": 4}, {"stand-in": 4, "edges": 2}  # of each video
TARGET_POINTS = 20.0
ROOM = 10_000  # ids: without propagation each thing that is lost takes another one


@dataclass(frozen=True)
class Row:
    """One true object of one video after one step."""

    video: str
    object: int
    score: float
    groups: tuple[str, ...]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dataset", type=Path, help="videos of our own; default: rendered here")
    parser.add_argument("--cost", action="store_true", help="the cost alone, in this process")
    args = parser.parse_args()
    use_one_thread()
    if args.cost:
        print(json.dumps(cost(2 if args.quick else 4)))
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or rendered(Path(folder), quick=args.quick)
        frames = QUICK if args.quick else FRAMES
        found = {who: steps(dataset, who, most) for who, most in frames.items()}
    tables = {who: summary(rows) for who, (rows, _) in found.items()}
    stills = {who: quality for who, (_, quality) in found.items()}
    whole, alone = tables["stand-in"]["+ MCR"]["all"], tables["stand-in"]["teachers alone"]["all"]
    command = [sys.executable, "-m", "bench.annotate", "--cost", *(["--quick"] * args.quick)]
    spent = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1]
    )
    outcome = Outcome(
        "annotate",
        100 - whole["j_and_f"],
        "100 − J&F",
        whole["objects"],
        (Peer("teachers alone", 100 - alone["j_and_f"], 1.0),),
        {
            "rates": RATES,
            "stand_in": STAND_IN,
            "gain_points": round(whole["j_and_f"] - alone["j_and_f"], 1),
            "ok": whole["j_and_f"] - alone["j_and_f"] >= TARGET_POINTS,
            "tables": tables,
            "panoptic_quality": stills,
            "cost": spent,
        },
    )
    print(as_markdown(tables, stills, spent))
    finish(outcome, args)


def rendered(folder: Path, *, quick: bool) -> Path:
    """configs/video.yaml's videos; the first room alone where it is quick."""
    words = [f"run={folder}", "samples=1", *(["scenes=1", "video.frames=4"] if quick else [])]
    for verb in (
        ["render", "configs/video.yaml", *words],
        ["pack", str(folder), "splits={train: 1.0}"],
    ):
        subprocess.run([sys.executable, "-m", "panoforge", *verb], check=True, stdout=sys.stderr)
    return folder / "dataset"


def steps(place: Path, who: str, most: int) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Rows by step, and panoptic quality of first frames, of one that carries masks along."""
    from panoforge.core.shards.read import Dataset
    from panoforge.label.inputs import DatasetFrames

    dataset = Dataset.open(place)
    rows: dict[str, list[Row]] = {step: [] for step in STEPS}
    quality: dict[str, list[float]] = {"teachers alone": [], "+ SDR": []}
    for key in dataset.videos["video"].to_pylist():
        video = dataset.video(key)
        frames = DatasetFrames(dataset, video.frame_keys[:most], video.meta.fps)
        true = np.stack([np.asarray(frames.labels(t)) for t in range(len(frames.names))])
        for step, flags in STEPS.items():
            begin = time.monotonic()
            said = labelled(dataset, frames, who, flags)
            rows[step] += list(scored(key, true, said))
            if step in quality:
                quality[step].append(panoptic_quality(true[0], said[0]))
            now = 100 * float(np.mean([r.score for r in rows[step] if r.video == key]))
            print(
                f"{who}, {key}, {step}: {now:.1f}, {time.monotonic() - begin:.0f} s",
                file=sys.stderr,
            )
    return rows, {step: round(100 * float(np.mean(q)), 1) for step, q in quality.items()}


def labelled(dataset: Any, frames: Any, who: str, flags: Mapping[str, bool]) -> np.ndarray:
    """The written ids of a video, T×H×W."""
    from panoforge.eval.interactive.following.edges import EdgeFollowing
    from panoforge.label.settings import JoinSettings
    from panoforge.label.teachers.noisy import NoiseRates, NoisyTruth
    from panoforge.label.teachers.truth import TruthTeacher, dataset_truths
    from panoforge.label.video.annotate import VideoLabeller, VideoRules
    from panoforge.label.video.asking import TeacherPanel
    from panoforge.label.video.noisy_truth import NoisyTruthFollowing
    from panoforge.label.video.runs import KeptFrames
    from panoforge.label.views.sets import ViewSetConfig

    truth = TruthTeacher(dataset_truths(dataset))
    teachers = [
        NoisyTruth(truth, NoiseRates.model_validate({**RATES, "seed": seed}), f"teacher {seed}")
        for seed in (1, 2, 3)
    ]
    panel = TeacherPanel(teachers[:1], teachers[1:], ViewSetConfig(kind="slices"), JoinSettings())
    following = EdgeFollowing() if who == "edges" else NoisyTruthFollowing(**STAND_IN)  # type: ignore[arg-type]
    rules = VideoRules.model_validate({**flags, "max_objects": ROOM})
    state = VideoLabeller(KeptFrames(frames), panel, following, rules).label()
    return np.stack([state.read(t) for t in range(len(frames.names))])


def scored(video: str, true: np.ndarray, said: np.ndarray) -> Iterator[Row]:
    """J&F of each true object, against the written id that it takes."""
    from scipy.optimize import linear_sum_assignment

    from panoforge.eval.scoring.metrics import jaccard
    from panoforge.eval.scoring.metrics.boundary import boundary_f

    pixels = np.stack([np.bincount(ids.ravel(), minlength=int(true.max()) + 1) for ids in true])
    objects = [id_ for id_ in range(1, pixels.shape[1]) if pixels[:, id_].max() >= LEAST_PX]
    ids = [id_ for id_ in np.unique(said).tolist() if id_]
    pair = true.astype(np.int64) * (int(said.max()) + 1) + said
    counts = np.bincount(pair.ravel(), minlength=(int(true.max()) + 1) * (int(said.max()) + 1))
    both = counts.reshape(int(true.max()) + 1, -1).astype(float)
    either = both.sum(1)[:, None] + both.sum(0)[None] - both
    share = (both / np.maximum(either, 1))[np.ix_(objects, ids)]
    taken = dict(zip(*linear_sum_assignment(-share), strict=True)) if ids else {}
    for row, id_ in enumerate(objects):
        own = ids[taken[row]] if row in taken and share[row, taken[row]] > 0 else -1
        values = []
        for ours, theirs in zip(said, true, strict=True):
            a, b = ours == own, theirs == id_
            if a.any() or b.any():
                values.append((jaccard(a, b) + boundary_f(a, b, "seam-aware")) / 2)
        yield Row(video, id_, float(np.mean(values)), groups_of(true == id_))


def groups_of(masks: np.ndarray) -> tuple[str, ...]:
    """What kind of object it is."""
    from panoforge.label.video.masks import areas_sr

    seen = masks.any(axis=(1, 2))
    area = float(areas_sr(list(masks[seen])).mean())
    at = np.flatnonzero(seen)
    return (
        "all",
        *(["seam"] * bool(masks[:, :, 0].any() and masks[:, :, -1].any())),
        *(["pole"] * bool(masks[:, 0].any() or masks[:, -1].any())),
        "small" if area < SMALL_SR else "large" if area > LARGE_SR else "medium",
        *(["absent for a while"] * bool(at[-1] - at[0] + 1 > len(at))),
        *(["enters late"] * bool(at[0] > 0)),
    )


def panoptic_quality(true: np.ndarray, said: np.ndarray) -> float:
    """PQ of one class (Kirillov et al. 2019): IoU over 0.5 is a match, and there is one at most."""
    pair = true.astype(np.int64) * (int(said.max()) + 1) + said
    both = np.bincount(pair.ravel(), minlength=(int(true.max()) + 1) * (int(said.max()) + 1))
    both = both.reshape(int(true.max()) + 1, -1)
    either = both.sum(1)[:, None] + both.sum(0)[None] - both
    share = both[1:, 1:] / np.maximum(either[1:, 1:], 1)
    matched = share[share > 0.5]
    there = (both.sum(1)[1:] > 0).sum() + (both.sum(0)[1:] > 0).sum()
    return float(matched.sum() / max(1, there / 2))


def summary(rows: Mapping[str, list[Row]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By step and group: J&F in points, and what the step gains on the one before, paired."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    before: list[Row] = []
    for step, own in rows.items():
        found[step] = {}
        for group in dict.fromkeys(name for row in own for name in row.groups):
            at = [k for k, row in enumerate(own) if group in row.groups]
            now = np.array([100 * own[k].score for k in at])
            entry: dict[str, Any] = {"objects": len(at), "j_and_f": round(float(now.mean()), 1)}
            if before:
                gain = now - np.array([100 * before[k].score for k in at])
                means = gain[rng.integers(0, len(gain), (RESAMPLES, len(gain)))].mean(axis=1)
                low, high = np.percentile(means, [2.5, 97.5])
                entry["gain"] = [round(float(v), 1) for v in (gain.mean(), low, high)]
            found[step][group] = entry
        before = own
    return found


def as_markdown(
    tables: Mapping[str, Any], stills: Mapping[str, Any], spent: Mapping[str, Any]
) -> str:
    """The tables for RESULTS.md."""
    lines = []
    for who, steps_ in tables.items():
        groups = list(steps_["teachers alone"])
        lines += [
            f"\nCarried along by {who}:\n",
            "| step | "
            + " | ".join(f"{g} ({steps_['teachers alone'][g]['objects']})" for g in groups)
            + " | gain (95 %) |",
            "|---" * (len(groups) + 2) + "|",
        ]
        for step, own in steps_.items():
            gain = own["all"].get("gain")
            said = f"{gain[0]:+.1f} ({gain[1]:+.1f} to {gain[2]:+.1f})" if gain else "–"
            lines.append(
                f"| {step} | "
                + " | ".join(f"{own[g]['j_and_f']:.1f}" for g in groups)
                + f" | {said} |"
            )
        lines.append(f"\nPanoptic quality of first frames: {stills[who]}")
    return "\n".join(
        [*lines, f"\nCost: {json.dumps(spent)}", f"Machine: {machine()}, {RESULTS.name}"]
    )


def cost(frames: int) -> dict[str, Any]:
    """Seconds a frame by phase and peak memory: 63 caps on a wall at 2048×1024."""
    from panoforge.eval.interactive.following.edges import EdgeFollowing
    from panoforge.label.labelling import NestedClock
    from panoforge.label.settings import JoinSettings
    from panoforge.label.teachers.truth import TrueThing, Truth, TruthTeacher
    from panoforge.label.video.annotate import VideoLabeller, VideoRules
    from panoforge.label.video.asking import TeacherPanel
    from panoforge.label.video.runs import KeptFrames
    from panoforge.label.views.sets import ViewSetConfig

    film = Caps(frames)
    things = {k: TrueThing("wall" if k == 1 else "ball", k > 1) for k in range(1, 64)}

    def truths(name: str) -> Truth:
        return Truth(film.labels(int(name)), things)

    teachers = [TruthTeacher(truths, name=f"teacher {k}") for k in range(3)]
    panel = TeacherPanel(teachers[:1], teachers[1:], ViewSetConfig(kind="slices"), JoinSettings())
    clock = NestedClock(now=time.process_time)
    base_mb = clock.peak_mb
    labeller = VideoLabeller(
        KeptFrames(film), panel, EdgeFollowing(), VideoRules(), clock=clock.phase
    )
    state = labeller.label()
    return {
        "objects": len(state.things),
        "frames": frames,
        "seconds_initial_and_keyframes": {
            k: round(v, 2) for k, v in clock.seconds.items() if k != "propagation"
        },
        "propagation_s_a_frame": round(
            clock.seconds.get("propagation", 0.0) / max(1, frames - 1), 2
        ),
        "peak_memory_mb": clock.peak_mb,
        "before_mb": base_mb,
    }


class Caps:
    """62 textured caps on a wall, each going its way."""

    fps, sha256, size = 8.0, "caps", (2048, 1024)

    def __init__(self, frames: int) -> None:
        self.names = [str(t) for t in range(frames)]
        self._kept: dict[int, np.ndarray] = {}

    def labels(self, number: int) -> np.ndarray:
        from panoforge.core.geometry.sphere import lonlat_to_direction, pixel_to_direction

        if number not in self._kept:
            width, height = self.size
            ways = pixel_to_direction(
                np.arange(width)[None], np.arange(height)[:, None], width, height
            )
            ids = np.ones((height, width), np.uint16)
            rng = np.random.default_rng(2)
            for k in range(62):
                lon, lat = -np.pi + k * 2.39996, np.arcsin(-0.95 + 1.9 * k / 61)
                middle = lonlat_to_direction(lon + 0.01 * number * rng.choice([-1, 1]), lat)
                ids[ways @ middle > np.cos(0.15)] = k + 2
            self._kept = {number: ids, **dict(list(self._kept.items())[:2])}
        return self._kept[number]

    def rgb(self, number: int) -> np.ndarray:
        rng = np.random.default_rng(3)
        noise = rng.integers(0, 20, (*self.size[::-1], 3)).astype(np.uint8)
        return rng.integers(20, 220, (64, 3)).astype(np.uint8)[self.labels(number)] + noise

    def again(self) -> "Caps":
        return self

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main()
