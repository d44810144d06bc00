"""Which sample goes into which shard: integers and names in, plans out. Nothing is read here.

The order of a dataset is a pure function of its keys (`pack_order`). It goes by the number of the
scene, as the job list counts them, so scenes are packed in the order in which they are rendered. A
shard is closed when the next sample of its split would pass the target size. The frames of a video
go together, as one sample would: it is never cut. Two things follow:

- The same set of samples gives the same shards, whoever packs and however often it was interrupted.
- A *prefix* of that order already decides every shard in it but the last of each split. So shards
  can be published while later scenes are still being rendered (`panoforge.core.shards.write`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from panoforge.core.names import frame_of

_SAMPLE_KEY = re.compile(r"(?P<scene>.+)-(c(?P<camera>\d+)|v(?P<video>\d+)-f\d{5})")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Candidate:
    """A sample to be packed.

    Its split, its bytes in a shard, and where it is staged (a URL), there without `prefix`.
    """

    key: str
    split: str
    length: int
    staged: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be written: its split, its number within the split, its samples in order."""

    split: str
    number: int
    samples: tuple[Candidate, ...]

    @property
    def stem(self) -> str:
        """Its name up to the digest."""
        return f"{self.split}-{self.number:06d}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the shard's samples, in order."""
        return tuple(sample.key for sample in self.samples)

    @property
    def length(self) -> int:
        """Bytes of its samples, without the end of the tar."""
        return sum(sample.length for sample in self.samples)


def scene_of(key: str) -> str | None:
    """The scene of a key `<scene>-c<camera>` or `<scene>-v<video>-f<frame>`; None for others."""
    match = _SAMPLE_KEY.fullmatch(key)
    return match["scene"] if match else None


def pack_order(key: str) -> tuple[int, str, int, str]:
    """Where a sample, or all of a scene, stands in a dataset.

    By the last number in the scene's name, then by that name, then by camera or video and frame.
    `rooms-kitchen-00000002-c1` → (2, 'rooms-kitchen-00000002', 1, …); a scene stands before its
    samples.
    """
    match = _SAMPLE_KEY.fullmatch(key)
    scene, camera = (match["scene"], int(match["camera"] or match["video"])) if match else (key, -1)
    numbers = _NUMBER.findall(scene)
    return (int(numbers[-1]) if numbers else 0, scene, camera, key)


def plan_shards(
    samples: Iterable[Candidate], shard_bytes: int, *, final: bool = True
) -> list[ShardPlan]:
    """Assign samples to shards.

    Per split, in pack order, at most `shard_bytes` each (one sample or video at least). Without
    `final` more samples may follow, so the last shard of each split is still open and left out.
    """
    plans: list[ShardPlan] = []
    by_split: dict[str, list[Candidate]] = {}
    for sample in sorted(samples, key=lambda sample: pack_order(sample.key)):
        by_split.setdefault(sample.split, []).append(sample)
    for split, members in sorted(by_split.items()):
        held: list[Candidate] = []
        filled = number = 0
        for _, together in groupby(
            members, lambda sample: (frame_of(sample.key) or [sample.key])[0]
        ):
            unit = list(together)
            length = sum(sample.length for sample in unit)
            if held and filled + length > shard_bytes:
                plans.append(ShardPlan(split, number, tuple(held)))
                held, filled, number = [], 0, number + 1
            held += unit
            filled += length
        if final:
            plans.append(ShardPlan(split, number, tuple(held)))
    return plans
