"""`pano pseudolabel`: all panoramas of a place, from what is there to a dataset.

    OUT/
      items/SCENE.json     the record of each panorama that is done
      staged/              its sample
      dataset/             all of them, packed

A panorama that is done is not labelled again: the same command goes on after a kill or a full disk.
One that cannot be labelled stops no other.
"""

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from panoforge.core import __version__
from panoforge.core.errors import ConfigError, DataError, first_line
from panoforge.core.foreign.files import read_bytes
from panoforge.core.models import FrozenModel
from panoforge.core.progress import Progress
from panoforge.core.run_layout import DATASET
from panoforge.core.sample.metadata import Pose
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.eval.interactive.dataset_frames import DatasetFrames
from panoforge.label.by_file import (
    ITEMS,
    STAGED,
    FileDone,
    FileTask,
    Runner,
    keep_only,
    label_files,
    run_here,
)
from panoforge.label.inputs import Footage, items_of
from panoforge.label.labelling import require_space
from panoforge.label.pseudo.config import PseudolabelConfig
from panoforge.label.pseudo.labels import pseudolabels
from panoforge.label.pseudo.output import stage_pseudolabels
from panoforge.label.teachers.choice import TeacherRole
from panoforge.label.teachers.loading import load_teacher
from panoforge.label.video.output import UNKNOWN_POSE
from panoforge.label.vocabulary import Vocabulary, load_vocabulary

MAX_RECORD_BYTES = 1 << 20


class PseudoRecord(FrozenModel):
    """One labelled panorama: of what and with what it was made, and the mean confidences."""

    schema_version: Literal[1] = 1
    fingerprint: str
    name: str
    key: str
    confidence: dict[str, float]
    views: int
    seconds: float


@dataclass(frozen=True)
class PseudoSummary:
    """What a run of `pano pseudolabel` has done; `failures` by name."""

    records: tuple[PseudoRecord, ...]
    failures: dict[str, str]
    dataset: Path


@dataclass(frozen=True)
class _PseudoJob:
    """What does not change from panorama to panorama."""

    out: Path
    config: PseudolabelConfig
    teachers: Mapping[TeacherRole, Any]
    vocabulary: Vocabulary

    @property
    def config_sha256(self) -> str:
        """Of the config and of all that teachers say of themselves."""
        said = self.config.model_dump_json()
        said += " ".join(sorted(one.digest for one in self.teachers.values()))
        return hashlib.sha256(said.encode()).hexdigest()


def pseudolabel(
    place: Path, out: Path, config: PseudolabelConfig, runner: Runner = run_here
) -> PseudoSummary:
    """Label the panoramas of a place.

    Args:
        place: A picture, a folder of them, or a dataset of ours.
        out: The folder that everything is written to.
        config: With what.
        runner: Who labels them: this process, or Ray.

    Raises:
        ConfigError: A teacher cannot be had, or a class of a user's file has no category.
        DataError: There is nothing to label, or nothing could be labelled.
        StorageError: A disk is full or cannot be written; the same command goes on from there.
        InUse: Another process labels into that folder.
    """
    footage = items_of(place)
    _check_classes(config, load_vocabulary(config.vocabulary))
    tasks = [FileTask(place, one.name, out, config) for one in footage]
    progress = Progress("pseudo-labelling", len(footage), unit="panoramas")
    with held(out, "pano pseudolabel"), progress:
        records, failures = label_files(pseudolabel_file, tasks, runner, progress)
        keep_only(out / STAGED, {record.key for record in records})
        pack(out / STAGED, out / DATASET, PackOptions(splits=tuple(config.splits.items())))
    return PseudoSummary(tuple(records), failures, out / DATASET)


