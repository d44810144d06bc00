"""A3360V on held-out generated videos: what each phase gains, by seam, pole, size and absence.

Teachers are the truth of our clips, spoilt at stated rates (`RATES`): one entity and two panoptic
ones, each with a seed of its own. What carries masks along and answers SDR's shifted prompts:

- `stand-in`, true ids with stated faults, where a trained SAM2 would stand;
- `edges`, optical flow and GrabCut, which knows no truth;
- `trained`, with `--follower-checkpoint`: what bench/reproduce_sap.py has pretrained, SAM2's micro
  variant at 128 px. No truth reaches it.

Clips are rooms (configs/video.yaml, rendered here: 20 core-minutes) or solids, which take seconds.
In each of the solids' clips something is away for a while.

Steps:

- teachers alone: the entity teacher on each frame, ids by IoU with the frame before;
- SDR on each frame;
- SDR on the first frame, then propagation;
- that, and MCR on keyframes.

J&F as of unsupervised video segmentation (DAVIS 2019): each true object takes one written id, all
together those with the most overlap. Boundaries go on over the seam. Objects without one score 0.

- **Target**: the whole scores 20 points more than teachers alone, where those have about 30.
- **Carried**: the true masks of the first frame, carried along: what the follower itself can do.
- **Stills**: panoptic quality of every frame by itself, teachers alone and after SDR; 95 %
  bootstrap intervals over clips.
- **Cost**: seconds a frame by phase and peak memory, 63 objects at 2048×1024 (quick: 1024×512), in
  a process of its own, carried along by `edges`.

    python -m bench.annotate [--quick] [--clips solids] [--dataset DIR] [--record]
        [--follower-checkpoint FILE] [--follower trained]
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

from bench.annotate_clips import LEAST_PX, Caps, is_absent, rooms, solids
from bench.common import RESULTS, Outcome, Peer, arguments, finish, machine, use_one_thread

RATES = {
    "missing": 0.12,
    "merged": 0.04,
    "split": 0.08,
    "eroded": 0.3,
    "erode_px": 2,
    "mislabelled": 0.1,
}
UNSEEN = 8  # of the 62 caps that the cost is measured on: MCR finds them on the keyframe
STAND_IN = {"edge_px": 1, "lost": 0.05, "drift": 0.05}
STEPS: dict[str, dict[str, bool]] = {
    "teachers alone": {"sdr": False, "propagation": False},
    "+ SDR": {"propagation": False},
    "+ propagation": {"mcr": False},
    "+ MCR": {},
}
RESAMPLES, SMALL_SR, LARGE_SR = 2000, 0.02, 0.2
SOLIDS, QUICK_SOLIDS, SOLIDS_FRAMES = 36, 3, 10  # clips; absence lies within these frames
# By who carries along: of how many clips how many frames.
FULL = {"stand-in": (99, 12), "edges": (99, 4), "trained": (99, 12)}
QUICK = {"stand-in": (99, 10), "edges": (1, 2), "trained": (99, 10)}
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
    parser.add_argument("--dataset", type=Path, help="videos of your own; default: made here")
    parser.add_argument("--clips", choices=("rooms", "solids"), default="rooms")
    parser.add_argument("--follower-checkpoint", type=Path, help="of bench.reproduce_sap")
    parser.add_argument("--follower", choices=tuple(FULL), help="only who is named carries along")
    parser.add_argument("--cost", action="store_true", help="the cost alone, in this process")
    args = parser.parse_args()
    use_one_thread()
    if args.cost:
        print(json.dumps(cost(*((2, 1024) if args.quick else (4, 2048)))))
        return
    sizes = dict(QUICK if args.quick else FULL)
    if args.follower_checkpoint is None:
        del sizes["trained"]
    if args.follower is not None:
        if args.follower not in sizes:
            parser.error("--follower trained needs --follower-checkpoint")
        sizes = {args.follower: sizes[args.follower]}
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or made(Path(folder), args.clips, quick=args.quick)
        found = {
            who: steps(dataset, who, *size, args.follower_checkpoint) for who, size in sizes.items()
        }
    tables = {who: summary(one.rows) for who, one in found.items()}
    stills = {who: quality_of(one.counts) for who, one in found.items()}
    carried = {who: one.carried_j_and_f for who, one in found.items()}
    judged = next(who for who in ("trained", "stand-in", "edges") if who in tables)
    whole, alone = tables[judged]["+ MCR"]["all"], tables[judged]["teachers alone"]["all"]
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
            "carried_along_by": judged,
            "gain_points": round(whole["j_and_f"] - alone["j_and_f"], 1),
            "ok": whole["j_and_f"] - alone["j_and_f"] >= TARGET_POINTS,
            "tables": tables,
            "panoptic_quality": stills,
            "true_masks_carried": carried,
            "cost": spent,
        },
    )
    print(as_markdown(tables, stills, carried, spent))
    finish(outcome, args)


def made(folder: Path, clips: str, *, quick: bool) -> Path:
    """The clips of a name."""
    if clips == "solids":
        return solids(folder, QUICK_SOLIDS if quick else SOLIDS, SOLIDS_FRAMES)
    return rooms(folder, quick=quick)


@dataclass
class Found:
    """Of one that carries masks along: rows by step, and what stills and true masks come to.

    `counts` of a step has for each clip the sum of matched IoUs and the half sum of segments.
    """

    rows: dict[str, list[Row]]
    counts: dict[str, list[tuple[float, float]]]
    carried: list[float]

    @property
    def carried_j_and_f(self) -> dict[str, float]:
        """Of the things of first frames."""
        return {
            "objects": len(self.carried),
            "j_and_f": round(100 * float(np.mean(self.carried)), 1),
        }


def steps(place: Path, who: str, clips: int, most: int, checkpoint: Path | None) -> Found:
    """All steps on the first `most` frames of the first `clips` videos."""
    from panoforge.core.shards.read import Dataset
    from panoforge.eval.interactive.dataset_frames import DatasetFrames

    dataset = Dataset.open(place)
    found = Found({step: [] for step in STEPS}, {"teachers alone": [], "+ SDR": []}, [])
    for key in dataset.videos["video"].to_pylist()[:clips]:
        video = dataset.video(key)
        frames = DatasetFrames(dataset, video.frame_keys[:most], video.meta.fps)
        true = np.stack([frames.labels(t) for t in range(len(frames.names))])
        following = following_of(who, checkpoint)
        found.carried += carried_along(frames, true, following)
        for step, flags in STEPS.items():
            begin = time.process_time()
            said = labelled(dataset, frames, following, flags)
            found.rows[step] += list(scored(key, true, said))
            if step in found.counts:
                pairs = [pq_counts(*pair) for pair in zip(true, said, strict=True)]
                found.counts[step].append((sum(a for a, _ in pairs), sum(b for _, b in pairs)))
            now = 100 * float(np.mean([r.score for r in found.rows[step] if r.video == key]))
            spent = time.process_time() - begin
            print(f"{who}, {key}, {step}: {now:.1f}, {spent:.0f} CPU s", file=sys.stderr)
    return found


def following_of(who: str, checkpoint: Path | None) -> Any:
    """Who carries masks along."""
    from bench.sap_recipes import IMAGE_PX
    from panoforge.label.config import FollowChoice
    from panoforge.label.loading import following_of as load

    if who == "trained":
        model = {"size": "micro", "image_size": IMAGE_PX, "checkpoint": str(checkpoint)}
        return load(FollowChoice.model_validate({"kind": "sam2", "model": model}))
    if who == "edges":
        return load(FollowChoice())
    return load(FollowChoice.model_validate({"kind": "noisy_truth", **STAND_IN}))


def carried_along(frames: Any, true: np.ndarray, following: Any) -> list[float]:
    """J&F of the things of the first frame, begun with their true masks."""
    from panoforge.eval.scoring.metrics import jaccard
    from panoforge.eval.scoring.metrics.boundary import boundary_f

    pixels = np.bincount(true[0].ravel())
    masks = {k: true[0] == k for k in range(1, len(pixels)) if pixels[k] >= LEAST_PX}
    scores: dict[int, list[float]] = {k: [] for k in masks}
    empty = np.zeros(true[0].shape, bool)
    for t, said in enumerate(following.follow(frames, range(len(true)), masks), start=1):
        for k in masks:
            ours, theirs = said.get(k, empty), true[t] == k
            if ours.any() or theirs.any():
                both = jaccard(ours, theirs) + boundary_f(ours, theirs, "seam-aware")
                scores[k].append(both / 2)
    return [float(np.mean(one)) for one in scores.values() if one]


def labelled(dataset: Any, frames: Any, following: Any, flags: Mapping[str, bool]) -> np.ndarray:
    """The written ids of a video, T×H×W."""
    from panoforge.label.settings import JoinSettings
    from panoforge.label.teachers.noisy import NoiseRates, NoisyTruth
    from panoforge.label.teachers.truth import TruthTeacher, dataset_truths
    from panoforge.label.video.annotate import VideoLabeller
    from panoforge.label.video.asking import TeacherPanel
    from panoforge.label.video.rules import VideoRules
    from panoforge.label.video.runs import KeptFrames
    from panoforge.label.views.sets import ViewSetConfig

    truth = TruthTeacher(dataset_truths(dataset))
    teachers = [
        NoisyTruth(truth, NoiseRates.model_validate({**RATES, "seed": seed}), f"teacher {seed}")
        for seed in (1, 2, 3)
    ]
    panel = TeacherPanel(teachers[:1], teachers[1:], ViewSetConfig(kind="slices"), JoinSettings())
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
        *(["absent for a while"] * is_absent(masks)),
        *(["enters late"] * bool(at[0] > 0)),
    )


def pq_counts(true: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    """Of a frame: the sum of IoUs over 0.5, and half of how many segments both have together.

    Their ratio is the PQ of one class (Kirillov et al. 2019).
    """
    pair = true.astype(np.int64) * (int(said.max()) + 1) + said
    both = np.bincount(pair.ravel(), minlength=(int(true.max()) + 1) * (int(said.max()) + 1))
    both = both.reshape(int(true.max()) + 1, -1)
    either = both.sum(1)[:, None] + both.sum(0)[None] - both
    share = both[1:, 1:] / np.maximum(either[1:, 1:], 1)
    there = (both.sum(1)[1:] > 0).sum() + (both.sum(0)[1:] > 0).sum()
    return float(share[share > 0.5].sum()), there / 2


def quality_of(counts: Mapping[str, list[tuple[float, float]]]) -> dict[str, list[float]]:
    """PQ in points by step, and what SDR gains: value, low, high of 95 %, clips drawn again."""
    table = {step: np.array(own) for step, own in counts.items()}
    clips = len(next(iter(table.values())))
    drawn = np.random.default_rng(0).integers(0, clips, (RESAMPLES, clips))
    whole = {step: 100 * own[:, 0].sum() / own[:, 1].sum() for step, own in table.items()}
    again = {step: 100 * o[drawn, 0].sum(1) / o[drawn, 1].sum(1) for step, o in table.items()}
    first, second = table
    whole["gain of SDR"] = whole[second] - whole[first]
    again["gain of SDR"] = again[second] - again[first]
    return {
        step: [round(float(v), 1) for v in (value, *np.percentile(again[step], [2.5, 97.5]))]
        for step, value in whole.items()
    }


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
    tables: Mapping[str, Any],
    stills: Mapping[str, Any],
    carried: Mapping[str, Any],
    spent: Mapping[str, Any],
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
        lines.append(f"\nPanoptic quality of frames: {stills[who]}")
        lines.append(f"True masks carried along: {carried[who]}")
    return "\n".join(
        [*lines, f"\nCost: {json.dumps(spent)}", f"Machine: {machine()}, {RESULTS.name}"]
    )


def cost(frames: int, width: int) -> dict[str, Any]:
    """Seconds a frame by phase and peak memory: 63 things, panoramas `width` wide."""
    from panoforge.eval.interactive.following.edges import EdgeFollowing
    from panoforge.label.labelling import NestedClock
    from panoforge.label.settings import JoinSettings
    from panoforge.label.teachers.truth import TrueThing, Truth, TruthTeacher
    from panoforge.label.video.annotate import VideoLabeller
    from panoforge.label.video.asking import TeacherPanel
    from panoforge.label.video.rules import VideoRules
    from panoforge.label.video.runs import KeptFrames
    from panoforge.label.views.sets import ViewSetConfig

    film = Caps(frames, width)
    things = {k: TrueThing("wall" if k == 1 else "ball", k > 1) for k in range(1, 64)}

    def truths(name: str) -> Truth:
        """On the first frame nobody sees some caps: the keyframe has blank areas to ask about."""
        labels = film.labels(int(name))
        unseen = (labels > 1) & (labels < 2 + UNSEEN) & (name == "0")
        return Truth(np.where(unseen, np.uint16(0), labels), things)

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
        "found_by_mcr": state.counted()["new"],
        "frames": frames,
        "width": width,
        "seconds_initial_and_keyframes": {
            k: round(v, 2) for k, v in clock.seconds.items() if k != "propagation"
        },
        "propagation_s_a_frame": round(
            clock.seconds.get("propagation", 0.0) / max(1, frames - 1), 2
        ),
        "peak_memory_mb": clock.peak_mb,
        "before_mb": base_mb,
    }


if __name__ == "__main__":
    main()
