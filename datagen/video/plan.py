"""What moves in a video, and where: planned before its first frame, from the scene's seed."""

from collections.abc import Mapping, Sequence

import bpy
import numpy as np

from panoforge.core.numbers import counted
from panoforge.datagen.config.video import MovingThings, VideoSettings
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.redraw.furniture import UNDERFOOT, lights_in
from panoforge.datagen.timing import say
from panoforge.datagen.video.falling import drop
from panoforge.datagen.video.moving import Body, Surroundings, candidates, plan
from panoforge.datagen.video.rigid import RigidTrack
from panoforge.datagen.video.sliding import Drawer, drawers, slide
from panoforge.datagen.video.swinging import Leaf, leaves, swing
from panoforge.datagen.video.world import MovingWorld


def moving_world(
    video: VideoSettings, things: Sequence[RenderedThing], surface: Surface, seed: Sequence[int]
) -> MovingWorld:
    """The world of one video: which things move, and where each is in each frame."""
    numbered = numbered_objects()
    underfoot = frozenset(k for k, one in enumerate(things, start=1) if one.category in UNDERFOOT)
    middles = {
        number: (surface.low[number] + surface.high[number]) / 2
        for number in numbered
        if np.isfinite(surface.low[number]).all() and "structure" not in things[number - 1].flags
    }

    def named(rule: MovingThings, draws: Sequence[int]) -> Sequence[Body]:
        if rule.how == "swing":
            return leaves(rule, things, numbered, draws)
        if rule.how == "slide":
            return drawers(rule, things, numbered, middles, surface, draws)
        return candidates(rule, things, numbered, middles, draws)

    chosen = [(rule, named(rule, [*seed, place])) for place, rule in enumerate(video.objects)]
    bodies = [body for _, found in chosen for body in found]
    if not bodies:
        return MovingWorld.at_rest(video.frames, surface)
    obstacles = Surroundings(bodies, underfoot)
    tracks: dict[int, RigidTrack] = {}
    for place, (rule, found) in enumerate(chosen):
        free = [body for body in found if body.number not in tracks]
        before = len(tracks)
        if rule.how == "fall":
            tracks |= drop(free[: rule.most], rule, video, obstacles, [*seed, place, 1])
        else:
            for body in free:
                if len(tracks) - before == rule.most:
                    break
                track = _way(body, rule, video, obstacles, [*seed, place, body.number])
                if track is not None:
                    obstacles.moves(body, track)
                    tracks[body.number] = track
        say(
            f"video.objects.{place}: {len(tracks) - before} of {counted(len(free), 'thing')} that"
            f" may {rule.how} found a free way"
        )
    if not tracks:
        return MovingWorld.at_rest(video.frames, surface)
    return MovingWorld.of(video.frames, tracks, _lights(tracks, chosen))


def _way(
    body: Body,
    rule: MovingThings,
    video: VideoSettings,
    obstacles: Surroundings,
    seed: Sequence[int],
) -> RigidTrack | None:
    if isinstance(body, Leaf):
        return swing(body, rule, video, obstacles, seed)
    if isinstance(body, Drawer):
        return slide(body, rule, video, obstacles, seed)
    return plan(body, rule, video, obstacles, seed)


def _lights(
    tracks: Mapping[int, RigidTrack], chosen: Sequence[tuple[object, Sequence[Body]]]
) -> dict[int, list[bpy.types.Object]]:
    """The lights in each thing that moves: a lamp takes its light along."""
    bodies = {body.number: body for _, found in chosen for body in found}
    return {number: lights_in(bodies[number].low, bodies[number].high) for number in tracks}
