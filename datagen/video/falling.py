"""Things that fall and settle: Blender's own rigid-body solver, on their hulls.

The solver is given stand-ins: the convex hull of each thing that falls, and one mesh of all
triangles near where they may fall. So it needs to know nothing of how the scene is built, and
nothing of it is left. Its steps are counted in frames, and the same scene falls the same way.
"""

from collections.abc import Sequence

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from panoforge.datagen.config.video import MovingThings, VideoSettings
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.surface import world_triangles
from panoforge.datagen.video.moving import Body, Surroundings
from panoforge.datagen.video.rigid import RigidTrack, turned

TRIES = 24
NEAR_M = (1.5, 1.0, 0.6, 0.3)  # around a falling thing, seen from above: what it may meet
MOST_TRIANGLES = 1 << 20  # Bullet counts those of a mesh in 21 bits, and falls over beyond
SIDE_M = 0.3
TILT_DEG = 40.0
SUBSTEPS_HZ = 480
LOST_M = 0.5  # below the lowest thing: it fell through


def drop(
    bodies: Sequence[Body],
    rule: MovingThings,
    video: VideoSettings,
    obstacles: Surroundings,
    seed: Sequence[int],
) -> dict[int, RigidTrack]:
    """The ways of things that are let go above where they stood; without those that find no room.

    They are held where they are let go before anything moves, and collide with each other.
    """
    starts: dict[int, NDArray[np.float64]] = {}
    by_number = {body.number: body for body in bodies}
    for body in bodies:
        start = _start(body, rule, obstacles, np.random.default_rng([*seed, body.number]))
        if start is not None:
            starts[body.number] = start
            obstacles.moves(body, RigidTrack.of(body.centre, [start] * video.frames))
    if not starts:
        return {}
    fallen = _simulated([by_number[number] for number in starts], starts, video)
    for number in starts.keys() - fallen.keys():
        body = by_number[number]
        obstacles.moves(body, RigidTrack.of(body.centre, [np.eye(4)] * video.frames))
    tracks = {}
    for number, matrices in fallen.items():
        body = by_number[number]
        track = RigidTrack.of(body.centre, matrices)
        lowest = float(obstacles.still.low[:, 2].min(initial=np.inf))
        if np.isfinite(lowest) and track.positions[:, 2].min() < lowest - LOST_M:
            track = RigidTrack.of(body.centre, [np.eye(4)] * video.frames)
        obstacles.moves(body, track)
        tracks[number] = track
    return tracks


