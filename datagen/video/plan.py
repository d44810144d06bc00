"""What moves in a video, and where: planned before its first frame, from the scene's seed."""

from collections.abc import Mapping, Sequence

import bpy
import numpy as np

from panoforge.datagen.config.video import VideoSettings
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.redraw.furniture import UNDERFOOT, lights_in
from panoforge.datagen.video.falling import drop
from panoforge.datagen.video.moving import Body, Obstacles, candidates, plan
from panoforge.datagen.video.rigid import RigidTrack
from panoforge.datagen.video.world import MovingWorld

THING_STREAM = 0x3071


def moving_world(
    video: VideoSettings, things: Sequence[RenderedThing], surface: Surface, seed: Sequence[int]
) -> MovingWorld:
    """The world of one video: which things move, and where each is in each frame."""
    numbered = numbered_objects()
    underfoot = frozenset(k for k, one in enumerate(things, start=1) if one.category in UNDERFOOT)
    obstacles = Obstacles(video.frames, underfoot)
    middles = {
        number: (surface.low[number] + surface.high[number]) / 2
        for number in numbered
        if np.isfinite(surface.low[number]).all() and "structure" not in things[number - 1].flags
    }
    chosen = [
        (rule, _drawn(candidates(rule, things, numbered), obstacles, middles, [*seed, place]))
        for place, rule in enumerate(video.objects)
    ]
    obstacles.may_move([body for _, bodies in chosen for body in bodies])
    tracks: dict[int, RigidTrack] = {}
    for place, (rule, bodies) in enumerate(chosen):
        free = [body for body in bodies if body.number not in tracks]
        if rule.how == "fall":
            tracks |= drop(free[: rule.most], rule, video, obstacles, [*seed, place, 1])
            continue
        moved = 0
        for body in free:
            if moved == rule.most:
                break
            track = plan(body, rule, video, obstacles, [*seed, place, body.number])
            if track is not None:
                obstacles.moves(body, track)
                tracks[body.number] = track
                moved += 1
    if not tracks:
        return MovingWorld.at_rest(video.frames, surface)
    return MovingWorld.of(video.frames, tracks, _lights(tracks, chosen))


def _drawn(
    bodies: list[Body],
    obstacles: Obstacles,
    middles: Mapping[int, np.ndarray],
    seed: Sequence[int],
) -> list[Body]:
    """Those that nothing lies on, in an order that the seed draws."""
    alone = [body for body in bodies if not obstacles.carries(body, middles)]
    order = np.random.default_rng([*seed, 0]).permutation(len(alone))
    return [alone[k] for k in order]


def _lights(
    tracks: Mapping[int, RigidTrack], chosen: Sequence[tuple[object, list[Body]]]
) -> dict[int, list[bpy.types.Object]]:
    """The lights in each thing that moves: a lamp takes its light along."""
    bodies = {body.number: body for _, found in chosen for body in found}
    return {number: lights_in(bodies[number].low, bodies[number].high) for number in tracks}
