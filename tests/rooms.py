"""Box rooms with a ball, whose depth, normals and categories are known in closed form: panoramas
for tests of dense tasks.

The camera stands off the middle, turned by a yaw that the pose says.
"""

from pathlib import Path

import numpy as np

from panoforge.core.categories.semantic import semantic_map
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged

SIDES = ("wall", "wall", "wall", "wall", "floor", "ceiling")
COLOURS = np.array(
    [(0, 0, 0), (180, 150, 120), (150, 170, 180), (170, 180, 150), (190, 170, 190),
     (110, 90, 70), (235, 235, 230), (200, 60, 50)], np.uint8,
)  # fmt: skip


def room(
    rng: np.random.Generator, width: int
) -> tuple[dict[str, np.ndarray], dict[int, str], float]:
    """Products of one room in the world's frame, categories by id, and the camera's yaw."""
    height = width // 2
    yaw_deg = float(rng.uniform(-180, 180))
    half = rng.uniform([2.5, 3.0, 1.2], [3.5, 4.5, 1.6])
    camera = rng.uniform(-0.4, 0.4, 3) * half
    pano = pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height)
    rays = pano @ world_from_pano(yaw_deg).T
    with np.errstate(divide="ignore"):
        reach = (np.sign(rays) * half - camera) / rays  # to the plane of each axis
    axis = reach.argmin(axis=-1)
    depth = np.take_along_axis(reach, axis[..., None], -1)[..., 0]
    sign = np.take_along_axis(np.sign(rays), axis[..., None], -1)[..., 0]
    normal = np.zeros_like(rays)
    np.put_along_axis(normal, axis[..., None], -sign[..., None], -1)
    labels = np.where(axis == 2, np.where(sign < 0, 5, 6), 1 + 2 * axis + (sign > 0))
    ball = camera + rng.uniform(-1, 1, 3) * (half - 0.6) * 0.5 + [0, 0, -0.3]
    offset, radius = ball - camera, 0.45
    along = rays @ offset
    inside = along**2 - (offset @ offset - radius**2)
    hit = (inside > 0) & (along > 0) & (np.linalg.norm(offset) > radius)
    at = along - np.sqrt(np.maximum(inside, 0))
    hit &= at < depth
    depth = np.where(hit, at, depth)
    normal[hit] = (rays[hit] * at[hit][:, None] - offset) / radius
    labels = np.where(hit, 7, labels).astype(np.uint16)
    names = {k + 1: name for k, name in enumerate(SIDES)} | {7: "sofa"}
    shade = 0.5 + 0.5 * np.abs(np.sum(normal * rays, axis=-1))[..., None]
    noise = rng.integers(-5, 6, (height, width, 3))
    rgb = np.clip(COLOURS[labels] * shade + noise, 0, 255).astype(np.uint8)
    arrays = {
        "rgb.jpg": rgb,
        "instance.zst": labels,
        "depth.delta.zst": depth.astype(np.float32),
        "normal.delta.zst": normal.astype(np.float32),
        "semantic.zst": semantic_map(labels, names),
    }
    return arrays, names, yaw_deg


def stage_room(staged: Path, scene: int, width: int = 128, *, without: tuple[str, ...] = ()) -> str:
    """Stage one room, some suffixes left out; its key."""
    arrays, names, yaw_deg = room(np.random.default_rng([7, scene]), width)
    arrays = {suffix: array for suffix, array in arrays.items() if suffix not in without}
    labels = arrays["instance.zst"]
    seen = {
        int(id_): InstanceLabel(f"{names[id_]}_{id_}", names[id_], names[id_])
        for id_ in np.unique(labels)
    }
    key = f"room-{scene:06d}-c0"
    rotation = tuple(map(tuple, world_from_pano(yaw_deg).tolist()))
    meta = SampleMeta(
        key=key,
        width=width,
        height=width // 2,
        source="synthetic/rooms",
        scene=f"room-{scene:06d}",
        seed=scene,
        camera=0,
        pose=Pose(position_m=(0.0, 0.0, 1.5), yaw_deg=yaw_deg, world_from_pano=rotation),
        products=tuple(sorted(arrays)),
        instances=instance_table(labels, seen),
        config_sha256="0" * 64,
        versions={"panoforge": "test"},
        timings_s={},
    )
    write_staged(staged, meta, arrays)
    return key


def rooms(
    folder: Path,
    scenes: int = 6,
    width: int = 128,
    *,
    splits: dict[str, float] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """A published dataset of such rooms at `folder`/dataset."""
    for scene in range(scenes):
        stage_room(folder / "staged", scene, width, without=without)
    options = PackOptions(splits=tuple(splits.items())) if splits else PackOptions()
    pack(folder / "staged", folder / "dataset", options)
    return folder / "dataset"
