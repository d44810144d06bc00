"""Long panoramic videos: memory by length, equality with the official predictor, BFoV search,
memory policies.

The model is SAM2.1 with random weights, micro at 128² (BFoV search: at 256², panoramas of 1920×960
as JPEGs, the size of 360VOT's). Nothing here depends on the weights' values, and no mask is scored.

- **Memory**: a process of its own for each length tracks two objects: at the tenth frame, the most
  after it, and its peak. Target: at 1,000 frames at most 1.2 × that at 50.
- **Equality**: native logits of 50 frames and two objects, official predictor against ours.
- **BFoV search**: seconds a frame of 8 objects in batches, against one at a time, which reads and
  lays out each panorama for each. Target 3 ×.
- **Policies**: seconds and bytes an object, and slots attended to.

    python -m bench.video_predict [--quick] [--record]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    machine,
    median,
    spread,
    use_one_thread,
    version,
)

LENGTHS = (50, 1000)
OBJECTS = 8
APART_DEG = {"spread": 360 / OBJECTS, "crowd": 20.0}  # neighbours, in longitude
SHARE = 3.0


def model_of(size: str, image_size: int) -> Any:
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors.load import load_model

    config = {"model": {"size": size, "image_size": image_size}, "device": "cpu"}
    return load_model(EvalConfig.model_validate(config)).model


def moving(n_frames: int, objects: int, size: int) -> tuple[Any, list[Any]]:
    """Frames size×size of squares that move on noise, and their first masks."""
    from panoforge.eval.predictors import ObjectPrompt, ShownFrames

    side = size // 6

    def corner(k: int, t: int) -> tuple[int, int]:
        return (7 * k + t) % (size - side), (11 * k + t // 2) % (size - side)

    def shown(t: int) -> np.ndarray:
        image = np.random.default_rng([3, t]).integers(0, 90, (size, size, 3)).astype(np.uint8)
        for k in range(objects):
            u, v = corner(k, t)
            image[v : v + side, u : u + side] = (60 + 20 * k, 240 - 25 * k, 90)
        return image

    prompts = []
    for k in range(objects):
        mask = np.full((size, size), -10, np.float32)
        u, v = corner(k, 0)
        mask[v : v + side, u : u + side] = 10
        prompts.append(ObjectPrompt(k + 1, {}, {0: mask}))
    return ShownFrames(range(n_frames), shown), prompts


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def grown(predictor: str, n_frames: int) -> dict[str, float]:
    """In this process: MiB at the tenth frame, and the most from there to the last."""
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.sam2_video import OfficialSam2

    use_one_thread()
    model = model_of("micro", 128)
    frames, prompts = moving(n_frames, 2, 128)
    ours = OfficialSam2(model) if predictor == "official" else BatchedSam2(model, memory=predictor)
    start, most = 0.0, 0.0
    for said in ours.predict(frames, prompts):
        if said.frame == 10:
            start = rss_mib()
        most = max(most, rss_mib())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"frames": n_frames, "at_10": start, "most": most, "peak": peak}


def memory_by_length(lengths: tuple[int, ...], predictor: str) -> list[dict[str, float]]:
    found = []
    for n_frames in lengths:
        code = (
            "import json; from bench.video_predict import grown;"
            f" print(json.dumps(grown({predictor!r}, {n_frames})))"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        found.append(json.loads(out.stdout.strip().splitlines()[-1]))
    return found


def equality(n_frames: int) -> float:
    """The largest difference of native logits between the official predictor and ours."""
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.sam2_video import OfficialSam2

    model = model_of("micro", 128)
    frames, prompts = moving(n_frames, 2, 128)
    official = {s.frame: s for s in OfficialSam2(model).predict(list(frames), prompts)}
    worst = 0.0
    for said in BatchedSam2(model).predict(frames, prompts):
        theirs = official[said.frame].logits[said.objects]
        worst = max(worst, float((said.logits - theirs).abs().max())) if len(theirs) else worst
    return worst


def panoramas(folder: Path, n_frames: int, width: int, apart_deg: float) -> tuple[Any, list[Any]]:
    """JPEGs of caps that move, read when asked for, and the caps' first masks."""
    import cv2

    from panoforge.core.geometry.sphere import (
        angle_between,
        lonlat_to_direction,
        pixel_to_direction,
    )
    from panoforge.eval.predictors import ObjectPrompt, ShownFrames
    from panoforge.eval.videos.objects import read_frame

    at = pixel_to_direction(
        np.arange(width)[None, :], np.arange(width // 2)[:, None], width, width // 2
    )

    def cap(k: int, t: int) -> np.ndarray:
        centre = lonlat_to_direction(
            np.radians(apart_deg * k + 2 * t),
            np.radians(apart_deg / APART_DEG["spread"] * (-50 + 100 / OBJECTS * k)),
        )
        return angle_between(at, centre) <= np.radians(9)

    paths = []
    for t in range(n_frames):
        noise = np.random.default_rng([4, t]).integers(0, 80, (width // 16, width // 8, 3))
        image = cv2.resize(noise.astype(np.uint8), (width, width // 2))
        for k in range(OBJECTS):
            image[cap(k, t)] = (60 + 20 * k, 240 - 25 * k, 90)
        paths.append(folder / f"{t:05d}.jpg")
        cv2.imwrite(str(paths[-1]), image)
    prompts = [
        ObjectPrompt(k + 1, {}, {0: cap(k, 0) * np.float32(20) - 10}) for k in range(OBJECTS)
    ]
    return ShownFrames(paths, read_frame), prompts


def consumed(predictor: Any, frames: Any, prompts: list[Any]) -> None:
    for _ in predictor.predict(frames, prompts):
        pass


def search(
    n_frames: int, size: str, image_size: int, repeats: int, apart_deg: float
) -> dict[str, list[float]]:
    """Seconds of the whole video: BFoV search in batches, sharing views, one object at a time, no
    search.
    """
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.bfov_search import BfovSam2, Search

    model = model_of(size, image_size)
    with tempfile.TemporaryDirectory() as folder:
        frames, prompts = panoramas(Path(folder), n_frames, 1920, apart_deg)
        whole = BatchedSam2(model)
        together = BfovSam2(BatchedSam2(model, encode_batch=OBJECTS))
        alone = BfovSam2(BatchedSam2(model))
        shared = BfovSam2(BatchedSam2(model, encode_batch=OBJECTS), Search(share=SHARE))

        def one_at_a_time() -> None:
            for prompt in prompts:
                consumed(alone, frames, [prompt])

        return interleave(
            {
                "together": lambda: consumed(together, frames, prompts),
                "sharing views": lambda: consumed(shared, frames, prompts),
                "one at a time": one_at_a_time,
                "whole panoramas": lambda: consumed(whole, frames, prompts),
            },
            repeats,
            warm_up=False,
        )


def policies(n_frames: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each memory policy, of one object."""
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.train.model.panosam2.parts import add_parts
    from panoforge.train.settings.sam2 import PanoSam2Settings

    rows = []
    for name in ("sam2", "panosam2", "distractor_aware"):
        model = model_of("tiny", 128)
        if name == "panosam2":
            model = with_memory(model, add_parts, PanoSam2Settings(memory=True))
        predictor = BatchedSam2(model, memory=name)
        seen: list[tuple[int, int]] = []
        spatial = predictor.policy.spatial

        def spied(
            memory: Any, t: int, like: Any, spatial: Any = spatial, seen: list[Any] = seen
        ) -> Any:
            slots = spatial(memory, t, like)
            seen.append((len(slots), kept_bytes(memory)))
            return slots

        predictor.policy.spatial = spied  # type: ignore[method-assign]
        frames, prompts = moving(n_frames, 1, 128)
        work = {name: lambda p=predictor, f=frames, o=prompts: consumed(p, f, o)}
        seconds = interleave(work, repeats, warm_up=False)[name]
        rows.append(
            {
                "policy": name,
                "ms_a_frame": 1e3 * median(seconds) / n_frames,
                "slots": max(count for count, _ in seen),
                "kib": max(size for _, size in seen) / 1024,
            }
        )
    return rows


def with_memory(model: Any, add_parts: Any, settings: Any) -> Any:
    """The same model as one of PanoSAM2's class, with a fresh memory module."""
    from panoforge.eval.predictors.load import PanoVideoPredictor

    model.__class__ = PanoVideoPredictor
    add_parts(model, settings)
    return model.eval()


def kept_bytes(memory: Any) -> int:
    """Bytes of an object's memory, pointers and history included."""
    stores = (
        memory.conditioning,
        memory.conditioning_pointer,
        memory.recent,
        memory.recent_pointer,
        memory.anchors,
    )
    dense = sum(t.numel() * t.element_size() for store in stores for t in store.values())
    return dense + sum(p.numel() * p.element_size() for p, _ in memory.history.values())


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    import torch

    torch.set_num_threads(1)
    lengths = (20, 60) if args.toy else LENGTHS
    print(machine())
    ours = memory_by_length(lengths, "sam2")
    official = memory_by_length((lengths[0], 4 * lengths[0]), "official")
    for name, rows in (("ours", ours), ("official", official)):
        for row in rows:
            print(
                f"{name}, {row['frames']} frames: {row['at_10']:.0f} MiB at frame 10, then"
                f" {row['most'] - row['at_10']:+.1f}, peak {row['peak']:.0f}"
            )
    off = equality(12 if args.toy else 50)
    print(f"largest difference from the official predictor: {off:.2g}")
    n = 3 if args.toy else 6
    size, repeats = "micro" if args.quick or args.toy else "tiny", 1 if args.toy else 3
    scenes = {scene: search(n, size, 256, repeats, apart) for scene, apart in APART_DEG.items()}
    for scene, timed in scenes.items():
        for name, values in timed.items():
            said = spread([value / n for value in values])
            print(f"{scene}, {name}: {said} ms a frame of {OBJECTS} objects")
    found = scenes["spread"]
    table = policies(12 if args.toy else 40, 1 if args.toy else 3)
    for row in table:
        print(row)
    finish(
        Outcome(
            "video_predict",
            ours=median(found["together"]) / n,
            unit="s a frame of 8 objects, BFoV search",
            n=n,
            peers=(Peer("one object at a time", median(found["one at a time"]) / n, 3.0),),
            facts={
                "memory": ours,
                "official_memory": official,
                "difference": off,
                "search_s_a_frame": {
                    scene: {name: median(values) / n for name, values in timed.items()}
                    for scene, timed in scenes.items()
                },
                "policies": table,
                "torch": version("torch"),
            },
        ),
        args,
    )


if __name__ == "__main__":
    main()
