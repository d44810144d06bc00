"""The errors a user can meet, and the exit codes of the `pano` command.

- 0: done.
- 1: failed. The work ended in an error, the data (a dataset, a run, a picture, a checkpoint) is not
  there, damaged or unfit, or a check found faults. The same words may succeed another time.
- 2: the words are wrong: the command line or the config. Nothing was started. So it is where sound
  data lack what the config asks of them: a split, a product, a class table, a patch size.
- 130: stopped by Ctrl-C.

The same fault has the same code in every verb. A message is one line and states four things: what
was expected, what came, why the limit exists, and what to do next. `panoforge.cli` prints it
without a traceback. Any other exception is a defect of panoforge: code 1, one line, and a file with
its traceback.
"""

import difflib
from collections.abc import Iterable

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class UserError(Exception):
    """Something that the user can put right. `exit_code` says whether the words were wrong."""

    exit_code = FAILED


class UsageError(UserError):
    """The command or the config is wrong; nothing was started."""

    exit_code = USAGE


class ConfigError(UsageError):
    """A config file or an override does not say something that can be run."""


class DataError(UserError):
    """Data is damaged or is not what its schema says. It is refused, never replaced."""


class StorageError(UserError):
    """A disk or a bucket cannot be read or written (full, no permission, missing)."""


def first_line(error: BaseException) -> str:
    """What an error says in its first line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """An error's type, and all that it says, in one line of at most 300 characters after it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or an empty string where nothing known resembles `word`."""
    if len(word) > 100:  # nobody means that, and difflib's time grows with the square
        return ""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    close = close or [name for name in names if len(word) > 2 and word in name]
    return f" Did you mean {close[0]!r}?" if close else ""
