"""Points of things followed through a video: where each is in each frame, and whether it is seen.

Points are drawn evenly over a thing's surface, seen or not, as its first frame has it. A thing that
deforms carries them on its triangles. A point is seen where a ray from the camera towards it meets
nothing before it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Pose
from panoforge.core.sample.video import PointTrack
from panoforge.datagen.video.world import Deformer, MovingWorld


def tracks_of(
    number: int,
    rest: tuple[NDArray[np.float64], NDArray[np.int64]],
    count: int,
    world: MovingWorld,
    poses: Sequence[Pose],
    seed: int,
) -> tuple[PointTrack, ...]:
    """`count` points of thing `number`; none of one that cannot be followed.

    Args:
        number: of the thing.
        rest: its triangles where its source made it: (V, 3) metres, (T, 3) indices.
        count: points.
        world: what moves, and where.
        poses: of the camera, one a frame.
        seed: of the scene.
    """
    shape = world.deformers.get(number)
    if shape is not None:
        if any(box is None for box in shape.boxes()):
            return ()
        rest = shape.shape(0)
    points, triangles = rest
    if not len(triangles):
        return ()
    chosen, weights = _drawn(points, triangles, count, np.random.default_rng([seed, number]))
    positions = np.stack(
        [_at(number, rest, shape, chosen, weights, world, frame) for frame in range(len(poses))]
    )
    visible = np.stack(
        [
            world.seen(np.array(pose.position_m), positions[frame], frame)
            & _is_there(number, world, frame)
            for frame, pose in enumerate(poses)
        ]
    )
    return tuple(
        PointTrack(
            positions_m=tuple((float(x), float(y), float(z)) for x, y, z in positions[:, k]),
            visible=tuple(visible[:, k].tolist()),
        )
        for k in range(count)
    )


def _drawn(
    points: NDArray[np.float64],
    triangles: NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Triangles (N,) by their area, and places on them as weights of their corners (N, 3)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    share = area / area.sum() if area.sum() > 0 else np.full(len(area), 1 / len(area))
    chosen = rng.choice(len(triangles), count, p=share)
    u, v = rng.random((2, count))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return chosen, np.stack([1 - u - v, u, v], axis=1)


def _at(
    number: int,
    rest: tuple[NDArray[np.float64], NDArray[np.int64]],
    shape: Deformer | None,
    chosen: NDArray[np.int64],
    weights: NDArray[np.float64],
    world: MovingWorld,
    frame: int,
) -> NDArray[np.float64]:
    """Where the points are in a frame, (N, 3) metres."""
    points, triangles = rest if shape is None else shape.shape(frame)
    placed: NDArray[np.float64] = np.einsum("nk,nkc->nc", weights, points[triangles[chosen]])
    if number in world.movers:
        matrix = world.movers[number].track.matrix(frame)
        placed = placed @ matrix[:3, :3].T + matrix[:3, 3]
    return placed


def _is_there(number: int, world: MovingWorld, frame: int) -> bool:
    """Whether a thing renders at all in a frame."""
    return number not in world.movers or bool(world.movers[number].present[frame])
