"""What an instance is in space.

Its upright 3-D box, and how much of it other things leave to be seen.

Both come from the realised geometry. Boxes are measured once per scene and only for what is seen,
from the convex hull of each mesh. A tree's hundred thousand leaves are copies of a few meshes; all
their corners would be gigabytes.
Visibility is measured at the centres of the panorama's own pixels. Of those whose ray would meet
the instance if it were alone, it is the share (by solid angle) that carries its id. The rays go to
a regular subset of pixels within the cone around the instance's box, so that a cup is measured as
finely as a wall. With some 250 hits the ratio is good to about 0.03. Blender's own ray casting per
object does it, at 2-3 µs a ray: a fraction of a second per panorama.
"""

from collections.abc import Iterable

import bpy
import cv2
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from panoforge.core.geometry.pixels import lat_edge, lon_edge
from panoforge.core.geometry.sphere import pixel_to_direction, row_area_sr
from panoforge.core.sample.metadata import Box3D, Pose, Vector
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.surface import in_metres, object_triangles

RAYS = 600  # per instance


class SceneInstances:
    """The things of the open scene, by number. It must be prepared; `moved` says what moved."""

    def __init__(self) -> None:
        self.objects = numbered_objects()
        self._boxes: dict[int, Box3D] = {}
        self._hulls: dict[int, NDArray[np.float64]] = {}
        self._inverse: dict[str, NDArray[np.float64]] = {}
        self._strands: dict[str, BVHTree] = {}

    def moved(self, numbers: Iterable[int]) -> None:
        """Measure these things anew when they are asked about."""
        for number in numbers:
            self._boxes.pop(number, None)
            for obj in self.objects[number]:
                self._hulls.pop(obj.data.session_uid, None)
                self._inverse.pop(obj.name, None)
                self._strands.pop(obj.data.name, None)

    def box(self, index: int) -> Box3D:
        """The upright box of thing `index`."""
        if index not in self._boxes:
            self._boxes[index] = upright_box(
                np.concatenate([self._hull(obj) for obj in self.objects[index]])
            )
        return self._boxes[index]

    def _hull(self, obj: bpy.types.Object) -> NDArray[np.float64]:
        """The corners of an object's convex hull in the world, metres."""
        mesh = obj.data.session_uid
        if mesh not in self._hulls:
            self._hulls[mesh] = hull_corners(object_triangles(obj)[0])
        return in_metres(self._hulls[mesh], obj)

    def visibility(
        self, index: int, id_: int, labels: NDArray[np.integer], pose: Pose
    ) -> float | None:
        """Share of thing `index` that is seen as `id_` in `labels` (H, W) from `pose`.

        None if no sampled ray meets it.
        """
        height, width = labels.shape
        rows, columns = cone_pixels(self.box(index), pose, width, height, RAYS)
        directions = (
            pixel_to_direction(columns, rows, width, height) @ np.array(pose.world_from_pano).T
        )
        alone = np.zeros(len(rows), bool)
        origin = np.array(pose.position_m)
        for obj in self.objects[index]:
            left = np.flatnonzero(~alone)
            left = left[self._may_meet(obj, origin, directions[left])]
            if len(left):
                alone[left] = self._hits(obj, origin, directions[left])
        weight = row_area_sr(width, height)[rows]
        whole = float(weight[alone].sum())
        return (
            float(weight[alone & (labels[rows, columns] == id_)].sum()) / whole
            if whole > 0
            else None
        )

    def _may_meet(
        self, obj: bpy.types.Object, origin: NDArray, directions: NDArray
    ) -> NDArray[np.bool_]:
        """Which rays meet a ball around the object, (N,): most leaves of a tree are missed."""
        corners = self._hull(obj)
        if not len(corners):
            return np.zeros(len(directions), bool)
        towards = (corners.min(axis=0) + corners.max(axis=0)) / 2 - origin
        radius = float(np.linalg.norm(corners - origin - towards, axis=1).max()) * (1 + 1e-6)
        distance = float(np.linalg.norm(towards))
        if distance <= radius:
            return np.ones(len(directions), bool)
        least = np.sqrt(1 - (radius / distance) ** 2)
        met: NDArray[np.bool_] = directions @ (towards / distance) >= least - 1e-9
        return met

    def _hits(
        self, obj: bpy.types.Object, origin: NDArray, directions: NDArray
    ) -> NDArray[np.bool_]:
        """Whether rays meet the object, (N,).

        They start at `origin` (3,), metres, along world `directions` (N, 3).
        """
        if obj.name not in self._inverse:
            self._inverse[obj.name] = np.linalg.inv(np.array(obj.matrix_world))
        inverse = self._inverse[obj.name]
        start = tuple((inverse[:3, :3] @ (origin / metres_per_unit()) + inverse[:3, 3]).tolist())
        towards = (directions @ inverse[:3, :3].T).tolist()
        if obj.type == "MESH":
            return np.array([obj.ray_cast(start, direction)[0] for direction in towards], bool)
        if obj.data.name not in self._strands:
            points, triangles = object_triangles(obj)
            self._strands[obj.data.name] = BVHTree.FromPolygons(
                points.tolist(), triangles.tolist(), all_triangles=True
            )
        cast = self._strands[obj.data.name].ray_cast
        return np.array([cast(start, direction)[0] is not None for direction in towards], bool)


