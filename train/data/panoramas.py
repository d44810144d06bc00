"""Whole panoramas with their dense truth, changed on the sphere.

`panorama_plan` draws a panorama and its changes from (seed, position), before any pixel;
`build_panorama` makes it. The camera is turned by whole columns of the result (Z), leant (T of
`panoforge.train.data.warp`), and the picture is mirrored (M, x → −x). Pixel direction d of the
result looks along

    R · M d,   R = Z(yaw) · T

in the panorama. Classes, depth and normals are those of the panorama's pixel that the ray falls
into, none is interpolated; colours are. Depth is along the ray and stays; a normal n becomes
M · Rᵀ · n. Normals are in the axes of the upright camera (x right, y forward, z up): a shard's are
in the world's and are turned by the sample's pose first.

Unknown is: class `VOID`, depth +inf (sky too), normal 0.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_map import ClassMap
from panoforge.core.categories.semantic import semantic_map
from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.geometry.sphere import (
    View,
    direction_to_lonlat,
    pixel_to_direction,
    view_rotation,
)
from panoforge.core.geometry.views import sample_directions, wrap_panorama
from panoforge.core.shards.read import Sample
from panoforge.core.types import Floats, Ints, Matrix
from panoforge.train.data.clips import jitter_colours
from panoforge.train.data.plan import DENSE_LANE, epoch_order
from panoforge.train.data.sources.whole import about_vertical
from panoforge.train.data.warp import tilt_matrix
from panoforge.train.settings.clips import ClipSettings
from panoforge.train.settings.dense import AugmentSettings
from panoforge.train.settings.mtpano import DenseTask


@dataclass(frozen=True)
class PanoramaPlan:
    """One panorama of a run, before any pixel.

    `sample` is the row of the dataset's index. `yaw_share` is the turn as a share of a whole one.
    `view` is where a random view looks, for supervision by one view.
    """

    position: int
    sample: int
    yaw_share: float
    tilt_deg: float
    tilt_towards_deg: float
    mirror: bool
    colour_seed: int
    view_yaw_deg: float
    view_pitch_deg: float


@dataclass(frozen=True)
class DensePanorama:
    """One panorama with its dense truth, H×W.

    `rgb` float32 H×W×3 in [0, 1]; `semantic` uint8 H×W, 255 void; `depth_m` float32 H×W, +inf
    unknown; `normal` float32 H×W×3, 0 unknown. None for products that were not asked for.
    `fit_depth` is whether its depth is known up to scale and shift only.
    """

    rgb: NDArray[np.float32]
    semantic: NDArray[np.uint8] | None
    depth_m: NDArray[np.float32] | None
    normal: NDArray[np.float32] | None
    fit_depth: bool = False


def panorama_plan(augment: AugmentSettings, seed: int, position: int, samples: int) -> PanoramaPlan:
    """The panorama at `position` of a line over `samples`, each once an epoch."""
    epoch, index = divmod(position, samples)
    rng = np.random.default_rng([seed, DENSE_LANE, position])
    up = rng.uniform(-1, 1)
    return PanoramaPlan(
        position=position,
        sample=int(epoch_order(seed, epoch, samples, 1)[index]),
        yaw_share=float(rng.random()) * augment.turn,
        tilt_deg=augment.tilt_deg * float(rng.random()),
        tilt_towards_deg=float(rng.uniform(-180, 180)),
        mirror=bool(rng.random() < augment.mirror),
        colour_seed=int(rng.integers(2**32)),
        view_yaw_deg=float(rng.uniform(-180, 180)),
        view_pitch_deg=float(np.degrees(np.arcsin(up))),
    )


def rotation_of(plan: PanoramaPlan, width: int) -> Matrix:
    """R above, 3×3, whose yaw is a whole number of the `width` columns."""
    upright = about_vertical(columns_of(plan, width) / width * 360)
    return times(upright, tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg))


def times(vectors: Floats, matrix: Matrix) -> Floats:
    """Vectors (…×3) · matrix, summed term by term.

    A matrix product rounds by where its arrays happen to lie, and a run would not repeat.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([x * c[0] + y * c[1] + z * c[2] for c in matrix.T], axis=-1)


def products_for(
    tasks: tuple[DenseTask, ...], members: frozenset[str] | set[str]
) -> tuple[str, ...]:
    """The products that are read for tasks of a sample that has the products `members`.

    DataError where a task has none.
    """
    wanted: list[str] = ["rgb"]
    for task in tasks:
        if task in members:
            wanted.append(task)
        elif task == "semantic" and "instance" in members:
            wanted.append("instance")
        else:
            raise DataError(
                f"has no {task}, which the task {task} learns from, only {sorted(members)}: render"
                f" it with products including {task}, or leave {task} out of dense.model.tasks"
            )
    return tuple(wanted)


