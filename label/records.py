"""What is known of a labelled file when it is done: `items/SCENE.json`, and what goes on from it.

A file is done when its record is there; the record is written last. It names what it was made of
and with, so another config or another file of that name is labelled anew.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.models import Count, FrozenModel
from panoforge.core.sample.revisions import Revision
from panoforge.core.storage.atomic import write_bytes_atomic

MAX_RECORD_BYTES = 256 << 20


class FootageRecord(FrozenModel):
    """One labelled picture or video.

    `fingerprint` is of the file and the config. `coverage` by keyframe. `changes` counts what was
    done by phase and kind. `named` counts labels by where they come from, `asked` and
    `answered` what the checker was asked. `seconds` and
    `peak_memory_mb` are by phase; `ended` says why a video ends early.
    """

    schema_version: Literal[1] = 1
    fingerprint: str
    name: str
    scene: str
    is_video: bool
    frames: Count
    width: Count
    height: Count
    objects: Count
    keys: tuple[str, ...]
    coverage: dict[int, float]
    changes: dict[str, dict[str, int]]
    named: dict[str, int]
    asked: Count = 0
    answered: Count = 0
    checker_failure: str = ""
    seconds: dict[str, float] = {}
    peak_memory_mb: float | None = None
    ended: str = ""
    revise: tuple[Revision, ...] = ()

    def write(self, path: Path) -> None:
        """Commit it. StorageError when that place cannot be written."""
        write_bytes_atomic(path, self.model_dump_json(indent=1).encode() + b"\n")


def read_record(path: Path) -> FootageRecord | None:
    """A record; None where there is none that can be read: the file is labelled again then."""
    if not path.exists():
        return None
    try:
        return FootageRecord.model_validate_json(read_bytes(path, MAX_RECORD_BYTES))
    except (DataError, ValidationError):
        return None