def hull_corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of (N, 3) points that their convex hull needs; all where they lie in a plane."""
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # flat, or fewer than four
        return points


def upright_box(points: NDArray[np.float64]) -> Box3D:
    """The smallest box with a vertical axis around (N, 3) points, from the lowest to the highest.

    Its base is the rectangle of least area around them seen from above. One side of that lies
    along the convex hull (Freeman and Shapira 1975).
    """
    low, high = points[:, 2].min(), points[:, 2].max()
    middle = points[:, :2].mean(axis=0)
    (cx, cy), (a, b), angle_deg = cv2.minAreaRect(
        cv2.convexHull((points[:, :2] - middle).astype(np.float32))
    )
    if b > a:
        a, b, angle_deg = b, a, angle_deg + 90
    angle = np.radians((angle_deg + 90) % 180 - 90)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    center: Vector = (float(cx + middle[0]), float(cy + middle[1]), float((low + high) / 2))
    return Box3D(
        center_m=center,
        size_m=(float(a), float(b), float(high - low)),
        world_from_box=((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0)),
    )


def box_corners(box: Box3D) -> NDArray[np.float64]:
    """(8, 3) world positions of the corners."""
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return (signs * box.size_m) @ np.array(box.world_from_box).T + box.center_m


def cone_pixels(
    box: Box3D, pose: Pose, width: int, height: int, budget: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of about `budget` pixels, or all, that may see the box from `pose`.

    They lie on a regular grid within the cone that holds the box. If the camera stands in the box
    or close to it, the grid covers the whole sphere.
    """
    rotation = np.array(pose.world_from_pano)
    corners = (box_corners(box) - pose.position_m) @ rotation
    corners /= np.maximum(np.linalg.norm(corners, axis=1, keepdims=True), 1e-9)
    axis = corners.mean(axis=0)
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
    cosine = float((corners @ axis).min())
    radius = np.arccos(np.clip(cosine, -1, 1)) + 2 * np.pi / width
    if cosine < 0.2:
        radius = np.pi
    rows, columns = _band(axis, radius, width, height)
    step = max(1, int(np.sqrt(len(rows) * len(columns) / budget)))
    rows, columns = rows[step // 2 :: step], columns[step // 2 :: step]
    v, u = (grid.ravel() for grid in np.meshgrid(rows, columns % width, indexing="ij"))
    inside = pixel_to_direction(u, v, width, height) @ axis >= np.cos(min(radius, np.pi))
    return v[inside], u[inside]


def _band(
    axis: NDArray, radius: float, width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, and columns (which may run past the seam), of the smallest rectangle around a cone."""
    latitude, longitude = np.arcsin(np.clip(axis[2], -1, 1)), np.arctan2(axis[0], axis[1])
    top = int(np.floor(lat_edge(latitude + radius, height)))
    bottom = int(np.ceil(lat_edge(latitude - radius, height)))
    rows = np.arange(max(0, top), min(height, bottom + 1))
    if abs(latitude) + radius >= np.pi / 2 - 1e-6:
        return rows, np.arange(width)
    half = np.arcsin(min(1.0, np.sin(radius) / np.cos(latitude)))
    first = int(np.floor(lon_edge(longitude - half, width)))
    last = int(np.ceil(lon_edge(longitude + half, width)))
    return rows, np.arange(first, min(last, first + width - 1) + 1)
