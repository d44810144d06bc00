"""Results: one row per panorama, method, predictor and instance, and their table on disk.

A panorama's rows are one Parquet file, written in one rename together with its pictures: that
folder is the unit of resuming. Its `fingerprint` (config, weights, data, in the Parquet metadata)
says what it is a result *of*; a folder with another fingerprint is computed again. Scores
(`panoforge.eval.scoring.scores`) are a pure function of the rows, so an interrupted evaluation that
is run again ends with the same `results.json`, byte for byte but for times.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.parquet import read_parquet

Role = Literal["model", "ceiling", "logit ceiling", "floor"]
ROWS_NAME = "rows.parquet"
_FINGERPRINT = b"panoforge.fingerprint"

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("method", pa.string()),
        ("role", pa.string()),
        ("predictor", pa.string()),
        ("id", pa.int32()),
        ("category", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("pixels", pa.int64()),
        ("area_sr", pa.float64()),
        ("view_pixels", pa.float64()),
        ("lon_deg", pa.float64()),
        ("lat_deg", pa.float64()),
        ("u", pa.int32()),
        ("v", pa.int32()),
        ("frames", pa.int32()),
        ("predicted_pixels", pa.int64()),
        ("both_pixels", pa.int64()),
        ("iou", pa.float64()),
        ("iou_cos", pa.float64()),
        ("boundary_f", pa.float64()),
        ("j_sphere", pa.float64()),
        ("f_sphere", pa.float64()),
        ("score", pa.float64()),
        ("best_id", pa.int32()),
        ("best_iou", pa.float64()),
        ("corrected", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One instance under one method and predictor.

    - (u, v), `lon_deg`, `lat_deg`: its most interior point, the first click where prompts are
      clicks.
    - `frames`: how many frames its prompt is in.
    - `iou` (J) counts pixels; `iou_cos` weighs them by cos φ; `boundary_f` is DAVIS' F, seam-aware.
    - `j_sphere`, `f_sphere`: 360VOTS', seam-aware.
    - `score`: how sure the mask is. `best_id`, `best_iou`: which scored instance it overlaps most.
      AP is made of these.
    - `category`, `flags`, `area_sr`: as the dataset has them. `view_pixels`: that area in pixels of
      a scan's view, at its middle.
    - `corrected`: 0 under the protocol's own prompts; n after clicks where the answer was wrong, n
      clicks in all.
    """

    key: str
    method: str
    role: Role
    predictor: str
    id: int
    category: str
    flags: tuple[str, ...]
    pixels: int
    area_sr: float
    view_pixels: float
    lon_deg: float
    lat_deg: float
    u: int
    v: int
    frames: int
    predicted_pixels: int
    both_pixels: int
    iou: float
    iou_cos: float
    boundary_f: float
    j_sphere: float
    f_sphere: float
    score: float
    best_id: int
    best_iou: float
    corrected: int = 0


def rows_parquet(rows: Sequence[Row], fingerprint: str) -> bytes:
    """The Parquet file of one panorama."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_FINGERPRINT: fingerprint.encode()}), sink)
    return sink.getvalue()


def read_rows(path: Path, fingerprint: str) -> list[Row] | None:
    """A panorama's rows, or None if they are not there, not readable, or of another evaluation."""
    try:
        table = read_parquet(read_bytes(path), SCHEMA, what="a panorama's rows")
    except DataError:
        return None
    metadata = table.schema.metadata or {}
    if metadata.get(_FINGERPRINT) != fingerprint.encode():
        return None
    if (
        any(column.null_count for column in table.columns)
        or pc.list_flatten(table["flags"]).null_count
    ):
        return None
    return [Row(**{**row, "flags": tuple(row["flags"])}) for row in table.to_pylist()]
