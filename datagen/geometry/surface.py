"""The scene as triangles: rays and nearest points against everything that renders.

One BVH over all triangles in world space (Blender's `mathutils.bvhtree`), with the thing that each
triangle belongs to. Cameras are chosen with it before anything is rendered, and it is the
independent oracle that the rendered ids are tested against. Roughly 300,000 rays a second on one
core.
"""

from collections import Counter
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.strands import balls, read_curves, read_points, tubes
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.materials import is_volume_only
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.shared_bvh import Copy, SharedBvh, is_similar, meeting

MOST_LAID_OUT = 20_000_000  # triangles: some 5 GB; beyond, copies share their mesh's BVH
LAYER_GAP_M = 1e-3  # surfaces closer than this count as one
MAX_LAYERS = 256
HAIR_SIDES = 3


@dataclass(frozen=True)
class Hits:
    """What rays met, arrays of shape (N,).

    `index` the number of the thing (0 = nothing), `distance_m` (+inf = nothing), `backface` whether
    the surface was met from behind.
    """

    index: NDArray[np.int32]
    distance_m: NDArray[np.float64]
    backface: NDArray[np.bool_]


@dataclass(frozen=True)
class Layer:
    """Where a plumb line meets the scene.

    The height in metres, whose surface it is, and whether that faces up.
    """

    z_m: float
    index: int
    faces_up: bool


@dataclass(frozen=True)
class Surface:
    """Triangles of the scene with a BVH over them, in metres.

    `owner` (T,) is the number of each triangle's thing, then of each copy's (`SharedBvh`). `low`
    and `high` (K, 3) are the bounds of each thing by number (empty, +inf to -inf, for one without
    triangles); of copies those of their mesh's box.
    """

    tree: BVHTree | SharedBvh
    owner: NDArray[np.int32]
    triangles: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def cast(self, origin: NDArray, directions: NDArray) -> Hits:
        """Cast one ray from `origin` (3,) along each of the unit `directions` (N, 3)."""
        count = len(directions)
        index = np.zeros(count, np.int32)
        distance = np.full(count, np.inf)
        backface = np.zeros(count, bool)
        start, ray_cast = tuple(map(float, origin)), self.tree.ray_cast
        for number, direction in enumerate(directions.tolist()):
            location, normal, triangle, length = ray_cast(start, direction)
            if location is not None:
                index[number], distance[number] = self.owner[triangle], length
                backface[number] = normal.dot(direction) > 0
        return Hits(index, distance, backface)

    def around(self, point: NDArray) -> NDArray[np.bool_]:
        """(K,) whether `point` (3,) is within the bounds of each thing.

        Only those can have it inside them.
        """
        inside: NDArray[np.bool_] = ((self.low <= point) & (point <= self.high)).all(axis=1)
        return inside

    def column(self, x: float, y: float) -> list[Layer]:
        """What a plumb line through (x, y) meets, from the top down."""
        found: list[Layer] = []
        z = float(self.high[:, 2].max(initial=-np.inf)) + 1.0
        while np.isfinite(z) and len(found) < MAX_LAYERS:
            location, normal, triangle, _ = self.tree.ray_cast((x, y, z), (0.0, 0.0, -1.0))
            if location is None:
                break
            found.append(Layer(float(location.z), int(self.owner[triangle]), normal.z > 0))
            z = float(location.z) - LAYER_GAP_M
        return found

    def touched(self, points: NDArray[np.float64], faces: NDArray[np.int64]) -> set[int]:
        """The numbers of the things that a mesh of points (V, 3), triangles (F, 3) meets."""
        shared = isinstance(self.tree, SharedBvh)
        met = self.tree.touched(points, faces) if shared else meeting(points, faces, self.tree)
        return set(self.owner[met].tolist())

    def clearance_m(self, point: NDArray) -> float:
        """Distance from `point` to the nearest surface in any direction, exact.

        +inf in an empty scene.
        """
        nearest = self.tree.find_nearest(tuple(map(float, point)))
        return float("inf") if nearest[3] is None else float(nearest[3])


