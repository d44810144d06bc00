"""The file in a run's folder that says what the run is.

It is the resolved config of its last `pano render`. `pano status`, `logs`, `retry` and `verify`
find the run by it.
"""

from pathlib import Path

from pydantic import ValidationError

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.state.ledger import Ledger, open_ledger
from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.run_layout import JOB_FILE
from panoforge.core.storage.atomic import write_bytes_atomic

MAX_JOB_BYTES = 16 << 20


def save_job(config: RenderJobConfig) -> None:
    """Leave the job's config where `pano status`, `logs` and `retry` find it."""
    write_bytes_atomic(config.run / JOB_FILE, config.model_dump_json(indent=1).encode() + b"\n")


def load_job(run: Path) -> RenderJobConfig:
    """The config of a run. DataError if the folder is not one of a render run."""
    path = run / JOB_FILE
    if not path.is_file():
        raise DataError(
            f"{run} is not the folder of a render run: expected {JOB_FILE} there. Give the folder"
            " that `pano render` writes to (`run:` in its config)"
        )
    data = read_bytes(path, MAX_JOB_BYTES)
    try:
        return RenderJobConfig.model_validate_json(data).model_copy(update={"run": run})
    except ValidationError as error:
        raise DataError(
            f"{path} is no render config of this version: {error.errors()[0]['msg']}; go on with"
            " the panoforge that wrote it, or render into another run"
        ) from None


def ledger_of(config: RenderJobConfig) -> Ledger:
    """The ledger of a run that exists; a run folder that was moved finds its own."""
    return open_ledger(config.ledger_url)
