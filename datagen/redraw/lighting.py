"""Other light in the same scene: another time of day, lamps switched off.

A run that shares generated scenes with others can differ in its light. The sun stands in a sky
texture of the world, as Infinigen makes it, or is a sun lamp. A lamp is any other light, and
whatever surface of a lamp emits.
"""

import math
from collections.abc import Sequence

import bpy
from mathutils import Euler

from panoforge.core.errors import UserError
from panoforge.datagen.config.render import LightSettings
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.rendered_things import RenderedThing

LAMPS = ("lamp", "ceiling_light")  # categories


class NoSun(UserError):
    """The config moves the sun, and the scene has none."""


def relight(settings: LightSettings, things: Sequence[RenderedThing]) -> None:
    """Light the prepared scene as asked. NoSun if the sun is to be moved and there is none."""
    if settings.sun_elevation_deg is not None:
        move_sun(settings.sun_elevation_deg)
    if settings.lamps == "off":
        switch_lamps_off(things)


def move_sun(elevation_deg: float) -> None:
    """Put every sun of the open scene at a height above the horizon; its direction stays."""
    elevation, world = math.radians(elevation_deg), bpy.context.scene.world
    nodes = world.node_tree.nodes if world is not None and world.use_nodes else ()
    skies = [node for node in nodes if node.type == "TEX_SKY"]
    suns = [
        obj for obj in bpy.context.scene.objects if obj.type == "LIGHT" and obj.data.type == "SUN"
    ]
    if not skies and not suns:
        raise NoSun(
            f"light.sun_elevation_deg={elevation_deg:g}: the scene has no sky texture and no sun"
            " lamp to move; leave it null for this source"
        )
    for sky in skies:
        sky.sun_elevation = elevation
    for sun in suns:  # it shines along its −Z: upright it stands in the zenith
        _, _, heading = sun.matrix_world.to_euler()
        sun.rotation_euler = Euler((math.pi / 2 - elevation, 0.0, heading))


def switch_lamps_off(things: Sequence[RenderedThing]) -> None:
    """No light but the sun and the sky, and no glow of lamps."""
    for obj in bpy.context.scene.objects:
        if obj.type == "LIGHT" and obj.data.type != "SUN" and not obj.data.cycles.is_portal:
            obj.hide_render = True
    for number, objects in numbered_objects().items():
        if things[number - 1].category in LAMPS:
            for obj in objects:
                _stop_glowing(obj)


def _stop_glowing(obj: bpy.types.Object) -> None:
    materials = [slot.material for slot in obj.material_slots]
    for tree in [one.node_tree for one in materials if one is not None and one.use_nodes]:
        for node in tree.nodes:
            name = "Strength" if node.type == "EMISSION" else "Emission Strength"
            strength = node.inputs.get(name)
            if strength is not None:
                for link in list(strength.links):
                    tree.links.remove(link)
                strength.default_value = 0.0
