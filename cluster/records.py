"""What a render run knows of each scene: one small JSON record per scene in `<run>/scenes`, written last.

A scene is done when its record says so, was made by the same config, and every panorama that it lists is staged; so a
run that was killed anywhere goes on from what is really there. Records are replaced whole (temporary, fsync, rename).
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pano.sample import META_SUFFIX, Record
from pano.storage import write_bytes_atomic

RECORDS = "scenes"
MAX_RECORD_BYTES = 16 << 20

State = Literal["done", "rejected", "failed"]


class SceneRecord(Record):
    """How one scene ended. `reason` says why it was rejected or failed; `log` is relative to the run folder."""

    scene: str
    state: State
    reason: str | None
    panoramas: tuple[str, ...]  # keys of staged samples
    rejected_poses: dict[str, int] = {}  # reason → count
    config_sha256: str
    seconds: float
    timings_s: dict[str, float] = {}
    peak_memory_mb: float | None = None
    node: str
    log: str
    log_tail: str = ""


def write_record(run: Path, record: SceneRecord) -> None:
    """Commit a scene's record."""
    data = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False).encode() + b"\n"
    write_bytes_atomic(run / RECORDS / f"{record.scene}.json", data)


def read_record(run: Path, scene: str) -> SceneRecord | None:
    """A scene's record, or None where there is none that can be read (then the scene is simply not done)."""
    path = run / RECORDS / f"{scene}.json"
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            return None
        return SceneRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def settled(run: Path, scene: str, config_sha256: str) -> SceneRecord | None:
    """The scene's record if nothing is left to do for it: done with all its panoramas staged, or rejected, by this very
    config. A failed scene is tried again."""
    record = read_record(run, scene)
    if record is None or record.config_sha256 != config_sha256 or record.state == "failed":
        return None
    staged = run / "staged"
    return record if all((staged / key / META_SUFFIX).is_file() for key in record.panoramas) else None
