"""Rows of dense scores: what one predictor sums in one place of one panorama, and their table.

A row's `sums` are additive: those of several panoramas together are their sum. For `semantic` it is
the confusion matrix, row by row; for depth and normals what their metrics say
(`panoforge.eval.scoring.metrics`). `median_deg` is the panorama's own median angle, which no sum
gives; NaN elsewhere. A panorama's rows are one Parquet file, written in one rename together with
its pictures, with a fingerprint of config, weights and data.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.parquet import read_parquet
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.types import Bools, Floats
from panoforge.eval.dense.predictors import DenseRole
from panoforge.eval.maps import DenseMaps
from panoforge.eval.scoring.metrics.depth import (
    ALIGNMENTS,
    aligned,
    counted_depth,
    depth_errors,
)
from panoforge.eval.scoring.metrics.normals import (
    angles_deg,
    counted_normals,
    median_angle_deg,
    normal_sums,
)
from panoforge.eval.scoring.metrics.places import places
from panoforge.eval.scoring.metrics.semantics import confusion
from panoforge.train.settings.mtpano import DenseTask

Weighting = Literal["pixels", "solid angle"]
ROWS_NAME = "rows.parquet"
_FINGERPRINT = b"panoforge.fingerprint"
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("role", "task", "variant", "place", "weighting")),
        ("median_deg", pa.float64()),
        ("sums", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class DenseRow:
    """`variant` is the alignment of depth, "" of other tasks."""

    key: str
    role: DenseRole
    task: DenseTask
    variant: str
    place: str
    weighting: Weighting
    median_deg: float
    sums: Floats = field(repr=False)


def score_maps(
    key: str,
    role: DenseRole,
    truth: DenseMaps,
    predicted: DenseMaps,
    classes: int,
    max_depth_m: float,
) -> list[DenseRow]:
    """The rows of one checked prediction.

    Args:
        key: The panorama.
        role: Whose prediction it is.
        truth: The truth; tasks that it lacks are not scored.
        predicted: The prediction, of the same size.
        classes: How many classes the label set has.
        max_depth_m: Farther truths do not count.
    """
    some = next(a for a in (truth.semantic, truth.depth_m, truth.normal) if a is not None)
    height, width = some.shape[:2]
    area = row_area_sr(width, height)
    weights: dict[Weighting, Floats] = {"pixels": np.ones(height), "solid angle": area}
    where = list(places(height, width, truth.depth_m))
    rows = []
    for task, variant, place, weighting, median_deg, sums in _all(
        truth, predicted, classes, max_depth_m, where, weights
    ):
        rows.append(DenseRow(key, role, task, variant, place, weighting, median_deg, sums))
    return rows


_Sums = tuple[DenseTask, str, str, Weighting, float, Floats]


def _all(
    truth: DenseMaps,
    predicted: DenseMaps,
    classes: int,
    max_depth_m: float,
    where: Sequence[tuple[str, Bools]],
    weights: dict[Weighting, Floats],
) -> Iterator[_Sums]:
    if truth.semantic is not None and predicted.semantic is not None:
        for place, mask in where:
            for weighting, weight in weights.items():
                row_weight = None if weighting == "pixels" else weight
                matrix = confusion(
                    truth.semantic, predicted.semantic, classes, row_weight=row_weight, where=mask
                )
                yield "semantic", "", place, weighting, math.nan, matrix.ravel()
    if truth.depth_m is not None and predicted.depth_m is not None:
        counts = counted_depth(truth.depth_m, max_depth_m)
        asked = np.where(counts, predicted.depth_m, max_depth_m)  # what is unknown may be anything
        for how in ALIGNMENTS:
            found = aligned(truth.depth_m, asked, counts, how, max_depth_m)
            errors = depth_errors(truth.depth_m[counts], found[counts])
            for place, mask in where:
                inside = mask[counts]
                for weighting, weight in weights.items():
                    own = np.broadcast_to(weight[:, None], mask.shape)[counts][inside]
                    yield "depth", how, place, weighting, math.nan, errors[:, inside] @ own
    if truth.normal is not None and predicted.normal is not None:
        counts = counted_normals(truth.normal)
        angles = angles_deg(truth.normal[counts], predicted.normal[counts])
        for place, mask in where:
            inside = mask[counts]
            for weighting, weight in weights.items():
                own = np.broadcast_to(weight[:, None], mask.shape)[counts][inside]
                here = angles[inside]
                median = median_angle_deg(here, own)
                yield "normal", "", place, weighting, median, normal_sums(here, own)


def rows_parquet(rows: Sequence[DenseRow], fingerprint: str) -> bytes:
    """The Parquet file of one panorama's rows."""
    records = [
        {
            "role": row.role,
            "task": row.task,
            "variant": row.variant,
            "place": row.place,
            "weighting": row.weighting,
            "median_deg": row.median_deg,
            "sums": row.sums.tolist(),
        }
        for row in rows
    ]
    table = pa.Table.from_pylist(records, schema=_SCHEMA)
    sink = io.BytesIO()
    marked = table.replace_schema_metadata({_FINGERPRINT: fingerprint.encode()})
    pq.write_table(marked, sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def read_rows(path: Path, key: str, fingerprint: str) -> list[DenseRow] | None:
    """A panorama's rows, or None if they are not there, not readable, or of another evaluation."""
    try:
        table = read_parquet(read_bytes(path), _SCHEMA, what="a panorama's dense rows")
    except DataError:
        return None
    if (table.schema.metadata or {}).get(_FINGERPRINT) != fingerprint.encode():
        return None
    if any(column.null_count for column in table.columns):
        return None
    return [
        DenseRow(key=key, **{**row, "sums": np.array(row["sums"], np.float64)})
        for row in table.to_pylist()
    ]
