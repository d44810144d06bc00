"""Cheaper materials where nobody looks.

No displacement by default, and flat colours for bounced light.

Infinigen's materials are large procedural node graphs. Evaluating them is nearly all of the render
time, and most of it is spent where no one sees the result: on the second and later bounces of
diffuse light. `flatten_secondary` shows such rays, and only such (Cycles' "Is Diffuse Ray"), a
diffuse surface of the material's mean diffuse colour. That is measured by small probe renders. The
camera and every reflection, sharp or blurred, see the material itself. We render without caustics:
Cycles then drops what is glossy of any surface that diffuse light meets. So the diffuse colour
alone is the right one. With glossy colours added, as an albedo pass has them, a room came out 1.6
of 255 too bright. Measured in a bathroom (bench/render_cost.py): half the time per sample and less
noise. A given error, against full materials, takes a third of the time of Infinigen's own render.

Displacement re-evaluates a graph three times per shading point when used as bump, and moves the
geometry away from what rays see when used as true displacement. One living room at 512×256, 2
samples: bump as shipped 12.3 s, without 3.7 s.
"""

from collections.abc import Iterator, Mapping

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.datablocks import key_of

FALLBACK_COLOUR = (0.4, 0.4, 0.4)
MAX_COLOUR = 0.9  # an enclosed room of perfect reflectors never settles
# Materials with any of these are left alone: light passes through them or comes from them.
KEPT_WHOLE = {
    "EMISSION",
    "BSDF_TRANSPARENT",
    "BSDF_GLASS",
    "BSDF_REFRACTION",
    "BSDF_TRANSLUCENT",
    "HOLDOUT",
    "VOLUME_ABSORPTION",
    "VOLUME_SCATTER",
    "PRINCIPLED_VOLUME",
    "BSDF_HAIR_PRINCIPLED",
}
_TRANSMITS = ("Transmission Weight", "Emission Strength")


def set_displacement(mode: str) -> None:
    """`off` unlinks every material's displacement; `bump` and `true` set how Cycles uses it."""
    for material in bpy.data.materials:
        if mode != "off":
            material.displacement_method = {"bump": "BUMP", "true": "BOTH"}[mode]
            continue
        for output in _outputs(material):
            for link in list(output.inputs["Displacement"].links):
                material.node_tree.links.remove(link)


def index_materials() -> list[str]:
    """Give every material its own pass index (from 1) and return their keys in that order."""
    ordered = sorted(bpy.data.materials, key=key_of)
    for index, material in enumerate(ordered, start=1):
        material.pass_index = index
    return [key_of(material) for material in ordered]


def mean_colours(
    names: list[str], index: NDArray[np.int32], colour: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Mean colour per material from probe renders.

    `index` (N, W) material indices, `colour` (N, W, 3) linear, N rows in all.
    """
    flat, values = index.ravel(), colour.reshape(-1, 3).astype(np.float64)
    count = np.bincount(flat, minlength=len(names) + 1)
    sums = np.stack(
        [np.bincount(flat, weights=values[:, c], minlength=len(names) + 1) for c in range(3)],
        axis=1,
    )
    return {name: sums[i] / count[i] for i, name in enumerate(names, start=1) if count[i]}


def flatten_secondary(colours: Mapping[str, NDArray[np.float64]]) -> int:
    """Show diffusely bounced light a flat diffuse surface instead of the full material.

    It has the mean diffuse colour. Returns how many materials were changed. Materials that emit or
    let light through stay whole.
    """
    fallback = np.mean(list(colours.values()), axis=0) if colours else np.array(FALLBACK_COLOUR)
    changed = 0
    for material in sorted(bpy.data.materials, key=key_of):
        outputs = [output for output in _outputs(material) if output.inputs["Surface"].is_linked]
        if outputs and not is_whole(material):
            colour = np.clip(colours.get(key_of(material), fallback), 0, MAX_COLOUR)
            for output in outputs:
                _insert_mix(material.node_tree, output, tuple(colour.tolist()))
            changed += 1
    return changed


def _insert_mix(
    tree: bpy.types.NodeTree, output: bpy.types.Node, colour: tuple[float, ...]
) -> None:
    """Between surface and output.

    mix(surface, diffuse(colour)) by whether the ray left a surface diffusely. Cycles jumps over the
    branch whose weight is zero, so the unused graph costs nothing.
    """
    surface = output.inputs["Surface"].links[0].from_socket
    path = tree.nodes.new("ShaderNodeLightPath")
    flat = tree.nodes.new("ShaderNodeBsdfDiffuse")
    flat.inputs["Color"].default_value = (*colour, 1.0)
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(path.outputs["Is Diffuse Ray"], mix.inputs[0])
    tree.links.new(surface, mix.inputs[1])
    tree.links.new(flat.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])


def _outputs(material: bpy.types.Material) -> list[bpy.types.Node]:
    if not material.use_nodes or material.node_tree is None:
        return []
    return [node for node in material.node_tree.nodes if node.type == "OUTPUT_MATERIAL"]


def is_whole(material: bpy.types.Material) -> bool:
    """Whether light passes through the material or comes from it, or it has no nodes to change."""
    if not material.use_nodes or material.node_tree is None:
        return True
    for node in _all_nodes(material.node_tree):
        if node.type in KEPT_WHOLE:
            return True
        if node.type == "BSDF_PRINCIPLED":
            if any(
                node.inputs[name].is_linked or node.inputs[name].default_value > 0
                for name in _TRANSMITS
            ):
                return True
            if node.inputs["Alpha"].is_linked or node.inputs["Alpha"].default_value < 1:
                return True
    return False


def _all_nodes(tree: bpy.types.NodeTree) -> Iterator[bpy.types.Node]:
    for node in tree.nodes:
        yield node
        if node.type == "GROUP" and node.node_tree is not None:
            yield from _all_nodes(node.node_tree)


def is_volume_only(material: bpy.types.Material | None) -> bool:
    """Whether a material has a volume and no surface: Cycles' rays pass its faces."""
    if material is None or not material.use_nodes or material.node_tree is None:
        return False
    outputs = [node for node in material.node_tree.nodes if node.type == "OUTPUT_MATERIAL"]
    active = [node for node in outputs if node.is_active_output]
    return any(
        node.inputs["Volume"].is_linked and not node.inputs["Surface"].is_linked for node in active
    )
