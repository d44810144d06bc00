"""Draw the colours of a scene's materials anew.

A generated scene costs minutes, and its geometry serves more than one look. Each material gets one
turn of hue, one change of saturation and one tint, between its texture and its shaders, so that
grain and pattern stay. What has its colour by nature keeps it: plants, food, animals, ground, and
whatever lets light through or glows.
"""

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import bpy
import numpy as np

from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.geometry.materials import is_whole
from panoforge.datagen.geometry.prepared_scene import numbered_objects
from panoforge.datagen.geometry.rendered_things import RenderedThing

STREAM = 0xC0104
NATURAL = frozenset(
    (
        *("plant", "tree", "grass", "food", "animal", "coral", "rock", "terrain", "water"),
        *("cloud", "weather", "mirror"),
    )
)
_COLOURS = ("Base Color", "Color")  # what shaders call the colour of a surface
_SHADERS = ("BSDF_PRINCIPLED", "BSDF_DIFFUSE", "BSDF_SHEEN", "BSDF_TOON", "SUBSURFACE_SCATTERING")


@dataclass(frozen=True)
class ColourChange:
    """`hue` in turns (0.5: none, as Blender counts), a factor of saturation, a linear RGB tint."""

    hue: float
    saturation: float
    tint: tuple[float, float, float]


def draw_change(rng: np.random.Generator) -> ColourChange:
    """Any hue, about the saturation that there was, and a pale tint, which colours what is grey."""
    tint = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.45), rng.uniform(0.6, 1.0))
    return ColourChange(rng.random(), rng.uniform(0.5, 1.4), tint)


def redraw_colours(things: Sequence[RenderedThing], seed: int, draw: int) -> int:
    """Change the materials of the prepared scene; how many were changed.

    The draw is repeatable: a material's change depends on the seed, the number of the draw, and its
    place among them.
    """
    rng = np.random.default_rng([seed, STREAM, draw])
    kept = _materials_of(things, NATURAL)
    changed = 0
    for material in sorted(bpy.data.materials, key=key_of):
        change = draw_change(rng)
        if material.users and key_of(material) not in kept and not is_whole(material):
            changed += _recolour(material.node_tree, change) > 0
    return changed


def _materials_of(things: Sequence[RenderedThing], categories: Iterable[str]) -> set[str]:
    """The keys of the materials that things of these categories have."""
    wanted = set(categories)
    return {
        key_of(slot.material)
        for number, objects in numbered_objects().items()
        if things[number - 1].category in wanted
        for obj in objects
        for slot in obj.material_slots
        if slot.material is not None
    }


def _recolour(tree: bpy.types.NodeTree, change: ColourChange) -> int:
    """Change what the shaders of a tree, and of the groups in it, get as colour. How many."""
    changed = 0
    for node in list(tree.nodes):
        if node.type == "GROUP" and node.node_tree is not None and _holds_shader(node.node_tree):
            node.node_tree = node.node_tree.copy()  # other materials share the group
            changed += _recolour(node.node_tree, change)
        elif node.type in _SHADERS:
            socket = next(node.inputs[name] for name in _COLOURS if name in node.inputs)
            _insert(tree, socket, change)
            changed += 1
    return changed


def _holds_shader(tree: bpy.types.NodeTree) -> bool:
    return any(
        node.type in _SHADERS
        or (node.type == "GROUP" and node.node_tree is not None and _holds_shader(node.node_tree))
        for node in tree.nodes
    )


def _insert(tree: bpy.types.NodeTree, socket: bpy.types.NodeSocket, change: ColourChange) -> None:
    """Hue, saturation and tint in front of a shader's colour."""
    turn = tree.nodes.new("ShaderNodeHueSaturation")
    turn.inputs["Hue"].default_value = change.hue
    turn.inputs["Saturation"].default_value = change.saturation
    tint = tree.nodes.new("ShaderNodeMix")
    tint.data_type, tint.blend_type = "RGBA", "MULTIPLY"
    factor, first, second = tint.inputs[0], tint.inputs[6], tint.inputs[7]
    factor.default_value, second.default_value = 1.0, (*change.tint, 1.0)
    if socket.is_linked:
        tree.links.new(socket.links[0].from_socket, turn.inputs["Color"])
    else:
        turn.inputs["Color"].default_value = socket.default_value
    tree.links.new(turn.outputs["Color"], first)
    tree.links.new(tint.outputs[2], socket)
