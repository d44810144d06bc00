"""Rigid motion of a thing: where it is in each frame, against where its source made it. No bpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.sample.video import ThingPose
from panoforge.datagen.cameras.choice import matrix_rows


@dataclass(frozen=True)
class RigidTrack:
    """The poses of a thing in the frames of a video.

    `centre` (3,) is the middle of its upright box at rest. In frame t a point p of it at rest is at
    `rotations[t]` (3, 3) · (p − centre) + `positions[t]` (3,), metres, world frame.
    """

    centre: NDArray[np.float64]
    rotations: NDArray[np.float64]
    positions: NDArray[np.float64]

    @staticmethod
    def of(centre: NDArray[np.float64], matrices: Sequence[NDArray[np.float64]]) -> "RigidTrack":
        """The track of motions (4, 4) from the world at rest to the world of each frame."""
        motion = np.stack(list(matrices))
        return RigidTrack(centre, motion[:, :3, :3], motion[:, :3, :3] @ centre + motion[:, :3, 3])

    def matrix(self, frame: int) -> NDArray[np.float64]:
        """(4, 4) motion from the world at rest to the world of a frame."""
        found = np.eye(4)
        found[:3, :3] = self.rotations[frame]
        found[:3, 3] = self.positions[frame] - self.rotations[frame] @ self.centre
        return found

    def moved(self, points: NDArray[np.float64], frame: int, other: int) -> NDArray[np.float64]:
        """Where points (N, 3) that it has in one frame are in another."""
        at_rest = (points - self.positions[frame]) @ self.rotations[frame]
        return at_rest @ self.rotations[other].T + self.positions[other]

    def to_rest(self, points: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
        """Points (..., 3) of the world of a frame, where they were at rest."""
        return (points - self.positions[frame]) @ self.rotations[frame] + self.centre

    @property
    def moves(self) -> bool:
        """Whether it is anywhere else in any frame than in the first."""
        return bool(
            (np.abs(self.positions - self.positions[0]).max() > 1e-9)
            or (np.abs(self.rotations - self.rotations[0]).max() > 1e-9)
        )

    def poses(self) -> tuple[ThingPose, ...]:
        """As `video.json` says them: one if it stays where it is."""
        frames = range(len(self.positions) if self.moves else 1)
        return tuple(
            ThingPose(
                position_m=(float(x), float(y), float(z)),
                world_from_rest=matrix_rows(self.rotations[frame]),
            )
            for frame in frames
            for x, y, z in [self.positions[frame]]
        )


def turned(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """The rotation (3, 3) about a unit axis (3,) by an angle in radians (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = (
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    )
    return rotation
