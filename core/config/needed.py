"""Files and folders that a config names and that are read late: looked for before heavy work.

    require(config.needed())

Models are loaded after torch and transformers, half a minute on a busy machine. Who has misspelt a
path should not wait for that, and wants to hear the key that holds it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from panoforge.core.errors import DataError


@dataclass(frozen=True)
class Needed:
    """One path that must be there.

    Attributes:
        key: The key or the option that names it.
        path: What it names; None needs nothing.
        what: What is expected there, for the message.
    """

    key: str
    path: Path | None
    what: str = "a file of weights"


def require(needed: Iterable[Needed]) -> None:
    """DataError, one line with every key, where paths of a config lead nowhere."""
    missing = [one for one in needed if one.path is not None and not one.path.exists()]
    if not missing:
        return
    first, *others = missing
    also = "".join(f"; {one.key}: {one.path}" for one in others)
    is_relative = any(one.path is not None and not one.path.is_absolute() for one in missing)
    from_here = f", looked for from {Path.cwd()}" if is_relative else ""
    raise DataError(
        f"{first.key}: {first.path}: it does not exist{from_here}. Expected"
        f" {first.what}: put it there, or name another with {first.key}"
        + (f". Nor do{also[1:]}" if also else "")
    )
