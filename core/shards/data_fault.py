"""What is wrong with a dataset: which file, which sample, what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFault:
    """One thing that is wrong.

    In which file, in which sample (None where it hits none), and what.
    """

    file: str
    sample: str | None
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """How many samples were looked at, and everything that is wrong with them."""

    samples: int
    faults: tuple[DataFault, ...]
