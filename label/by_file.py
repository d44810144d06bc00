"""Files labelled one by one: in this process, or as tasks on other machines. What verbs share.

What travels is a `FileTask`, names and settings; teachers are made where the work is done. A file
that cannot be labelled stops no other, and a task finds by itself what is done already.
"""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from panoforge.core.errors import DataError
from panoforge.core.names import is_litter
from panoforge.core.progress import Progress
from panoforge.core.storage.atomic import storage_errors

STAGED, ITEMS = "staged", "items"
Config = TypeVar("Config")
Record = TypeVar("Record")


@dataclass(frozen=True)
class FileTask(Generic[Config]):
    """What one process labels: the file called `name` at `place`, into the folder `out`."""

    place: Path
    name: str
    out: Path
    config: Config


@dataclass(frozen=True)
class FileDone(Generic[Record]):
    """A labelled file's record; or why it could not be labelled."""

    name: str
    record: Record | None
    failure: str = ""


Label = Callable[[FileTask[Config]], FileDone[Record]]


class Runner(Protocol):
    """Labels files, in any order."""

    def __call__(
        self,
        label: Label[Any, Any],
        tasks: Sequence[FileTask[Any]],
        on_done: Callable[[FileDone[Any]], None],
    ) -> None:
        """Call `label` with each task, and `on_done` with each answer."""
        ...


def run_here(
    label: Label[Any, Any],
    tasks: Sequence[FileTask[Any]],
    on_done: Callable[[FileDone[Any]], None],
) -> None:
    """One after the other in this process."""
    for task in tasks:
        on_done(label(task))


def label_files(
    label: Label[Config, Record],
    tasks: Sequence[FileTask[Config]],
    runner: Runner,
    progress: Progress,
) -> tuple[list[Record], dict[str, str]]:
    """Label all files that can be.

    Args:
        label: Labels one of them; its DataErrors are failures of that file.
        tasks: The files of one place.
        runner: Who labels them.
        progress: Is told of each.

    Returns:
        The records in the order of `tasks`, and the failures by name.

    Raises:
        DataError: None could be labelled.
    """
    done: dict[str, FileDone[Record]] = {}

    def note(one: FileDone[Record]) -> None:
        done[one.name] = one
        if one.failure:
            progress.fail()
            progress.log(f"{one.name} failed: {one.failure}")
        progress.advance()

    runner(label, tasks, note)
    found = [done[task.name] for task in tasks]
    records = [one.record for one in found if one.record is not None]
    failures = {one.name: one.failure for one in found if one.failure}
    if not records:
        first = next(iter(failures.values()), "no files")
        raise DataError(f"nothing of {tasks[0].place} could be labelled: {first}")
    return records, failures


def keep_only(staged: Path, keys: Collection[str]) -> None:
    """Take away what is staged of files that are not done, or not there any more."""
    with storage_errors(staged):
        for folder in sorted(staged.iterdir()):
            if folder.is_dir() and not is_litter(folder.name) and folder.name not in keys:
                shutil.rmtree(folder)