def build_panorama(
    sample: Sample,
    plan: PanoramaPlan,
    augment: AugmentSettings,
    tasks: tuple[DenseTask, ...],
    classes: ClassMap,
    height: int,
) -> DensePanorama:
    """The panorama of `plan` at height×2·height. DataError names what is wrong with the sample."""
    check_whole(sample)
    turn = rotation_of(plan, 2 * height)
    rgb = picture(sample, plan, turn, height)
    jitter = ClipSettings(colour_jitter=augment.colour_jitter, grayscale=augment.grayscale)
    rgb = jitter_colours([rgb], jitter, np.random.default_rng(plan.colour_seed))[0]
    row, column = pixels_seen(plan, turn, height, sample.meta.height)
    semantic = depth = normal = None
    if "semantic" in tasks:
        semantic = classes.apply(categories_of(sample))[row, column]
    if "depth" in tasks:
        depth = np.asarray(sample.read("depth")[row, column], np.float32)
    if "normal" in tasks:
        world = np.asarray(sample.read("normal")[row, column], np.float32)
        pose = np.array(sample.meta.pose.world_from_pano)
        normal = unit(turned_back(world, times(pose, turn)))
        if plan.mirror:
            normal[..., 0] *= -1
    return DensePanorama((rgb / 255.0).astype(np.float32), semantic, depth, normal)


def check_whole(sample: Sample) -> None:
    """DataError unless it is twice as wide as high."""
    width, height = sample.meta.width, sample.meta.height
    if width != 2 * height:
        raise DataError(
            f"{sample.key}: {width}×{height} is no equirectangular panorama: it must be twice as"
            " wide as high (the whole sphere, 360° by 180°)"
        )


def picture(sample: Sample, plan: PanoramaPlan, turn: Matrix, height: int) -> NDArray[np.uint8]:
    """The colours, uint8 H×2H×3: rolled where the camera is upright, else bilinear."""
    rgb = cv2.resize(sample.read("rgb"), (2 * height, height), interpolation=cv2.INTER_AREA)
    if plan.tilt_deg:
        return sample_directions(wrap_panorama(rgb), directions_of(plan, turn, height))
    rolled = np.roll(rgb, -columns_of(plan, 2 * height), axis=1)
    return rolled[:, ::-1] if plan.mirror else rolled


def pixels_seen(
    plan: PanoramaPlan, turn: Matrix, height: int, source_height: int
) -> tuple[Ints, Ints]:
    """Rows and columns of the source's pixels that the result's rays fall into; broadcast to H×2H.

    Upright in whole numbers: where the source is finer by an even factor, rays fall on the borders
    of its pixels, and a rounding would choose. The pixel after the border is taken then.
    """
    if plan.tilt_deg:
        width = 2 * source_height
        seen = direction_to_lonlat(directions_of(plan, turn, height))
        column, row = pixel_at(*seen, width, source_height)
        return row, column
    index = np.arange(2 * height)
    rows = cell_of(index[:height], height, source_height)[:, None]
    columns = (index + columns_of(plan, 2 * height)) % (2 * height)
    if plan.mirror:
        columns = columns[::-1]
    return rows, cell_of(columns, 2 * height, 2 * source_height)[None, :]


def cell_of(index: Ints, size: int, source_size: int) -> Ints:
    """The source's pixels, of `source_size`, that the centres of pixels of `size` fall into."""
    return (2 * index + 1) * source_size // (2 * size)


def columns_of(plan: PanoramaPlan, width: int) -> int:
    """A plan's turn in whole columns."""
    return int(plan.yaw_share * width)


def directions_of(plan: PanoramaPlan, turn: Matrix, height: int) -> Floats:
    """R · M d of each pixel, H×2H×3."""
    index = np.arange(2 * height)
    rays = pixel_to_direction(index[None, :], index[:height, None], 2 * height, height)
    if plan.mirror:  # M d is the ray of the mirrored column
        rays = rays[:, ::-1]
    return times(rays, turn.T)


def categories_of(sample: Sample) -> NDArray[np.uint16]:
    """The `semantic` product of a sample, or what its ids and their table say."""
    if any(suffix.startswith("semantic.") for suffix in sample.members):
        return sample.read("semantic")
    names = {entry.id: entry.category for entry in sample.meta.instances}
    return semantic_map(sample.read("instance"), names)


def turned_back(vectors: NDArray[np.float32], turn: Matrix) -> NDArray[np.float32]:
    """Turnᵀ · v of vectors H×W×3."""
    return times(vectors, turn.astype(np.float32))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors H×W×3 of length 1; 0 stays 0."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    length = np.sqrt(x * x + y * y + z * z)[..., None]
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def seen_in_one_view(panorama: DensePanorama, plan: PanoramaPlan, fov_deg: float) -> DensePanorama:
    """The same with depth in one view's square alone, known up to that view's scale and shift."""
    assert panorama.depth_m is not None
    height, width = panorama.depth_m.shape
    index = np.arange(width)
    rays = pixel_to_direction(index[None, :], index[:height, None], width, height)
    view = View(plan.view_yaw_deg, plan.view_pitch_deg, fov_deg, 1)
    inside = within_view(rays, view)
    return replace(
        panorama,
        depth_m=np.where(inside, panorama.depth_m, np.float32(np.inf)),
        fit_depth=True,
    )


def within_view(rays: Floats, view: View) -> NDArray[np.bool_]:
    """Which rays (…×3) fall into a view's square."""
    right, down, forward = np.moveaxis(times(rays, view_rotation(view)), -1, 0)
    reach = forward * np.tan(np.radians(view.fov_deg) / 2)
    return (forward > 0) & (np.abs(right) <= reach) & (np.abs(down) <= reach)
