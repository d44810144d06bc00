"""Prompts: one click per instance at its most interior point, as a direction, and as points in every frame that sees it.

The most interior point of a mask is the pixel whose *angular* distance to the nearest pixel outside the mask is largest,
across the seam and over the poles: a mask cut by the panorama's border has no border there. Distances are on the sphere,
so a click does not drift towards a pole because pixels are dense there.

The distance transform is exact and separable although the sphere is curved: between two given latitudes the angle grows
with the longitude difference, so the nearest outside pixel of a row is the one nearest along that row. One pass finds it
per row, one takes the minimum over rows. Masks of more than `MAX_CELLS` cells a side are searched on a coarser grid whose
cells lie wholly inside (a lower bound, within about 2 % of the mask's size); the grid is refined until a cell fits.

Clicks are deterministic (ties: the first pixel in raster order) and saved as JSON, so that another tool can be scored
on the very same prompts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.frames import Projection
from eval.predictors import ObjectPrompt
from pano.masks import Box, instance_stats
from pano.sphere import direction_to_lonlat, pixel_to_direction
from pano.storage import write_bytes_atomic

MAX_CELLS = 128
SCHEMA_VERSION = 1

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Click:
    """A point on the sphere: `direction` (3,) unit vector, `label` 1 = on the object; (u, v) is its panorama pixel."""

    direction: NDArray[np.float64]
    u: int
    v: int
    label: int = 1

    @property
    def lon_deg(self) -> float:
        return float(np.degrees(direction_to_lonlat(self.direction)[0]))

    @property
    def lat_deg(self) -> float:
        return float(np.degrees(direction_to_lonlat(self.direction)[1]))


@dataclass(frozen=True)
class InstancePrompt:
    """The clicks of one instance id."""

    id: int
    clicks: tuple[Click, ...]


def click_instances(labels: NDArray[np.uint16], ids: Sequence[int]) -> list[InstancePrompt]:
    """One click for each of `ids`, which must all be in the label map."""
    stats = instance_stats(labels)
    index_of = {int(id_): index for index, id_ in enumerate(stats.ids)}
    height, width = labels.shape
    prompts = []
    for id_ in ids:
        u, v = interior_pixel(labels == id_, stats.box(index_of[int(id_)]))
        prompts.append(InstancePrompt(int(id_), (Click(pixel_to_direction(u, v, width, height), u, v),)))
    return prompts


def interior_pixel(mask: Bools, box: Box) -> tuple[int, int]:
    """(column, row) of the most interior pixel of a non-empty H×W mask with smallest cylinder box `box`."""
    height, width = mask.shape
    full_circle = box.width >= width
    margin = 0 if full_circle else 1  # the columns beside the box are outside the mask
    columns = np.arange(box.u0 - margin, box.u0 + box.width + margin) % width
    v0, v1 = max(0, box.v0 - 1), min(height, box.v0 + box.height + 1)
    window = mask[v0:v1][:, columns]
    stride = 1
    while max(window.shape) > stride * MAX_CELLS:
        stride *= 2
    while full_circle and width % stride:
        stride //= 2
    while not (cells := _whole_cells(window, stride)).any():
        stride //= 2
    row_at = v0 + np.minimum((np.arange(cells.shape[0]) + 0.5) * stride, window.shape[0] - 0.5)
    lat = (0.5 - row_at / height) * np.pi
    distance = angular_distance_squared(cells, lat, 2 * np.pi * stride / width, wraps=full_circle)
    best = int(np.argmax(np.round(np.where(cells, distance, -1.0), 12)))
    row, column = divmod(best, cells.shape[1])
    v = min(v0 + row * stride + (stride - 1) // 2, v1 - 1)
    u = columns[min(column * stride + (stride - 1) // 2, columns.size - 1)]
    return int(u), int(v)


def _whole_cells(window: Bools, stride: int) -> Bools:
    """Blocks of stride² pixels that lie wholly inside the mask; blocks cut by the window's edge count what is there."""
    if stride == 1:
        return window
    down, across = (-window.shape[0]) % stride, (-window.shape[1]) % stride
    padded = np.pad(window, ((0, down), (0, across)), constant_values=True)
    blocks = padded.reshape(padded.shape[0] // stride, stride, padded.shape[1] // stride, stride)
    return blocks.all(axis=(1, 3))


def angular_distance_squared(inside: Bools, lat: NDArray[np.float64], lon_step: float, *, wraps: bool) -> NDArray[np.float64]:
    """sin²(d/2) of the angle d from each cell to the nearest cell outside, exact. `inside` rows×columns on an equal-
    longitude grid with `lon_step` radians a column, `lat` (rows,) radians; `wraps`: the columns close the circle.
    Where a grid has nothing outside, 1 (the antipode)."""
    columns = _columns_to_outside(inside, wraps)
    sine = np.sin(np.minimum(columns * lon_step, np.pi) / 2) ** 2  # 1 where a row has nothing outside: corrected below
    nothing = np.isinf(columns)
    cosine = np.cos(lat)
    best = np.ones(inside.shape)
    for row in range(lat.size):
        if nothing[row].all():
            continue
        across = np.where(nothing[row], np.inf, sine[row])
        haversine = np.sin((lat - lat[row]) / 2)[:, None] ** 2 + (cosine * cosine[row])[:, None] * across[None, :]
        np.minimum(best, haversine, out=best)
    return np.where(inside, best, 0.0)


def _columns_to_outside(inside: Bools, wraps: bool) -> NDArray[np.float64]:
    """Columns from each cell to the nearest cell of its row that is outside; inf where there is none."""
    columns = inside.shape[1]
    tiled = np.tile(inside, (1, 3)) if wraps else inside
    at = np.arange(tiled.shape[1], dtype=np.float64)
    left = np.maximum.accumulate(np.where(tiled, -np.inf, at), axis=1)
    right = np.minimum.accumulate(np.where(tiled, np.inf, at)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.minimum(at - left, right - at)
    return nearest[:, columns : 2 * columns] if wraps else nearest


def project_prompts(prompts: Sequence[InstancePrompt], projections: Sequence[Projection]) -> list[ObjectPrompt]:
    """Every click as a point in every frame that sees it."""
    objects = []
    for prompt in prompts:
        directions = np.array([click.direction for click in prompt.clicks])
        labels = np.array([click.label for click in prompt.clicks], np.int32)
        points = {}
        for index, projection in enumerate(projections):
            x, y, inside = projection.project(directions)
            if inside.any():
                points[index] = (np.stack([x, y], axis=-1)[inside], labels[inside])
        objects.append(ObjectPrompt(prompt.id, points))
    return objects


class ClickRow(Protocol):
    """What the prompts file needs of an instance; `eval.results.Row` has it."""

    id: int
    lon_deg: float
    lat_deg: float
    u: int
    v: int


def save_prompts(path: Path, panoramas: Mapping[str, tuple[int, int, Sequence[ClickRow]]], protocol_id: str) -> None:
    """Write the prompts of an evaluation as one JSON file: {key: (width, height, clicks)}, clicks in degrees and pixels."""
    document = {
        "schema_version": SCHEMA_VERSION, "format": "panoforge-prompts", "protocol_id": protocol_id,
        "panoramas": {
            key: {"width": width, "height": height, "instances": [
                {"id": row.id, "clicks": [{"lon_deg": round(row.lon_deg, 6), "lat_deg": round(row.lat_deg, 6),
                                           "u": row.u, "v": row.v, "label": 1}]}
                for row in rows
            ]}
            for key, (width, height, rows) in panoramas.items()
        },
    }
    write_bytes_atomic(path, json.dumps(document, indent=1).encode() + b"\n")
