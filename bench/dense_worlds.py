"""Rooms of solids with exact depth, normals and categories, for bench.learns_dense, in numpy alone.

    stage_rooms(folder, count, seed)      staged panoramas, for pano pack

A room is a box of six plain sides with six to ten solids in it (bench.solids), some striped, under
one distant light. The camera stands upright about 1.5 m above its floor, at any yaw. What a solid
is, its shape says and its colour does not: each kind of solid is a category of ours, and so are
floor, ceiling and walls. Everything is a function of (seed, number).

    room          4 to 7 m × 4 to 7 m × 2.5 to 3.3 m; the camera 0.8 m from its walls at least
    solids        half sizes 0.2 to 0.6 m, 0.7 m from the camera at least, turned at random, on the
                  floor, below the ceiling or between
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.solids import Floats, Scene, Solid, trace
from panoforge.core.categories.semantic import semantic_map
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.storage.staged import write_staged

WIDTH = 256
CATEGORIES = {
    "ball": "lamp",
    "cylinder": "stool",
    "box": "cabinet",
    "pyramid": "plant",
    "hexagon": "table",
    "octahedron": "ornament",
}
SIDES = ("wall", "wall", "wall", "wall", "floor", "ceiling")  # −x, +x, −y, +y, −z, +z
DENSE_ROOMS_LANE = 7
SIDE_NORMALS = np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64
)


@dataclass(frozen=True)
class Room:
    """A box around the origin's camera: least and greatest corner in metres, its sides' colours."""

    least: Floats
    greatest: Floats
    colours: Floats  # 6×3
    scene: Scene


def draw_room(rng: np.random.Generator) -> Room:
    """A room; the camera is at the origin."""
    size = np.array([*rng.uniform(4, 7, 2), rng.uniform(2.5, 3.3)])
    camera = np.array([*(rng.uniform(0.8, size[:2] - 0.8)), rng.uniform(1.4, 1.6)])
    solids: list[Solid] = []
    while len(solids) < 6 or (len(solids) < 10 and rng.random() < 0.8):
        half = rng.uniform(0.2, 0.6, 3)
        place = rng.uniform(half, size - half)
        if rng.random() < 0.7:
            place[2] = half[2] if rng.random() < 0.7 else size[2] - half[2]
        place -= camera
        if np.linalg.norm(place) < 0.7 + np.linalg.norm(half):
            continue
        upright = rng.random() < 0.5
        turn = rng.normal(size=(3, 3))
        angle = rng.uniform(0, 2 * np.pi)
        about_z = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        solids.append(
            Solid(
                str(rng.choice(list(CATEGORIES))),
                place,
                about_z if upright else np.linalg.qr(turn)[0],
                half,
                rng.uniform(0, 1, (2, 3)),
                float(rng.uniform(1.5, 4)) if rng.random() < 0.3 else 0.0,
            )
        )
    light = rng.normal(size=3)
    light, black = light / np.linalg.norm(light), np.zeros(3)
    scene = Scene(tuple(solids), black, black, light, rng.uniform(0.4, 0.7))
    walls = rng.uniform(0.2, 1, 3)
    colours = np.stack([*[walls] * 4, *rng.uniform(0.1, 1, (2, 3))])
    return Room(-camera, size - camera, colours, scene)


def look_around(room: Room, rays: Floats) -> tuple[np.ndarray, ...]:
    """Ids (solid k is k + 1, the sides after them), colours, metres and normals along unit rays.

    Args: rays S×3 in the world's axes. Returns: uint16 S, uint8 S×3, float32 S, float32 S×3.
    """
    with np.errstate(divide="ignore"):
        to_least, to_greatest = room.least / rays, room.greatest / rays
    far = np.where(rays > 0, to_greatest, to_least)
    far = np.where(rays == 0, np.inf, far)
    axis = far.argmin(axis=-1)
    distance = far.min(axis=-1)
    side = 2 * axis + (np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0)
    normal = SIDE_NORMALS[side]
    facing = np.clip(normal @ room.scene.light, 0, 1)[..., None]
    shade = room.scene.ambient + (1 - room.scene.ambient) * facing
    rgb = np.clip(np.round(room.colours[side] * shade * 255), 0, 255)
    ids = (len(room.scene.solids) + 1 + side).astype(np.uint16)
    hit = trace(np.zeros(3), rays, room.scene)
    front = hit.depth_m < distance
    return (
        np.where(front, hit.ids, ids).astype(np.uint16),
        np.where(front[..., None], hit.rgb, rgb).astype(np.uint8),
        np.where(front, hit.depth_m, distance).astype(np.float32),
        np.where(front[..., None], hit.normal, normal).astype(np.float32),
    )


def stage_rooms(
    folder: Path,
    count: int,
    seed: int,
    width: int = WIDTH,
    change: Callable[[Floats, np.random.Generator], Floats] | None = None,
) -> None:
    """Stage `count` panoramas; those that are there stay.

    `change` makes of true metres H×W what a teacher says of them.
    """
    index = np.arange(width)
    rays = pixel_to_direction(index[None, :], index[: width // 2, None], width, width // 2)
    for number in range(count):
        key = f"rooms-{seed:02d}-{number:05d}-c0"
        if (folder / key).exists():
            continue
        rng = np.random.default_rng([seed, DENSE_ROOMS_LANE, number])
        room = draw_room(rng)
        yaw_deg = float(rng.uniform(-180, 180))
        turn = world_from_pano(yaw_deg, 0.0, 0.0)
        found, rgb, depth_m, normal = look_around(room, rays @ turn.T)
        if change is not None:
            teacher = np.random.default_rng([seed, DENSE_ROOMS_LANE, number, 1])
            depth_m = change(depth_m, teacher).astype(np.float32)
        labels, originals = dense_ids(found)
        kinds = [CATEGORIES[solid.kind] for solid in room.scene.solids] + list(SIDES)
        names = {
            dense + 1: InstanceLabel(f"i{i}", kinds[i - 1], f"i{i}")
            for dense, i in enumerate(int(i) for i in originals if i > 0)
        }
        arrays = {
            "rgb.png": rgb,
            "instance.zst": labels,
            "depth.delta.zst": depth_m,
            "normal.oct.zst": normal,
            "semantic.zst": semantic_map(labels, {i: n.category for i, n in names.items()}),
        }
        meta = SampleMeta(
            key=key,
            width=width,
            height=width // 2,
            source="bench/rooms",
            scene=key.removesuffix("-c0"),
            seed=number,
            camera=0,
            pose=Pose(
                position_m=(0.0, 0.0, 0.0),
                yaw_deg=yaw_deg,
                clearance_m=0.5,
                world_from_pano=tuple(tuple(map(float, row)) for row in turn),
            ),
            products=tuple(sorted(arrays)),
            instances=instance_table(labels, names),
            config_sha256="0" * 64,
            versions={"panoforge": "bench"},
            timings_s={},
        )
        write_staged(folder, meta, arrays)
