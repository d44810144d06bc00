"""`pano annotate`: all files of a place, from what is there to a dataset, exports and a report.

    OUT/
      items/SCENE.json     the record of each file that is done
      staged/              its samples
      dataset/             all of them, packed; labelme/ and coco/ beside it
      revise.json          what a person should look at, the worst first
      report.html

A file that is done is not labelled again. So the same command goes on after a kill, a full disk, or
with more files; one that cannot be labelled stops no other.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.export import export
from panoforge.core.names import is_litter
from panoforge.core.progress import Progress
from panoforge.core.run_layout import DATASET, REPORT_FILE
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.label.config import AnnotateConfig
from panoforge.label.inputs import items_of
from panoforge.label.labelling import (
    STAGED,
    FootageDone,
    FootageTask,
    Runner,
    label_here,
    record_path,
)
from panoforge.label.records import FootageRecord, read_record
from panoforge.label.report import write_annotate_report
from panoforge.label.video.revise import Revision, encode_revisions, worst_first

REVISE_FILE, EXPORT_FILE = "revise.json", "export.json"


@dataclass(frozen=True)
class AnnotateSummary:
    """What a run of `pano annotate` has done.

    `records` of all files that are labelled, now or before; `failures` by name.
    """

    records: tuple[FootageRecord, ...]
    failures: dict[str, str]
    revise: tuple[Revision, ...]
    report: Path


def annotate(
    place: Path, out: Path, config: AnnotateConfig, runner: Runner = label_here
) -> AnnotateSummary:
    """Label what is at a place.

    Args:
        place: a picture, a video file, a folder of both, or a dataset of ours.
        out: the folder that everything is written to.
        config: with what.
        runner: who labels the files: this process, or Ray.

    Raises:
        DataError: there is nothing to label, or nothing could be labelled.
        StorageError: a disk is full, or cannot be written; the same command goes on from there.
        InUse: another process labels into that folder.
    """
    footage = items_of(place, video=config.video)
    done: dict[str, FootageDone] = {}
    with held(out, "pano annotate"), Progress("labelling", len(footage), unit="files") as progress:

        def note(one: FootageDone) -> None:
            done[one.name] = one
            if one.failure:
                progress.fail()
                progress.log(f"{one.name} failed: {one.failure}")
            progress.advance()

        runner([FootageTask(place, one.name, out, config) for one in footage], note)
        records = [
            record
            for one in footage
            if done[one.name].record is not None
            and (record := read_record(record_path(out, one))) is not None
        ]
        failures = {name: one.failure for name, one in done.items() if one.failure}
        if not records:
            raise DataError(
                f"nothing of {place} could be labelled: {next(iter(failures.values()), 'no files')}"
            )
        _keep_only(out / STAGED, records)
        _publish(out, config)
        entries = worst_first([entry for record in records for entry in record.revise])
        write_bytes_atomic(out / REVISE_FILE, encode_revisions(entries))
        report = out / REPORT_FILE
        write_annotate_report(report, place, out, config, records, failures, entries)
    return AnnotateSummary(tuple(records), failures, tuple(entries), report)


def _keep_only(staged: Path, records: Sequence[FootageRecord]) -> None:
    """Take away what is staged of files that are not done, or not there any more."""
    wanted = {key for record in records for key in record.keys}
    with storage_errors(staged):
        for folder in sorted(staged.iterdir()):
            if folder.is_dir() and not is_litter(folder.name) and folder.name not in wanted:
                shutil.rmtree(folder)


def _publish(out: Path, config: AnnotateConfig) -> None:
    """The dataset, and its exports: those that are of this very dataset stay."""
    options = PackOptions(splits=tuple(config.splits.items()))
    before = _manifest(out)
    pack(out / STAGED, out / DATASET, options)
    fresh = _manifest(out) != before
    for to in config.write:
        folder = out / to
        if not fresh and (folder / EXPORT_FILE).exists():
            continue
        with storage_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
        export(Dataset.open(out / DATASET), to, folder)


def _manifest(out: Path) -> bytes:
    path = out / DATASET / "manifest.json"
    with storage_errors(path):
        return path.read_bytes() if path.exists() else b""
