"""A small furnished room in Blender whose furniture and colours are drawn anew, in a process of its
own: `python redraw_scenes.py OUT.json`.
"""

import json
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from panoforge.datagen.geometry import prepared_scene
from panoforge.datagen.geometry.surface import scene_surface
from panoforge.datagen.redraw.colours import redraw_colours
from panoforge.datagen.redraw.furniture import redraw_furniture
from panoforge.datagen.scene.scene import Region, Scene, Thing
from panoforge.datagen.small_things.clutter import Asset
from panoforge.datagen.small_things.dressing import dress
from panoforge.datagen.verify.oracle import build_oracle

ROOM = (6.0, 5.0, 2.6)
FURNITURE: dict[str, tuple[tuple[float, ...], tuple[float, ...], str]] = {
    "table": ((2.0, 2.0, 0.0), (3.4, 2.8, 0.75), "table"),
    "chair": ((2.2, 1.7, 0.0), (2.6, 2.1, 0.9), "chair"),  # half below the table
    "cup": ((2.6, 2.4, 0.75), (2.7, 2.5, 0.85), "cup"),
    "sofa": ((0.02, 2.0, 0.0), (0.9, 4.0, 0.8), "sofa"),  # against the wall at x = 0
    "plant": ((5.0, 4.0, 0.0), (5.4, 4.4, 1.0), "plant"),
    "rug": ((1.5, 1.5, 0.0), (3.6, 3.0, 0.01), "rug"),
    "painting": ((3.0, 4.97, 1.4), (4.0, 5.0, 2.0), "picture"),
    "door": ((4.5, -0.05, 0.0), (5.4, 0.0, 2.0), "door"),
}


def box(name: str, low: tuple[float, ...], high: tuple[float, ...]) -> bpy.types.Object:
    size, middle = np.subtract(high, low), np.add(high, low) / 2
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=tuple(middle))
    obj = bpy.context.object
    obj.name, obj.scale = name, tuple(size)
    return obj


def plain(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1)
    return made


