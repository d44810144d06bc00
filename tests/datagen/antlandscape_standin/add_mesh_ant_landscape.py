"""`mesh.landscape_add` with any of the real operator's properties: a wavy grid of the size asked
for.
"""

import math

import bpy

FLOATS = """
noise_offset_x noise_offset_y noise_offset_z noise_size noise_size_x noise_size_y distortion
amplitude frequency dimension lacunarity offset gain height height_offset fx_mixfactor fx_turb
fx_amplitude fx_frequency fx_size fx_loc_x fx_loc_y fx_height fx_offset falloff_x falloff_y
edge_level maximum minimum strata water_level mesh_size mesh_size_x mesh_size_y
"""
INTS = "noise_depth fx_depth random_seed subdivision_x subdivision_y"
STRINGS = """
noise_type basis_type vl_basis_type hard_noise marble_bias marble_sharp marble_shape fx_mix_mode
fx_type fx_bias edge_falloff strata_type ant_terrain_name land_material water_material texture_block
vert_group
"""
FLAGS = """
height_invert fx_invert at_cursor smooth_mesh tri_face sphere_mesh water_plane remove_double
show_main_settings show_noise_settings show_displace_settings auto_refresh refresh
"""


class AntAddLandscape(bpy.types.Operator):
    """Add a wavy grid."""

    bl_idname = "mesh.landscape_add"
    bl_label = "Landscape"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        cells = min(64, self.subdivision_x or 8)
        width, depth = self.mesh_size_x or 1.0, self.mesh_size_y or 1.0
        points = [
            ((i / cells - 0.5) * width, (j / cells - 0.5) * depth, math.sin(i) * math.cos(j))
            for i in range(cells + 1)
            for j in range(cells + 1)
        ]
        faces = [
            (
                i * (cells + 1) + j,
                (i + 1) * (cells + 1) + j,
                (i + 1) * (cells + 1) + j + 1,
                i * (cells + 1) + j + 1,
            )
            for i in range(cells)
            for j in range(cells)
        ]
        mesh = bpy.data.meshes.new(self.ant_terrain_name or "landscape")
        mesh.from_pydata(points, [], faces)
        obj = bpy.data.objects.new(mesh.name, mesh)
        context.collection.objects.link(obj)
        context.view_layer.objects.active = obj
        return {"FINISHED"}


for names, kind in (
    (FLOATS, bpy.props.FloatProperty),
    (INTS, bpy.props.IntProperty),
    (STRINGS, bpy.props.StringProperty),
    (FLAGS, bpy.props.BoolProperty),
):
    for name in names.split():
        AntAddLandscape.__annotations__ = {
            **getattr(AntAddLandscape, "__annotations__", {}),
            name: kind(),
        }


def register() -> None:
    bpy.utils.register_class(AntAddLandscape)


def unregister() -> None:
    bpy.utils.unregister_class(AntAddLandscape)