def pseudolabel_file(task: FileTask[PseudolabelConfig]) -> FileDone[PseudoRecord]:
    """Label one panorama, if it is not labelled already. In any process.

    Returns:
        Its record; the failure where its data or a teacher's answer are at fault: others go on.

    Raises:
        ConfigError: A teacher cannot be had.
        StorageError: What is written cannot be written; nothing that was done is lost.
    """
    vocabulary = load_vocabulary(task.config.vocabulary)
    teachers = load_teachers(task.config, task.place, vocabulary)  # weights once in a process
    job = _PseudoJob(task.out, task.config, teachers, vocabulary)
    footage = next(one for one in items_of(task.place) if one.name == task.name)
    try:
        return FileDone(task.name, _record(job, footage))
    except DataError as error:
        return FileDone(task.name, None, first_line(error))


def load_teachers(
    config: PseudolabelConfig, place: Path, vocabulary: Vocabulary
) -> dict[TeacherRole, Any]:
    """The teachers of a config; one that has several roles is one object, and is asked once."""
    made: dict[str, Any] = {}
    found: dict[TeacherRole, Any] = {}
    for role, choice in config.chosen.items():
        key = choice.model_dump_json()
        if key not in made:
            made[key] = load_teacher(choice, place, vocabulary)
        found[role] = made[key]
    return found


def _check_classes(config: PseudolabelConfig, vocabulary: Vocabulary) -> None:
    """ConfigError where the `semantic` product could not say a class."""
    without = [one.name for one in vocabulary.classes.values() if not one.category_id]
    if config.classes is not None and without:
        raise ConfigError(
            f"{config.vocabulary}: {without[0]!r} is no category of configs/categories.yaml, whose"
            " ids the semantic product has: add `category: NAME` to it, or leave `classes` out"
        )


def _record(job: _PseudoJob, footage: Footage) -> PseudoRecord:
    """One panorama's record: that of before, or made now."""
    if footage.is_video:
        raise DataError(
            f"{footage.name} is a video: pano annotate labels videos; for pseudo-labels of single"
            " frames put them into a folder as pictures"
        )
    opened = footage.open()
    try:
        path = job.out / ITEMS / f"{footage.scene}.json"
        said = f"{opened.frames.sha256} {job.config_sha256} {__version__}"
        fingerprint = hashlib.sha256(said.encode()).hexdigest()
        known = _read_record(path)
        if known is not None and known.fingerprint == fingerprint:
            return known
        with storage_errors(path):
            path.unlink(missing_ok=True)
        require_space(job.out, job.config.least_free_mb)
        key = footage.key(0)
        with storage_errors(job.out / STAGED):
            shutil.rmtree(job.out / STAGED / key, ignore_errors=True)
        begin, rgb = time.monotonic(), opened.frames.rgb(0)
        named = opened.frames.keys[0] if isinstance(opened.frames, DatasetFrames) else key
        found = pseudolabels(rgb, named, job.config, job.teachers, job.vocabulary, opened.seen)
        seconds = time.monotonic() - begin
        shares = stage_pseudolabels(
            job.out / STAGED,
            key,
            footage.scene,
            rgb,
            found,
            teachers=job.teachers,
            vocabulary=job.vocabulary,
            pose=_pose(opened.frames),
            seen=opened.seen,
            config_sha256=job.config_sha256,
            seconds=seconds,
        )
        record = PseudoRecord(
            fingerprint=fingerprint,
            name=footage.name,
            key=key,
            confidence={name: round(share, 4) for name, share in shares.items()},
            views=found.views,
            seconds=round(seconds, 3),
        )
        write_bytes_atomic(path, record.model_dump_json(indent=1).encode() + b"\n")
        return record
    finally:
        opened.frames.close()


def _pose(frames: Any) -> Pose:
    """A sample's own pose; a picture's camera stands at the origin, as nobody knows where."""
    if isinstance(frames, DatasetFrames):
        return frames.dataset.by_key(frames.keys[0], ()).meta.pose
    return UNKNOWN_POSE


def _read_record(path: Path) -> PseudoRecord | None:
    """A record; None where there is none that can be read: the panorama is labelled again."""
    if not path.exists():
        return None
    try:
        return PseudoRecord.model_validate_json(read_bytes(path, MAX_RECORD_BYTES))
    except (DataError, ValidationError):
        return None