def grouped(name: str, group: bpy.types.NodeTree) -> bpy.types.Material:
    """A material whose shader is in a group that other materials share."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    tree = made.node_tree
    tree.nodes.remove(tree.nodes["Principled BSDF"])
    node = tree.nodes.new("ShaderNodeGroup")
    node.node_tree = group
    tree.links.new(node.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
    return made


def shared_group() -> bpy.types.NodeTree:
    tree = bpy.data.node_groups.new("shared", "ShaderNodeTree")
    tree.interface.new_socket("Surface", in_out="OUTPUT", socket_type="NodeSocketShader")
    shader = tree.nodes.new("ShaderNodeBsdfDiffuse")
    tree.links.new(shader.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
    return tree


def room() -> Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    x, y, z = ROOM
    shell = {
        "floor": ((0, 0, -0.1), (x, y, 0)),
        "wall_w": ((-0.1, 0, 0), (0, y, z)),
        "wall_e": ((x, 0, 0), (x + 0.1, y, z)),
        "wall_s": ((0, -0.1, 0), (4.5, 0, z)),
        "wall_n": ((0, y, 0), (x, y + 0.1, z)),
    }
    things = [
        Thing(name, name.split("_")[0], (box(name, *corners).name,), ("structure",))
        for name, corners in shell.items()
    ]
    things += [
        Thing(name, category, (box(name, low, high).name,))
        for name, (low, high, category) in FURNITURE.items()
    ]
    group = shared_group()
    materials = {
        "sofa": plain("cloth", (0.5, 0.1, 0.1)),
        "plant": plain("leaf", (0.1, 0.5, 0.1)),
        "table": grouped("wood", group),
        "rug": grouped("wool", group),
    }
    for name, material in materials.items():
        bpy.data.objects[name].data.materials.append(material)
    light = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "POINT"))
    light.location = (5.2, 4.2, 0.9)  # in the plant
    bpy.context.scene.collection.objects.link(light)
    bpy.context.view_layer.update()
    return Scene(tuple(things), (Region((0, 0, 0), ROOM, 0.0, ground=(1,)),))


def places(draw: int, seed: int = 3) -> dict[str, object]:
    scene = room()
    moved = redraw_furniture(scene, seed, draw) if draw else 0
    found = {
        name: [list(end) for end in _ends(bpy.data.objects[name])] for name in [*FURNITURE, "floor"]
    }
    return {
        "moved": moved,
        "boxes": found,
        "lamp": list(bpy.data.objects["lamp"].matrix_world.translation),
    }


def _ends(obj: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([obj.matrix_world @ vertex.co for vertex in obj.data.vertices])
    return corners.min(axis=0), corners.max(axis=0)


def judged() -> float:
    """Share of rays from the middle of a refurnished room on which judge and renderer's surface
    agree: both are made from the moved scene.
    """
    scene = room()
    redraw_furniture(scene, 3, 1)
    judge = build_oracle(scene)
    prepared = prepared_scene.prepare(scene, 2)
    surface, rng = scene_surface(), np.random.default_rng(0)
    directions = rng.normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits = surface.cast(np.array((3.0, 1.2, 1.5)), directions)
    met = [judge.cast((3.0, 1.2, 1.5), direction)[0] for direction in directions.tolist()]
    names = [judge.things[judge.owner[t]].name if t >= 0 else "" for t in met]
    ours = [prepared.things[k - 1].name if k else "" for k in hits.index]
    return float(np.mean([a == b for a, b in zip(names, ours, strict=True)]))


SHELF = {  # boards of one piece of furniture, 1.2 m wide and 30 cm deep
    "bottom": ((0, 0, 0.1), (1.2, 0.3, 0.12)),
    "middle": ((0, 0, 0.5), (1.2, 0.3, 0.52)),
    "top": ((0, 0, 0.9), (1.2, 0.3, 0.92)),
    "left": ((-0.02, 0, 0), (0, 0.3, 0.92)),
    "right": ((1.2, 0, 0), (1.22, 0.3, 0.92)),
    "back": ((0, 0.3, 0), (1.2, 0.31, 0.92)),
}


def dressed(seed: int) -> dict[str, object]:
    """Boxes of what is put on a shelf, with a lamp standing on it and a picture hung above."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    boards = [box(name, *corners).name for name, corners in SHELF.items()]
    stood = box("lamp", (0.5, 0.05, 0.92), (0.7, 0.25, 1.3))
    seat = box("sofa", (3, 0, 0), (5, 1, 0.5))
    cup, vase = box("cup", (0, 0, 0), (0.08, 0.08, 0.1)), box("vase", (0, 0, 0), (0.1, 0.1, 0.45))
    assets = []
    for one in (cup, vase):
        size = np.array(one.dimensions, float)
        one.data.transform(Matrix.Diagonal((*size, 1.0)) @ Matrix.Translation((0, 0, 0.5)))
        assets.append(Asset(f"{one.name.title()}Factory(0)", one.data, size))
        bpy.data.objects.remove(one)
    things = [
        Thing("shelf", "shelf", tuple(boards)),
        Thing("lamp", "lamp", (stood.name,)),
        Thing("sofa", "sofa", (seat.name,)),
    ]
    bpy.context.view_layer.update()
    added = dress(things, assets, seed)
    ends = [[list(map(float, end)) for end in _ends(bpy.data.objects[t.name])] for t in added]
    return {"boxes": ends, "categories": [thing.category for thing in added]}


def colours(draw: int) -> dict[str, object]:
    """What stands before each material's shader, and the values."""
    scene = room()
    prepared = prepared_scene.prepare(scene, 2)
    changed = redraw_colours(prepared.things, 3, draw)
    found = {}
    for name in ("cloth", "leaf", "wood", "wool"):
        tree = bpy.data.materials[name].node_tree
        group = next((node for node in tree.nodes if node.type == "GROUP"), None)
        tree = group.node_tree if group else tree
        turns = [node.inputs["Hue"].default_value for node in tree.nodes if node.type == "HUE_SAT"]
        found[name] = turns
    return {"changed": changed, "hues": found}


if __name__ == "__main__":
    results = {
        "as_made": places(0),
        "first": places(1),
        "again": places(1),
        "second": places(2),
        "judged": judged(),
        "dressed": [dressed(1), dressed(1), dressed(2)],
        "colours": [colours(1), colours(1), colours(2)],
    }
    Path(sys.argv[1]).write_text(json.dumps(results))
    from panoforge.datagen.defects import exit_now

    exit_now(0)
