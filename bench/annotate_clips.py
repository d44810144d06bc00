"""What bench/annotate.py labels: rendered rooms, solids that hide each other, caps on a wall."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 77  # of solids: bench/learns_video.py trains on others
LEAST_PX = 64  # smaller things are not scored


def rooms(folder: Path, *, quick: bool) -> Path:
    """configs/video.yaml's videos; the first room alone where it is quick."""
    words = [f"run={folder}", "samples=1", *(["scenes=1", "video.frames=4"] if quick else [])]
    for verb in (
        ["render", "configs/video.yaml", *words],
        ["pack", str(folder), "splits={train: 1.0}"],
    ):
        subprocess.run([sys.executable, "-m", "panoforge", *verb], check=True, stdout=sys.stderr)
    return folder / "dataset"


def solids(folder: Path, count: int, frames: int) -> Path:
    """The first `count` of bench.video_worlds' videos in which something is away and comes back.

    Args:
        folder: Where they are staged and packed.
        count: How many.
        frames: Absence must lie within so many.
    """
    from bench.video_worlds import frames_of, stage_video
    from panoforge.core.shards.write import PackOptions, pack

    number = found = 0
    while found < count:
        ids = np.stack(frames_of(SEED, number)[2][:frames])
        if any(is_absent(ids == k) for k in np.unique(ids).tolist() if k):
            stage_video(folder / "staged", SEED, number)
            found += 1
        number += 1
    pack(folder / "staged", folder / "dataset", PackOptions(splits=(("train", 1.0),)))
    return folder / "dataset"


def is_absent(masks: NDArray[np.bool_]) -> bool:
    """Whether a thing, T×H×W, is gone for a while; one that is scored."""
    pixels = masks.sum(axis=(1, 2))
    at = np.flatnonzero(pixels)
    return bool(len(at) and pixels.max() >= LEAST_PX and at[-1] - at[0] + 1 > len(at))


class Caps:
    """62 textured caps on a wall, each going its way: 63 objects."""

    fps, sha256 = 8.0, "caps"

    def __init__(self, frames: int, width: int) -> None:
        self.size = width, width // 2
        self.names = [str(t) for t in range(frames)]
        self._kept: dict[int, NDArray[np.uint16]] = {}

    def labels(self, number: int) -> NDArray[np.uint16]:
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

    def rgb(self, number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(3)
        noise = rng.integers(0, 20, (*self.size[::-1], 3)).astype(np.uint8)
        return rng.integers(20, 220, (64, 3)).astype(np.uint8)[self.labels(number)] + noise

    def again(self) -> "Caps":
        return self

    def close(self) -> None:
        pass