def _start(
    body: Body, rule: MovingThings, obstacles: Surroundings, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Where it is let go, (4, 4) from the world at rest; None if no place is free."""
    grown = body.grown(-np.inf)
    for _ in range(TRIES):
        matrix = np.eye(4)
        axis = rng.normal(size=3)
        tilt = np.radians(rng.uniform(0, TILT_DEG))
        matrix[:3, :3] = turned(axis / np.linalg.norm(axis), tilt)
        away = np.array([*rng.uniform(-SIDE_M, SIDE_M, 2), rng.uniform(*rule.drop_m)])
        matrix[:3, 3] = body.centre + away - matrix[:3, :3] @ body.centre
        if obstacles.free(body, grown @ matrix[:3, :3].T + matrix[:3, 3], 0):
            return matrix
    return None


def _simulated(
    bodies: Sequence[Body],
    starts: dict[int, NDArray[np.float64]],
    video: VideoSettings,
) -> dict[int, list[NDArray[np.float64]]]:
    """Where each is in each frame, (4, 4) from the world at rest.

    None of them where what is near them is too much for the solver.
    """
    still = _still_triangles(bodies, starts)
    if len(still[1]) > MOST_TRIANGLES:
        return {}
    scene = bpy.context.scene
    before = (scene.frame_current, scene.render.fps, scene.render.fps_base, scene.gravity.copy())
    scene.frame_start, scene.frame_end = 1, max(video.frames, 2)
    scene.render.fps, scene.render.fps_base = _rate(video.fps)
    scene.use_gravity = True
    scene.gravity = (0, 0, -9.81)  # stand-ins are in metres whatever the file's unit
    made: list[bpy.types.Object] = []
    try:
        bpy.ops.rigidbody.world_add()
        world = scene.rigidbody_world
        world.collection = bpy.data.collections.new("panoforge.falling")
        world.substeps_per_frame = max(10, int(np.ceil(SUBSTEPS_HZ / video.fps)))
        world.solver_iterations = 40
        world.point_cache.frame_start, world.point_cache.frame_end = 1, max(video.frames, 2)
        ground = _stand_in("ground", *still)
        made.append(ground)
        _add(world.collection, ground, "PASSIVE", "MESH")
        for body in bodies:
            local = body.hull - body.centre
            obj = _stand_in(f"falling.{body.number}", local, body.faces)
            start = starts[body.number].copy()
            start[:3, 3] += start[:3, :3] @ body.centre
            obj.matrix_world = Matrix(start.tolist())
            _add(world.collection, obj, "ACTIVE", "CONVEX_HULL")
            made.append(obj)
        found: dict[int, list[NDArray[np.float64]]] = {body.number: [] for body in bodies}
        for frame in range(1, video.frames + 1):
            scene.frame_set(frame)
            depsgraph = bpy.context.evaluated_depsgraph_get()
            for body, obj in zip(bodies, made[1:], strict=True):
                matrix = _rigid(np.array(obj.evaluated_get(depsgraph).matrix_world, float))
                matrix[:3, 3] -= matrix[:3, :3] @ body.centre
                found[body.number].append(matrix)
        return found
    finally:
        if scene.rigidbody_world is not None:
            bpy.ops.rigidbody.world_remove()
        for obj in made:
            bpy.data.meshes.remove(obj.data)  # and the object that used it
        if (leftover := bpy.data.collections.get("panoforge.falling")) is not None:
            bpy.data.collections.remove(leftover)
        scene.render.fps, scene.render.fps_base, scene.gravity = before[1:]
        scene.frame_set(before[0])


def _rate(fps: float) -> tuple[int, float]:
    """Blender's frames a second are a whole number over a base."""
    whole = max(1, int(np.ceil(fps)))
    return whole, whole / fps


def _rigid(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest rotation in place of a single-precision one (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    matrix[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return matrix


def _add(collection: bpy.types.Collection, obj: bpy.types.Object, kind: str, shape: str) -> None:
    collection.objects.link(obj)
    bpy.context.view_layer.update()
    body = obj.rigid_body
    body.type, body.collision_shape = kind, shape
    body.friction, body.restitution = 0.6, 0.2
    body.use_margin, body.collision_margin = True, 0.001
    if kind == "ACTIVE":
        body.linear_damping, body.angular_damping = 0.05, 0.2
        body.mass = 1.0


def _stand_in(
    name: str, points: NDArray[np.float64], triangles: NDArray[np.int64]
) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(f"panoforge.{name}")
    mesh.from_pydata(points.tolist(), [], triangles.tolist())
    obj = bpy.data.objects.new(f"panoforge.{name}", mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _still_triangles(
    bodies: Sequence[Body], falling: dict[int, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The triangles of all that does not fall near the bodies, seen from above.

    As far around them as leaves no more than MOST_TRIANGLES, if any of NEAR_M does.
    """
    found = [
        world_triangles(obj)
        for number, objects in sorted(numbered_objects().items())
        for obj in objects
        if number not in falling and obj.visible_camera
    ]
    for margin in NEAR_M:
        corners, faces, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
        for own, shape in found:
            if not len(shape):
                continue
            low, high = own[shape].min(axis=1)[:, :2], own[shape].max(axis=1)[:, :2]
            near = np.zeros(len(shape), bool)
            for body in bodies:
                near |= (low <= body.high[:2] + margin).all(axis=1) & (
                    high >= body.low[:2] - margin
                ).all(axis=1)
            used, inverse = np.unique(shape[near], return_inverse=True)
            corners.append(own[used])
            faces.append(inverse.reshape(-1, 3) + offset)
            offset += len(used)
        points, triangles = np.concatenate(corners), np.concatenate(faces)
        if len(triangles) <= MOST_TRIANGLES or margin == NEAR_M[-1]:
            break
    return points, triangles
