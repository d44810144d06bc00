"""The errors a user can meet, each with the exit code that the `pano` command ends with.

A message states four things: what was expected, what came, why the limit exists, and what to do
next. `panoforge.cli` prints these without a traceback; any other exception is a defect of panoforge
and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can put right. `exit_code` is 1 (the work failed) unless a subclass
    says otherwise.
    """

    exit_code = 1


class UsageError(UserError):
    """The command or the config is wrong; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file or an override does not say something that can be run."""


class DataError(UserError):
    """Data is damaged or is not what its schema says. It is refused, never replaced."""


class StorageError(UserError):
    """A disk or a bucket cannot be read or written (full, no permission, missing)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or an empty string where nothing known resembles `word`."""
    if len(word) > 100:  # nobody means that, and difflib's time grows with the square
        return ""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
