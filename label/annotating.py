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
from dataclasses import dataclass
from pathlib import Path

from panoforge.core.export import export
from panoforge.core.progress import Progress
from panoforge.core.run_layout import DATASET, REPORT_FILE
from panoforge.core.sample.revisions import REVISE_FILE, Revision, encode_revisions, worst_first
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.label.by_file import STAGED, FileTask, Runner, keep_only, label_files, run_here
from panoforge.label.config import AnnotateConfig
from panoforge.label.inputs import items_of
from panoforge.label.labelling import label_footage
from panoforge.label.records import FootageRecord
from panoforge.label.report import write_annotate_report

EXPORT_FILE = "export.json"


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
    place: Path, out: Path, config: AnnotateConfig, runner: Runner = run_here
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
    tasks = [FileTask(place, one.name, out, config) for one in footage]
    with held(out, "pano annotate"), Progress("labelling", len(footage), unit="files") as progress:
        records, failures = label_files(label_footage, tasks, runner, progress)
        keep_only(out / STAGED, {key for record in records for key in record.keys})
        _publish(out, config)
        entries = worst_first([entry for record in records for entry in record.revise])
        write_bytes_atomic(out / REVISE_FILE, encode_revisions(entries))
        report = out / REPORT_FILE
        write_annotate_report(report, place, out, config, records, failures, entries)
    return AnnotateSummary(tuple(records), failures, tuple(entries), report)


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
