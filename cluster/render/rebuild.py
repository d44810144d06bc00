"""A lost ledger, made again from the staged panoramas.

They are the work, the ledger only knows about it.

A scene counts as done if all panoramas that it was asked for are staged with the run's config
digest. Where fewer are there, poses may have been rejected, or the scene was cut off: nothing can
tell now. Such a scene is made again, and what is there already is found to be equal and kept.
Rejections and quarantines are forgotten with the ledger.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from panoforge.cluster.state.ledger import COMPACT_EVERY, AttemptRecord, Ledger, new_id
from panoforge.core.errors import DataError, StorageError
from panoforge.core.storage.staged import read_staged
from panoforge.datagen.config.render import RenderConfig, plan_scene


def rebuild(
    ledger: Ledger, render: RenderConfig, staged: Path, keys: set[str], job_sha256: str
) -> int:
    """Record every scene that is staged whole; gives their number.

    Reads each staged panorama once.
    """
    batch: list[AttemptRecord] = []
    count = 0
    for record in _whole_scenes(render, staged, keys, job_sha256):
        ledger.write(record)
        batch.append(record)
        count += 1
        if len(batch) == COMPACT_EVERY:
            ledger.compact(batch)
            batch = []
    ledger.compact(batch)
    return count


def _whole_scenes(
    render: RenderConfig, staged: Path, keys: set[str], job_sha256: str
) -> Iterator[AttemptRecord]:
    for index in range(render.scenes):
        job = plan_scene(render, index)
        wanted = job.sample_keys
        if not keys.issuperset(wanted):
            continue
        found = [_read(staged, key, job_sha256) for key in wanted]
        if all(found):
            yield AttemptRecord(
                id=new_id(index, 1),
                index=index,
                scene=job.key,
                attempt=1,
                outcome="done",
                reason="found staged, the ledger was lost",
                panoramas=tuple(wanted),
                digests=tuple(digest for digest, _ in filter(None, found)),
                staged_bytes=sum(size for _, size in filter(None, found)),
                job_sha256=job_sha256,
                image_sha256=job_sha256,
                started_unix_s=time.time(),
                log=f"logs/{job.key}.log",
            )


def _read(staged: Path, key: str, job_sha256: str) -> tuple[str, int] | None:
    """(digest of the label map, bytes) of a staged panorama of this job."""
    try:
        meta, members = read_staged(staged, key)
    except (DataError, StorageError):
        return None
    labels = next(
        (data for suffix, data in members.items() if suffix.startswith("instance.")), None
    )
    if meta.config_sha256 != job_sha256 or labels is None:
        return None
    return hashlib.sha256(labels).hexdigest(), sum(map(len, members.values()))
