"""Results: one row per panorama, method, predictor and instance; their table on disk; the scores made of them.

A panorama's rows are one Parquet file, written in one rename together with its pictures: that folder is the unit of
resuming. Its `fingerprint` (config, weights, data, in the Parquet metadata) says what it is a result *of*; a folder with another
fingerprint is computed again. `scores` is a pure function of the rows, so an interrupted evaluation that is run again ends
with the same `results.json`, byte for byte but for times.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from eval.metrics import miou, miou_by_image

Role = Literal["model", "ceiling", "logit ceiling", "floor"]
ROWS_NAME = "rows.parquet"
_FINGERPRINT = b"panoforge.fingerprint"

SCHEMA = pa.schema([
    ("key", pa.string()), ("method", pa.string()), ("role", pa.string()), ("predictor", pa.string()),
    ("id", pa.int32()), ("category", pa.string()), ("flags", pa.list_(pa.string())),
    ("pixels", pa.int64()), ("area_sr", pa.float64()), ("lon_deg", pa.float64()), ("lat_deg", pa.float64()),
    ("u", pa.int32()), ("v", pa.int32()), ("frames", pa.int32()),
    ("predicted_pixels", pa.int64()), ("both_pixels", pa.int64()), ("iou", pa.float64()), ("iou_cos", pa.float64()),
    ("boundary_f", pa.float64()),
])


@dataclass(frozen=True)
class Row:
    """One instance under one method and predictor. (u, v), lon and lat are its click; `frames` how many frames see that;
    `iou` counts pixels, `iou_cos` weighs them by cos φ, `boundary_f` is DAVIS' F, seam-aware. `category`, `flags`,
    `area_sr` come from the dataset."""

    key: str
    method: str
    role: Role
    predictor: str
    id: int
    category: str
    flags: tuple[str, ...]
    pixels: int
    area_sr: float
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


def rows_parquet(rows: Sequence[Row], fingerprint: str) -> bytes:
    """The Parquet file of one panorama."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_FINGERPRINT: fingerprint.encode()}), sink)
    return sink.getvalue()


def read_rows(path: Path, fingerprint: str) -> list[Row] | None:
    """A panorama's rows, or None if they are not there, not readable, or of another evaluation."""
    try:
        table = pq.ParquetFile(path).read(use_threads=False)
    except (OSError, pa.ArrowInvalid):
        return None
    metadata = table.schema.metadata or {}
    if metadata.get(_FINGERPRINT) != fingerprint.encode() or table.schema.names != SCHEMA.names:
        return None
    return [Row(**{**row, "flags": tuple(row["flags"])}) for row in table.to_pylist()]


# Sizes are COCO's 32² and 96² pixels, in a 1024² view of 90° (512 pixels to the radian), as solid angles.
SMALL_SR, LARGE_SR = (32 / 512) ** 2, (96 / 512) ** 2


def groups_of(row: Row) -> dict[str, str]:
    """The group of an instance under each way to group."""
    lat = abs(row.lat_deg)
    return {
        "size": "small" if row.area_sr < SMALL_SR else "medium" if row.area_sr < LARGE_SR else "large",
        "latitude of the click": "below 30°" if lat < 30 else "30° to 60°" if lat < 60 else "above 60°",
        "crossing": "over a pole" if "pole" in row.flags else "over the seam" if "seam" in row.flags else "neither",
    }


GROUP_ORDER = {
    "size": ("small", "medium", "large"), "latitude of the click": ("below 30°", "30° to 60°", "above 60°"),
    "crossing": ("neither", "over the seam", "over a pole"),
}


def group_scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """mIoU by method and role within every group that has instances."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        for by, group in groups_of(row).items():
            found.setdefault((by, group, row.method, row.role), []).append(row.iou)
    return [
        {"by": by, "group": group, "method": method, "role": role, "instances": len(ious), "miou": miou(ious)}
        for by, order in GROUP_ORDER.items() for group in order
        for (b, g, method, role), ious in found.items() if (b, g) == (by, group)
    ]


def scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per method and role, in the order of first appearance: mIoU by instance (`miou`), by panorama
    (`miou_by_image`), cos φ-weighted (`miou_cos`), mean boundary F (`boundary_f`), and how many instances
    and panoramas they are of."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.role, row.predictor), []).append(row)
    return [
        {"method": method, "role": role, "predictor": predictor, "instances": len(group),
         "panoramas": len({row.key for row in group}), "miou": miou([row.iou for row in group]),
         "miou_by_image": miou_by_image([row.iou for row in group], [row.key for row in group]),
         "miou_cos": miou([row.iou_cos for row in group]), "boundary_f": miou([row.boundary_f for row in group])}
        for (method, role, predictor), group in groups.items()
    ]
