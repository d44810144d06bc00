"""What the animation of a file does to the parts that render, frame by frame.

Read from Blender's render depsgraph, as the parts themselves are: matrices of all parts, and the
points of meshes where they are not those of the first frame. So it makes no difference what moves
them: keyframes, armatures, shape keys, constraints, drivers without scripts, simulations in caches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UserError
from panoforge.core.numbers import counted, number
from panoforge.datagen.depsgraph.parts import CannotRealise, PartKind, ScenePart, parts_of
from panoforge.datagen.depsgraph.strands import particle_strands, read_curves, read_points
from panoforge.datagen.depsgraph.visit import visit_render_depsgraph

PartIdentity = tuple[PartKind, str, str, tuple[int, ...]]  # kind, owner, source, persistent id


class NoAnimation(UserError):
    """An animation that was to be played, and is not there or too short."""


@dataclass(frozen=True)
class PartState:
    """A part in one frame: its matrix (4, 4), Blender units, and the points (V, 3) of its shape."""

    matrix: NDArray[np.float64]
    points: NDArray[np.float32] | None


@dataclass(frozen=True)
class PartMotion:
    """A part through the frames of a video.

    `matrices` (F, 4, 4); `present` (F,); `points` has those of each frame, where they are not all
    the same (else it is empty). A part that is absent has the matrix of another frame.
    """

    matrices: NDArray[np.float64]
    present: NDArray[np.bool_]
    points: tuple[NDArray[np.float32], ...] = ()


def identity_of(part: ScenePart) -> PartIdentity:
    """What a part is called in every frame."""
    return (part.kind, part.key.owner, part.key.source, part.key.ids)


def scene_frames(frames: int, fps: float) -> list[float]:
    """The frames of the open scene that a video's frames show. NoAnimation if it has not as many.

    The video begins with the scene's first frame and runs in the scene's own time.
    """
    scene = bpy.context.scene
    first, last = scene.frame_start, scene.frame_end
    rate = scene.render.fps / scene.render.fps_base
    step = rate / fps
    there = int((last - first) / step + 1e-6) + 1 if last > first else 0
    if last <= first:
        raise NoAnimation(
            f"scene {scene.name!r} of the file has no animation to play: it ends with frame {last},"
            f" where it begins ({first}). Set its frame range, or video.animation=false"
        )
    if there < frames:
        raise NoAnimation(
            f"scene {scene.name!r} of the file has frames {first} to {last} at {number(rate)} a"
            f" second, which are {counted(there, 'frame')} at {number(fps)}: video.frames asks for"
            f" {frames}. Set fewer, or a higher video.fps"
        )
    return [first + step * frame for frame in range(frames)]


def set_frame(frame: float) -> None:
    """Bring the open scene to a frame of its animation."""
    whole = int(np.floor(frame + 1e-9))
    bpy.context.scene.frame_set(whole, subframe=max(0.0, min(frame - whole, 0.999999)))


def read_states() -> dict[PartIdentity, PartState]:
    """Every part of the open scene as it is now."""
    return visit_render_depsgraph(_states)


def _states(depsgraph: bpy.types.Depsgraph) -> dict[PartIdentity, PartState]:
    return {
        identity_of(part): PartState(np.array(part.instance.matrix_world, float), _points(part))
        for part in parts_of(depsgraph)
    }


def _points(part: ScenePart) -> NDArray[np.float32] | None:
    obj = part.instance.object
    if part.kind == "mesh":
        points = np.empty(len(obj.data.vertices) * 3, np.float32)
        obj.data.vertices.foreach_get("co", points)
        return points.reshape(-1, 3)
    if part.kind == "points":
        return read_points(obj.data)[0].astype(np.float32)
    if part.kind == "curves":
        return read_curves(obj.data).points.astype(np.float32)
    if part.kind == "hair":
        strands = particle_strands(part.instance.instance_object if part.key.ids else obj)
        return None if strands is None else strands.points.astype(np.float32)
    return None


def motions_of(states: Sequence[dict[PartIdentity, PartState]]) -> dict[PartIdentity, PartMotion]:
    """The motion of every part that is there in any frame.

    Raises:
        NoAnimation: nothing is other than in the first frame.
        CannotRealise: a mesh changes how many points it has, or hair or points their shape.
    """
    found: dict[PartIdentity, PartMotion] = {}
    for identity in dict.fromkeys(each for frame in states for each in frame):
        of = [frame.get(identity) for frame in states]
        there = next(state for state in of if state is not None)
        matrices = np.stack([(state or there).matrix for state in of])
        present = np.array([state is not None for state in of])
        points = [there.points if state is None else state.points for state in of]
        changes = any(_differ(points[0], other) for other in points[1:])
        kept = tuple(each for each in points if each is not None) if changes else ()
        if changes:
            _check_kept(identity, kept, len(states))
        found[identity] = PartMotion(matrices, present, kept)
    if not any(_moves(motion) for motion in found.values()):
        raise NoAnimation(
            f"nothing that renders moves in the {counted(len(states), 'frame')} of the file's"
            " animation: animate something, or set video.animation=false"
        )
    return found


def _differ(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.shape != other.shape or not np.array_equal(one, other)


def _check_kept(identity: PartIdentity, points: Sequence[NDArray[np.float32]], frames: int) -> None:
    kind, owner = identity[:2]
    if kind != "mesh":
        raise CannotRealise(
            f"{owner!r} has {kind} that change their shape from frame to frame, which videos do"
            " not have yet: convert them to meshes, or set video.animation=false"
        )
    if len(points) < frames or len({each.shape for each in points}) > 1:
        raise CannotRealise(
            f"{owner!r} has another number of vertices from frame to frame, so none of its points"
            " can be followed: bake it to shape keys or an armature, or set video.animation=false"
        )


def _moves(motion: PartMotion) -> bool:
    return (
        bool(motion.points)
        or not motion.present.all()
        or not np.array_equal(
            motion.matrices, np.broadcast_to(motion.matrices[0], motion.matrices.shape)
        )
    )
