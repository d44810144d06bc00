"""Which samples and videos the page shows."""

from collections import Counter

import numpy as np

from panoforge.core.names import frame_key, frame_of
from panoforge.core.shards.read import Dataset


def pictured(dataset: Dataset, limit: int) -> frozenset[int]:
    """Positions of at most `limit` samples to picture; of a video only the frame in its middle."""
    videos = dataset.videos.select(["video", "frames"]).to_pylist()
    middles = {frame_key(row["video"], row["frames"] // 2) for row in videos}
    places = [
        place for place, key in enumerate(dataset.keys) if frame_of(key) is None or key in middles
    ]
    scenes = dataset.samples["scene"].to_pylist()
    chosen = evenly_over_scenes([scenes[place] for place in places], limit)
    return frozenset(places[number] for number in chosen)


def evenly_over_scenes(scenes: list[str], limit: int) -> frozenset[int]:
    """Positions of at most `limit` items of these scenes.

    First items of scenes (cameras, videos) before second ones, evenly spread.
    """
    rank: Counter[str] = Counter()
    order: list[tuple[int, int]] = []
    for index, scene in enumerate(scenes):
        order.append((rank[scene], index))
        rank[scene] += 1
    chosen: list[int] = []
    for level in range(max(rank.values(), default=0)):
        here = [index for r, index in order if r == level]
        room = limit - len(chosen)
        if room <= 0:
            break
        chosen += [
            here[i]
            for i in np.unique(
                np.linspace(0, len(here) - 1, min(room, len(here))).round().astype(int)
            )
        ]
    return frozenset(chosen)
