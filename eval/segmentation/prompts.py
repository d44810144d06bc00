"""Prompts: clicks, a box or a mask per instance, chosen on the sphere.

They are projected into the frames that a model sees.

Clicks. The first is the most interior point: the pixel whose *angular* distance to the nearest
pixel outside the mask is largest. It is measured across the seam and over the poles: a mask cut by
the panorama's border has no border there. Each further one is the most interior point of what is
left when the earlier clicks count as outside, so three clicks spread over the instance. No such
click depends on what a model answered: prompts can be saved
(`panoforge.eval.segmentation.promptfile`) and another tool scored on the very same ones. SAM2's own
evaluation clicks where the answer was wrong, which is another prompt for every model: see
`panoforge.eval.segmentation.corrections`. A click goes into every frame that sees it.

Box and mask. The wrap-aware box of the instance, or the instance itself, is given in one frame: the
one that sees most of it by solid angle, the first of equals. A box there is the smallest rectangle
around the part of the panorama box that the frame sees.

The distance transform is exact and separable although the sphere is curved. Between two given
latitudes the angle grows with the longitude difference: the nearest outside pixel of a row is the
one nearest along that row. One pass finds it per row, one takes the minimum over rows. Masks of
more than `MAX_CELLS` cells a side are searched on a coarser grid whose cells lie wholly inside:
a lower bound, within about 2 % of the mask's size. The grid is refined until a cell fits.
Everything is deterministic (ties: the first pixel in raster order).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import edge_lat, edge_to_index, index_to_edge, row_lat
from panoforge.core.geometry.sphere import direction_to_lonlat, pixel_to_direction, row_area_sr
from panoforge.core.geometry.views import wrap_panorama
from panoforge.core.sample.label_maps import Box, decode_rle, encode_rles, instance_stats
from panoforge.core.types import Bools
from panoforge.eval.config import PromptKind
from panoforge.eval.predictors import BOX_LABELS, ObjectPrompt
from panoforge.eval.views.frames import Projection

MAX_CELLS = 128
BOX_SAMPLES = 48  # a side, when asking how much of a box a frame sees
MASK_SAMPLES = 20_000


@dataclass(frozen=True)
class Click:
    """A point on the sphere.

    `direction` (3,) unit vector, `label` 1 = on the object; (u, v) is its panorama pixel.
    """

    direction: NDArray[np.float64]
    u: int
    v: int
    label: int = 1

    @property
    def lon_deg(self) -> float:
        """Longitude of the click."""
        return float(np.degrees(direction_to_lonlat(self.direction)[0]))

    @property
    def lat_deg(self) -> float:
        """Latitude of the click."""
        return float(np.degrees(direction_to_lonlat(self.direction)[1]))


@dataclass(frozen=True)
class InstancePrompt:
    """The prompt of one instance id.

    Clicks, or a panorama box, or a COCO RLE of the whole mask (`size` is (width, height)).
    """

    id: int
    clicks: tuple[Click, ...] = ()
    box: Box | None = None
    mask: Mapping[str, object] | None = field(default=None, repr=False)
    size: tuple[int, int] = (0, 0)


def click_instances(
    labels: NDArray[np.uint16], ids: Sequence[int], clicks: int = 1
) -> list[InstancePrompt]:
    """Up to `clicks` clicks for each of `ids`, which must all be in the label map.

    There are no more than it has pixels.
    """
    stats = instance_stats(labels)
    index_of = {int(id_): index for index, id_ in enumerate(stats.ids)}
    height, width = labels.shape
    prompts = []
    for id_ in ids:
        mask, box = labels == id_, stats.box(index_of[int(id_)])
        found = []
        for _ in range(min(clicks, int(stats.pixels[index_of[int(id_)]]))):
            u, v = interior_pixel(mask, box)
            found.append(Click(pixel_to_direction(u, v, width, height), u, v))
            mask[v, u] = False
        prompts.append(InstancePrompt(int(id_), tuple(found), size=(width, height)))
    return prompts


def prompt_instances(
    labels: NDArray[np.uint16], ids: Sequence[int], kind: PromptKind, clicks: int = 1
) -> list[InstancePrompt]:
    """The prompts of `ids` by the rules of a config."""
    if kind == "click":
        return click_instances(labels, ids, clicks)
    size = (labels.shape[1], labels.shape[0])
    if kind == "box":
        stats = instance_stats(labels)
        boxes = {int(id_): stats.box(index) for index, id_ in enumerate(stats.ids)}
        return [InstancePrompt(int(id_), box=boxes[int(id_)], size=size) for id_ in ids]
    rles = encode_rles(labels)
    return [InstancePrompt(int(id_), mask=rles[int(id_)], size=size) for id_ in ids]


def interior_pixel(mask: Bools, box: Box) -> tuple[int, int]:
    """(column, row) of the most interior pixel of a mask.

    A non-empty one, H×W, with smallest cylinder box `box`.
    """
    return interior(mask, box)[:2]


def interior(mask: Bools, box: Box) -> tuple[int, int, float]:
    """The same, and sin²(d/2) of its angular distance d to the nearest pixel outside."""
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
    within = np.minimum(
        index_to_edge(np.arange(cells.shape[0])) * stride, index_to_edge(window.shape[0] - 1)
    )
    lat = edge_lat(v0 + within, height)
    distance = angular_distance_squared(cells, lat, 2 * np.pi * stride / width, wraps=full_circle)
    distance = np.round(np.where(cells, distance, -1.0), 12)
    best = int(np.argmax(distance))
    row, column = divmod(best, cells.shape[1])
    v = min(v0 + row * stride + (stride - 1) // 2, v1 - 1)
    u = columns[min(column * stride + (stride - 1) // 2, columns.size - 1)]
    return int(u), int(v), float(distance.flat[best])


def _whole_cells(window: Bools, stride: int) -> Bools:
    """Blocks of stride² pixels that lie wholly inside the mask.

    Blocks cut by the window's edge count what is there.
    """
    if stride == 1:
        return window
    down, across = (-window.shape[0]) % stride, (-window.shape[1]) % stride
    padded = np.pad(window, ((0, down), (0, across)), constant_values=True)
    blocks = padded.reshape(padded.shape[0] // stride, stride, padded.shape[1] // stride, stride)
    return blocks.all(axis=(1, 3))


def angular_distance_squared(
    inside: Bools, lat: NDArray[np.float64], lon_step: float, *, wraps: bool
) -> NDArray[np.float64]:
    """sin²(d/2) of the angle d from each cell to the nearest cell outside, exact.

    `inside` rows×columns on an equal- longitude grid with `lon_step` radians a column, `lat`
    (rows,) radians; `wraps`: the columns close the circle. Where a grid has nothing outside, 1 (the
    antipode).
    """
    columns = _columns_to_outside(inside, wraps)
    sine = (
        np.sin(np.minimum(columns * lon_step, np.pi) / 2) ** 2
    )  # 1 where a row has nothing outside: corrected below
    nothing = np.isinf(columns)
    cosine = np.cos(lat)
    best = np.ones(inside.shape)
    for row in range(lat.size):
        if nothing[row].all():
            continue
        across = np.where(nothing[row], np.inf, sine[row])
        haversine = (
            np.sin((lat - lat[row]) / 2)[:, None] ** 2
            + (cosine * cosine[row])[:, None] * across[None, :]
        )
        np.minimum(best, haversine, out=best)
    return np.where(inside, best, 0.0)


def _columns_to_outside(inside: Bools, wraps: bool) -> NDArray[np.float64]:
    """Columns from each cell to the nearest cell of its row that is outside.

    Inf where there is none.
    """
    columns = inside.shape[1]
    tiled = np.tile(inside, (1, 3)) if wraps else inside
    at = np.arange(tiled.shape[1], dtype=np.float64)
    left = np.maximum.accumulate(np.where(tiled, -np.inf, at), axis=1)
    right = np.minimum.accumulate(np.where(tiled, np.inf, at)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.minimum(at - left, right - at)
    return nearest[:, columns : 2 * columns] if wraps else nearest


def project_prompts(
    prompts: Sequence[InstancePrompt], projections: Sequence[Projection]
) -> list[ObjectPrompt]:
    """The prompts as the frames see them.

    Clicks in every frame that sees them, a box or a mask in one.
    """
    return [
        _project_mask(prompt, projections)
        if prompt.mask is not None
        else _project_box(prompt, prompt.box, projections)
        if prompt.box is not None
        else _project_clicks(prompt, projections)
        for prompt in prompts
    ]


def _project_clicks(prompt: InstancePrompt, projections: Sequence[Projection]) -> ObjectPrompt:
    directions = np.array([click.direction for click in prompt.clicks]).reshape(-1, 3)
    labels = np.array([click.label for click in prompt.clicks], np.int32)
    points = {}
    for index, projection in enumerate(projections):
        x, y, inside = projection.project(directions)
        if (
            labels[inside] == 1
        ).any():  # a frame that sees only clicks beside the object is not told what the object is
            points[index] = (np.stack([x, y], axis=-1)[inside], labels[inside])
    return ObjectPrompt(prompt.id, points)


def _project_box(
    prompt: InstancePrompt, box: Box, projections: Sequence[Projection]
) -> ObjectPrompt:
    width, height = prompt.size
    u = edge_to_index(box.u0) + np.linspace(0, box.width, BOX_SAMPLES)[None, :]
    v = edge_to_index(box.v0) + np.linspace(0, box.height, BOX_SAMPLES)[:, None]
    directions = pixel_to_direction(u, v, width, height)
    weight = np.broadcast_to(np.cos(row_lat(v, height)), directions.shape[:2])
    best = _sees_most(projections, directions, weight)
    if best is None:
        return ObjectPrompt(prompt.id, {})
    x, y, inside = projections[best].project(directions)
    corners = np.array([[x[inside].min(), y[inside].min()], [x[inside].max(), y[inside].max()]])
    return ObjectPrompt(prompt.id, {best: (corners, BOX_LABELS)})


def _project_mask(prompt: InstancePrompt, projections: Sequence[Projection]) -> ObjectPrompt:
    mask = decode_rle(dict(prompt.mask or {}))
    height, width = mask.shape
    v, u = np.nonzero(mask)
    some = slice(None, None, max(1, v.size // MASK_SAMPLES))
    v, u = v[some], u[some]
    best = _sees_most(
        projections, pixel_to_direction(u, v, width, height), row_area_sr(width, height)[v]
    )
    if best is None:
        return ObjectPrompt(prompt.id, {})
    seen = projections[best].sample(wrap_panorama(mask.astype(np.uint16)), labels=True)
    return ObjectPrompt(prompt.id, {}, {best: seen.astype(np.float32) * 20 - 10})


def _sees_most(
    projections: Sequence[Projection], directions: NDArray[np.float64], weight: NDArray[np.float64]
) -> int | None:
    """The frame that sees most of `directions` by weight, the first of equals.

    None if none sees any.
    """
    seen = [
        round(float((projection.project(directions)[2] * weight).sum()), 9)
        for projection in projections
    ]
    best = int(np.argmax(seen)) if seen else 0
    return best if seen and seen[best] > 0 else None
