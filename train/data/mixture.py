"""Mixtures: which source stands at which position of a run, exactly by weight.

And the clips that they give.

The line of forward passes is cut into periods, as long as the sum of the weights in whole numbers
(7 : 2 : 1 has period 10). Within a period the earliest-deadline rule places each source's passes.
Pass k of a source with share w stands at ⌊k/w⌋ at the earliest, and before ⌈(k + 1)/w⌉. So after
any number of passes every source has had its share to within one pass, on any number of ranks. That
is the quota rule (Balinski and Young 1975; Tijdeman's chairman assignment 1980). What stands at a
position is looked up, not counted up to: a resumed run needs no state.

The unit is a forward pass and not a clip because the clips of one batch have the same number of
frames.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import ConfigError
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.sources import Source, open_source
from panoforge.train.data.sources.looks import Looks
from panoforge.train.data.sources.shards import Shards
from panoforge.train.data.sources.videos import OwnVideos, ScansOfVideos
from panoforge.train.settings.clips import SourceSettings

MAX_PERIOD = 10_000  # weights such as 0.1234 : 1 still fit; the table is built once
SHARDS = "shards"  # the only source of a run without a mixture


def whole_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """The same proportions in the smallest whole numbers.

    ConfigError where those add up to more than MAX_PERIOD.
    """
    exact = {name: Fraction(repr(float(weight))) for name, weight in weights.items()}
    scale = lcm(*(f.denominator for f in exact.values()))
    numbers = {name: int(f * scale) for name, f in exact.items()}
    common = gcd(*numbers.values())
    numbers = {name: n // common for name, n in numbers.items()}
    if sum(numbers.values()) > MAX_PERIOD:
        raise ConfigError(
            f"the weights of the mixture {dict(weights)} are in no small proportion (in whole"
            f" numbers they add up to {sum(numbers.values())}, the limit is {MAX_PERIOD}): round"
            " them, 7, 2 and 1 say as much as 0.70001, 0.2 and 0.1"
        )
    return numbers


@dataclass(frozen=True)
class Schedule:
    """Sources in turn. `weights` are whole, in the order of the sources."""

    weights: tuple[int, ...]

    @property
    def period(self) -> int:
        """Clips after which the sources come in the same order again."""
        return sum(self.weights)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The source at each place of a period."""
        order, given, period = [], [0] * len(self.weights), self.period
        for place in range(period):
            ready = [i for i, w in enumerate(self.weights) if given[i] * period < w * (place + 1)]
            # ⌈(k + 1)/share⌉ in whole numbers; the first of the list on a tie
            source = min(ready, key=lambda i: -(-(given[i] + 1) * period // self.weights[i]))
            given[source] += 1
            order.append(source)
        return np.array(order)

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """How many passes its source had before, at each place of a period."""
        rank = np.zeros(self.period, np.int64)
        for source in range(len(self.weights)):
            at = self.order == source
            rank[at] = np.arange(at.sum())
        return rank

    def at(self, forward: int) -> tuple[int, int]:
        """(source, how many passes it had before) of a forward pass."""
        cycle, place = divmod(forward, self.period)
        source = int(self.order[place])
        return source, cycle * self.weights[source] + int(self.rank[place])


def open_own(
    name: str, entry: SourceSettings, config: TrainConfig, dataset: Dataset
) -> Source | None:
    """The source of an entry that is cut from the run's own dataset; None for the others."""
    if entry.kind == "shards":
        return Shards(name, dataset, config)
    if entry.kind == "looks":
        return Looks(name, dataset, config)
    if entry.kind == "video":
        return OwnVideos(name, dataset, config, entry.frame_step)
    if entry.kind == "scan_of_video":
        return ScansOfVideos(name, dataset, config, entry.frame_step)
    return None


class Mixture:
    """Clips by position of the run, from several sources."""

    def __init__(self, sources: list[Source], weights: list[int], clips_per_forward: int) -> None:
        self.sources, self.schedule, self.clips_per_forward = (
            sources,
            Schedule(tuple(weights)),
            clips_per_forward,
        )

    @classmethod
    def open(cls, config: TrainConfig, dataset: Dataset) -> Self:
        """The sources of a run: those of `mixture`, or the shards alone."""
        if not config.mixed:
            return cls([Shards(SHARDS, dataset, config)], [1], config.clips_per_forward)
        weights = whole_weights({name: entry.weight for name, entry in config.mixed.items()})
        sources = [
            open_own(name, entry, config, dataset) or open_source(name, entry, config)
            for name, entry in config.mixed.items()
        ]
        return cls(sources, [weights[name] for name in config.mixed], config.clips_per_forward)

    def at(self, position: int) -> tuple[Source, int]:
        """The source of the clip at `position`, and its position on that source's own line."""
        forward, within = divmod(position, self.clips_per_forward)
        number, before = self.schedule.at(forward)
        return self.sources[number], before * self.clips_per_forward + within

    def clip(self, position: int) -> Any:
        """The clip at `position`. DataError names what is damaged."""
        source, own = self.at(position)
        return source.clip(own)

    def key(self, position: int) -> str:
        """What the clip at `position` is cut from."""
        source, own = self.at(position)
        return source.key(own) if len(self.sources) == 1 else f"{source.name}: {source.key(own)}"

    def epoch(self, position: int) -> int:
        """How often the run has gone through its first source before `position`."""
        forward = position // self.clips_per_forward
        cycle, place = divmod(forward, self.schedule.period)
        passes = cycle * self.schedule.weights[0] + int((self.schedule.order[:place] == 0).sum())
        whole = position if len(self.sources) == 1 else passes * self.clips_per_forward
        return whole // len(self.sources[0])

    def sha256(self) -> str:
        """Digest of all that the sources list: of the shards where they are alone."""
        if len(self.sources) == 1:
            return self.sources[0].sha256()
        return hashlib.sha256(
            "\n".join(f"{s.name} {s.sha256()}" for s in self.sources).encode()
        ).hexdigest()

    def left_out(self) -> list[str]:
        """What sources leave out of their folders: a line for each that leaves something out."""
        return [f"{s.name}: left out {s.left_out}" for s in self.sources if s.left_out]

    def record(self) -> list[dict[str, object]]:
        """What train.json says of each source; nothing where the shards are alone."""
        if len(self.sources) == 1 and isinstance(self.sources[0], Shards):
            return []
        return [
            {
                "name": source.name,
                "share": weight / self.schedule.period,
                "clips_per_epoch": len(source),
                "sha256": source.sha256(),
                "left_out": str(source.left_out) or None,
            }
            for source, weight in zip(self.sources, self.schedule.weights, strict=True)
        ]
