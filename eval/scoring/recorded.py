"""results.json as a file that somebody else may have written: what `pano compare` takes from it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.models import FrozenModel

RESULTS_FORMAT, RESULTS_SCHEMA_VERSION = "panoforge-results", 2
MAX_RESULTS_BYTES = 1 << 30

Share = Annotated[float, Field(ge=0, le=1 + 1e-6)]  # sums of floats


class _RecordedPart(FrozenModel):
    """A part of results.json. Keys that a comparison has no use for are left alone."""

    model_config = ConfigDict(extra="ignore", strict=True)


class RecordedRow(_RecordedPart):
    """The scores of one instance under one method."""

    method: str
    role: str
    key: str
    id: Annotated[int, Field(ge=0, lt=2**63)]
    iou: Share
    iou_cos: Share
    boundary_f: Share


class RecordedScore(_RecordedPart):
    """What one method scored over all instances."""

    method: str
    role: str
    ap: Share | None


class RecordedData(_RecordedPart):
    """The dataset that was scored."""

    name: str
    manifest_sha256: str


class RecordedWeights(_RecordedPart):
    """The weights that were scored."""

    kind: str


class Recorded(_RecordedPart):
    """results.json."""

    format: str
    schema_version: int
    protocol_id: str
    protocol: dict[str, Any]
    dataset: RecordedData
    weights: RecordedWeights
    scores: tuple[RecordedScore, ...]
    rows: tuple[RecordedRow, ...]

    @model_validator(mode="after")
    def _scores_each_instance_once(self) -> "Recorded":
        seen = {(row.method, row.role, row.key, row.id) for row in self.rows}
        if len(seen) != len(self.rows):
            raise ValueError("rows: an instance stands twice under one method")
        return self


def read_recorded(file: Path) -> Recorded:
    """The results in `file`. DataError if it is not what `pano eval` writes."""
    data = read_bytes(file, MAX_RESULTS_BYTES)
    try:
        found = Recorded.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise DataError(
            f"{file} is not what pano eval writes ({where}: {first['msg']}): evaluate again"
        ) from None
    if (found.format, found.schema_version) != (RESULTS_FORMAT, RESULTS_SCHEMA_VERSION):
        raise DataError(
            f"{file} is {found.format} version {found.schema_version}, this panoforge reads"
            f" {RESULTS_FORMAT} version {RESULTS_SCHEMA_VERSION}: evaluate again"
        )
    return found
