"""Where the results of an evaluation lie: RUN/eval/WHO-DATA-IDENTITY/, with `latest` beside them.

    results.json  report.html  prompts.json  run.json     of one identity: protocol, weights, data
    panoramas/KEY/ (videos/KEY.json)                      what each panorama (video) gave

An evaluation of another identity gets another folder, so none overwrites another's. The same one
run again finds what it finished and goes on from there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import own_path, read_bytes
from panoforge.core.run_layout import EVAL
from panoforge.core.storage.identity import LATEST, folder_name
from panoforge.eval.config import EvalConfig

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its folder, and the content of results.json in it."""

    folder: Path
    results: dict[str, Any]


def evaluation_folder(run: Path, config: EvalConfig, data: str, identity: str) -> Path:
    """The folder of an evaluation of `data` (a name) with this identity (a SHA-256).

    DataError where links lead out of the run.
    """
    if config.task == "dense":
        who = f"dense-{config.dense.predictor}"
    else:
        who = f"sam2-{config.model.size}" if config.predictor == "sam2" else config.predictor
    return own_path(run / EVAL / folder_name(f"{who}-{data}", identity), run)


def results_file(path: Path) -> Path:
    """The results.json that `path` stands for, whether it exists or not.

    Args:
        path: a file, the folder of an evaluation, or a run, whose latest evaluation is meant.
    """
    if not path.is_dir():
        return path
    latest = path / EVAL / LATEST / RESULTS_FILE
    own = path / RESULTS_FILE
    return own if own.exists() or not latest.exists() else latest


def read_finished(path: Path, read: Callable[[bytes], Any] = json.loads) -> Any:
    """What a finished panorama's file holds, as `read` understands its bytes.

    DataError, with the way out, where the file was damaged or replaced since.
    """
    try:
        return read(read_bytes(path))
    except (DataError, ValueError, TypeError, RecursionError) as error:
        raise not_as_written(path, error) from None


def not_as_written(path: Path, why: object) -> DataError:
    """The error for a finished panorama's file that was damaged or replaced since."""
    return DataError(
        f"{path} is not what the evaluation wrote ({why}): remove {path.parent} and run it"
        " again, this panorama alone is scored anew"
    )