def scene_surface(but: frozenset[int] = frozenset(), most: int = MOST_LAID_OUT) -> Surface:
    """Collect the triangles of every numbered object that a camera can see, less the things `but`.

    The scene must be prepared. Of more than `most` triangles, meshes with several copies are not
    laid out: the copies share one BVH, which answers the same, more slowly.
    """
    numbered = numbered_objects()
    parts = [
        (number, obj)
        for number, objects in sorted(numbered.items())
        for obj in objects
        if number not in but and obj.visible_camera
    ]
    things = 1 + max(numbered, default=0)
    low, high = np.full((things, 3), np.inf), np.full((things, 3), -np.inf)
    shared = _shared_meshes([obj for _, obj in parts], most)
    corners, faces, owners, offset = [], [], [], 0
    copies: list[Copy] = []
    of_copies: list[int] = []
    for number, obj in parts:
        mesh = shared.get(obj.data.session_uid)
        if mesh is not None and is_similar(matrix := _metres_from(obj)):
            box = _corners(*mesh.box) @ matrix[:3, :3].T + matrix[:3, 3]
            copies.append(Copy(mesh.place, matrix, box.min(axis=0), box.max(axis=0)))
            of_copies.append(number)
            low[number] = np.minimum(low[number], copies[-1].low)
            high[number] = np.maximum(high[number], copies[-1].high)
            continue
        points, triangles = world_triangles(obj)
        if not len(triangles):
            continue
        low[number] = np.minimum(low[number], points.min(axis=0))
        high[number] = np.maximum(high[number], points.max(axis=0))
        corners.append(points)
        faces.append(triangles + offset)
        owners.append(np.full(len(triangles), number, np.int32))
        offset += len(points)
    vertices = np.concatenate(corners).tolist() if corners else []
    polygons = np.concatenate(faces).tolist() if faces else []
    tree: BVHTree | SharedBvh = BVHTree.FromPolygons(vertices, polygons, all_triangles=True)
    laid_out = len(polygons)
    if copies:
        trees = [mesh.tree for mesh in sorted(shared.values(), key=lambda mesh: mesh.place)]
        tree = SharedBvh(tree, laid_out, trees, copies)
        owners.append(np.array(of_copies, np.int32))
    counts = {mesh.place: mesh.triangles for mesh in shared.values()}
    owner = np.concatenate(owners) if owners else np.zeros(0, np.int32)
    return Surface(tree, owner, laid_out + sum(counts[copy.tree] for copy in copies), low, high)


@dataclass(frozen=True)
class SharedMesh:
    """A mesh that is there several times: its BVH in its own space, the how-manieth, its size."""

    place: int
    tree: BVHTree
    triangles: int
    box: tuple[NDArray[np.float64], NDArray[np.float64]]


def _shared_meshes(objects: list[bpy.types.Object], most: int) -> dict[int, SharedMesh]:
    """The meshes of several of the objects, by `session_uid`, if all together have over `most`."""
    meshes = {obj.data.session_uid: obj for obj in objects if obj.type == "MESH"}
    times = Counter(obj.data.session_uid for obj in objects if obj.type == "MESH")
    sizes = {uid: len(obj.data.polygons) for uid, obj in meshes.items()}
    if sum(sizes[uid] * count for uid, count in times.items()) <= most:
        return {}
    found: dict[int, SharedMesh] = {}
    for uid, obj in meshes.items():
        if times[uid] == 1:
            continue
        points, triangles = object_triangles(obj)
        if len(triangles):
            tree = BVHTree.FromPolygons(points.tolist(), triangles.tolist(), all_triangles=True)
            box = (points.min(axis=0), points.max(axis=0))
            found[uid] = SharedMesh(len(found), tree, len(triangles), box)
    return found


def _corners(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eight corners of a box (8, 3)."""
    return np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, 8).T


def _metres_from(obj: bpy.types.Object) -> NDArray[np.float64]:
    """4×4: an object's own space → the world, metres."""
    matrix = np.array(obj.matrix_world)
    matrix[:3] *= metres_per_unit()
    return matrix


def world_triangles(obj: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and triangles of an object of a prepared scene, in world space.

    (V, 3) metres and (T, 3) vertex indices. Hair is three-sided tubes, a point of a cloud a small
    icosphere.
    """
    points, triangles = object_triangles(obj)
    return in_metres(points, obj), triangles


def object_triangles(obj: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same in object space, Blender units."""
    if obj.type == "CURVES":
        return tubes(read_curves(obj.data), HAIR_SIDES)
    if obj.type == "POINTCLOUD":
        return balls(*read_points(obj.data), subdivisions=1)
    mesh = obj.data
    mesh.calc_loop_triangles()
    triangles = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", triangles)
    kept = triangles.reshape(-1, 3).astype(np.int64)
    empty = [slot for slot, material in enumerate(mesh.materials) if is_volume_only(material)]
    if empty:
        slots = np.empty(len(kept), np.int32)
        mesh.loop_triangles.foreach_get("material_index", slots)
        kept = kept[~np.isin(slots, empty)]
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    return points.reshape(-1, 3).astype(np.float64), kept


def in_metres(points: NDArray[np.float64], obj: bpy.types.Object) -> NDArray[np.float64]:
    """Points (N, 3) of an object's own space in the world, metres."""
    matrix = np.array(obj.matrix_world)
    world: NDArray[np.float64] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return world * metres_per_unit()
