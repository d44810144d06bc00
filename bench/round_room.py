"""A panorama whose truth is known everywhere: a room with round things in it, by ray casting.

Depth and normals are exact at any direction, so that what goes through views can be compared with
what is true, not with what was interpolated.
"""

import numpy as np

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.label.teachers.truth import TrueThing, Truth

HALF = np.array([3.0, 4.0, 1.5])  # of the room, metres; the camera is in its middle
WALLS = ("wall", "wall", "floor")
BALLS = (  # centre, radius; over the seam, at the zenith, at the nadir, and elsewhere
    ((0.0, -2.5, 0.1), 0.6),
    ((0.05, 0.1, 1.2), 0.25),
    ((0.1, -0.1, -1.2), 0.2),
    ((1.5, 2.0, -0.7), 0.7),
    ((-1.8, 1.0, 0.4), 0.5),
)


def truth(width: int) -> Truth:
    """Ids (walls 1 to 6, balls from 7), depth and normals of a width×width/2 panorama."""
    height = width // 2
    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(height)[:, None], width, height
    )
    labels, depth, normals = cast(directions)
    things = {i + 1: TrueThing("ceiling" if i == 5 else WALLS[i // 2], False) for i in range(6)}
    names = ("chair", "lamp", "rug", "sofa", "plant")
    things |= {7 + k: TrueThing(name, True) for k, name in enumerate(names)}
    return Truth(labels, things, depth.astype(np.float32), normals.astype(np.float32))


def cast(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids uint16, depth, normals) of rays from the middle of the room, of any shape."""
    with np.errstate(divide="ignore"):
        reach = HALF / np.abs(directions)
    axis = np.argmin(reach, axis=-1)
    depth = np.take_along_axis(reach, axis[..., None], -1)[..., 0]
    positive = np.take_along_axis(directions, axis[..., None], -1)[..., 0] > 0
    labels = (2 * axis + positive + 1).astype(np.uint16)
    normals = np.zeros(directions.shape)
    np.put_along_axis(normals, axis[..., None], np.where(positive, -1.0, 1.0)[..., None], -1)
    for k, (centre, radius) in enumerate(BALLS):
        middle = directions @ np.array(centre)
        inside = middle**2 - (np.dot(centre, centre) - radius**2)
        hit = middle - np.sqrt(np.maximum(inside, 0))
        nearer = (inside > 0) & (hit > 0) & (hit < depth)
        depth = np.where(nearer, hit, depth)
        labels[nearer] = 7 + k
        surface = (directions * hit[..., None] - np.array(centre)) / radius
        normals = np.where(nearer[..., None], surface, normals)
    return labels, depth, normals
