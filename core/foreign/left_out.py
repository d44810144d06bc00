"""What a reader leaves out of a foreign file or folder: counted, with an example of each kind."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """`kinds` holds (what was left out and why, how many, the first of them). False if nothing."""

    kinds: tuple[tuple[str, int, str], ...] = ()

    @classmethod
    def of(cls, found: Iterable[tuple[str, str]]) -> "LeftOut":
        """From (what and why, which one), in the order in which they were met."""
        counts: dict[str, tuple[int, str]] = {}
        for kind, example in found:
            count, first = counts.get(kind, (0, example))
            counts[kind] = count + 1, first
        return cls(tuple((kind, count, first) for kind, (count, first) in counts.items()))

    def __add__(self, other: "LeftOut") -> "LeftOut":
        merged = {kind: (count, first) for kind, count, first in self.kinds}
        for kind, count, first in other.kinds:
            have, example = merged.get(kind, (0, first))
            merged[kind] = have + count, example
        return LeftOut(tuple((kind, count, first) for kind, (count, first) in merged.items()))

    def inside(self, folder: str) -> "LeftOut":
        """The same, the examples named with the folder that they lie in."""
        return LeftOut(tuple((kind, n, f"{folder}/{first}") for kind, n, first in self.kinds))

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __str__(self) -> str:
        """`2 × file that is no picture (first: notes.txt); 1 × crowd (first: annotation 7)`."""
        return "; ".join(f"{count} × {kind} (first: {first})" for kind, count, first in self.kinds)


NOTHING = LeftOut()
