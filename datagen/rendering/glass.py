"""Glass by policy: whether labels show a pane, or what is seen through it.

`solid` (the default) costs nothing: a pane is the first geometry on the ray, so it has its id,
depth and normal. With `see-through` they are those of what is behind. The beauty render's material
index tells which pixels meet glass first; there a second render fills them in. It takes one sample
and no bounces, with every glass material fully transparent and data passes that skip transparent
surfaces. The picture itself is the same under both policies. What is glass is a question of
material, not of object: the frame of a window stays where it is, a glass vase is seen through.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import bpy
import numpy as np

from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.rendering.passes import Passes
from panoforge.datagen.rendering.settings import RenderSettings

SEE_THROUGH = {"BSDF_GLASS", "BSDF_REFRACTION", "BSDF_TRANSPARENT"}
HALF = 0.5  # a principled shader that transmits more, or covers less, is seen through


def glass_materials() -> list[str]:
    """Keys of the materials that one looks through.

    A pane with grime on it is one, a leaf that is cut out of a card by a mask (transparency mixed
    in by a texture) is not.
    """
    return sorted(
        key_of(material)
        for material in bpy.data.materials
        if material.use_nodes
        and material.node_tree is not None
        and _is_glass_tree(material.node_tree)
    )


def _is_glass_tree(tree: bpy.types.NodeTree) -> bool:
    for node in tree.nodes:
        if node.type in ("OUTPUT_MATERIAL", "GROUP_OUTPUT") and getattr(
            node, "is_active_output", True
        ):
            socket = node.inputs.get("Surface") or next(
                (s for s in node.inputs if s.type == "SHADER"), None
            )
            return socket is not None and socket.is_linked and _is_glass(socket.links[0].from_node)
    return False


def _is_glass(node: bpy.types.Node) -> bool:
    if node.type == "GROUP" and node.node_tree is not None:
        return _is_glass_tree(node.node_tree)
    if node.type == "REROUTE":
        return node.inputs[0].is_linked and _is_glass(node.inputs[0].links[0].from_node)
    if node.type in ("MIX_SHADER", "ADD_SHADER"):
        factor = node.inputs["Fac"] if node.type == "MIX_SHADER" else None
        shaders = [socket for socket in node.inputs if socket.type == "SHADER"]
        if factor is not None and not factor.is_linked and factor.default_value in (0.0, 1.0):
            shaders = [shaders[int(factor.default_value)]]
        parts = [socket.links[0].from_node for socket in shaders if socket.is_linked]
        by_mask = factor is not None and factor.is_linked
        return any(
            _is_glass(part) and not (by_mask and part.type == "BSDF_TRANSPARENT") for part in parts
        )
    if node.type == "BSDF_PRINCIPLED":
        transmission, alpha = node.inputs["Transmission Weight"], node.inputs["Alpha"]
        transmits = not transmission.is_linked and transmission.default_value > HALF
        return transmits or (not alpha.is_linked and alpha.default_value < HALF)
    return node.type in SEE_THROUGH


def behind_settings(settings: RenderSettings) -> RenderSettings:
    """The settings of the second render."""
    return replace(
        settings,
        samples=1,
        adaptive_threshold=0.0,
        max_bounces=0,
        denoise=False,
        albedo=False,
        alpha_threshold=0.5,
    )


@contextlib.contextmanager
def removed(keys: list[str]) -> Iterator[None]:
    """While this is open, these materials are fully transparent."""
    undo = []
    for material in [one for one in bpy.data.materials if key_of(one) in keys]:
        tree = material.node_tree
        clear = tree.nodes.new("ShaderNodeBsdfTransparent")
        for output in [node for node in tree.nodes if node.type == "OUTPUT_MATERIAL"]:
            socket = output.inputs["Surface"]
            undo.append((tree, output, socket.links[0].from_socket if socket.is_linked else None))
            tree.links.new(clear.outputs[0], socket)
        undo.append((tree, clear, None))
    try:
        yield
    finally:
        for tree, node, surface in undo:
            if node.type == "BSDF_TRANSPARENT":
                tree.nodes.remove(node)
            elif surface is not None:
                tree.links.new(surface, node.inputs["Surface"])


def merge(front: Passes, behind: Passes, glass: list[int]) -> Passes:
    """`front` with ids, depth and normals of `behind` where a pane is.

    A pane's material is one of `glass` (pass indices).
    """
    assert front.material is not None
    through = np.isin(front.material, glass)
    timings = {
        name: front.timings_s.get(name, 0.0) + seconds for name, seconds in behind.timings_s.items()
    }
    cpu = {name: front.cpu_s.get(name, 0.0) + seconds for name, seconds in behind.cpu_s.items()}
    return replace(
        front,
        index=np.where(through, behind.index, front.index),
        depth_m=np.where(through, behind.depth_m, front.depth_m),
        normal=np.where(through[..., None], behind.normal, front.normal),
        timings_s=timings,
        cpu_s=cpu,
    )
