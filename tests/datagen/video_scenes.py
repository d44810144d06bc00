"""Small .blend files for tests of videos: `python video_scenes.py OUT.blend KIND`.

`still` has furniture in a room, `doors` three leaves and four drawers; `animated` moves by
keyframes, an armature, a shape key and a part that comes and goes; `nothing` has a frame range in
which nothing moves, `frameless` not even that.
"""

import sys

import bpy
import numpy as np
from mathutils import Matrix

ROOM = (4.0, 5.0, 2.6)


def box(name: str, low: tuple[float, ...], high: tuple[float, ...]) -> bpy.types.Object:
    size, middle = np.subtract(high, low), np.add(high, low) / 2
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=tuple(middle))
    made = bpy.context.object
    made.name, made.scale = name, tuple(size)
    bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    colour(made)
    return made


def colour(made: bpy.types.Object) -> None:
    rng = np.random.default_rng(sum(map(ord, made.name)))
    material = bpy.data.materials.new(made.name)
    material.use_nodes = True
    socket = material.node_tree.nodes["Principled BSDF"].inputs["Base Color"]
    socket.default_value = (*rng.uniform(0.2, 0.9, 3), 1)
    made.data.materials.append(material)


def room() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    x, y, z = ROOM
    box("floor", (0, 0, -0.1), (x, y, 0))
    box("ceiling", (0, 0, z), (x, y, z + 0.1))
    box("wall_w", (-0.1, 0, 0), (0, y, z))
    box("wall_e", (x, 0, 0), (x + 0.1, y, z))
    box("wall_s", (0, -0.1, 0), (x, 0, z))
    box("wall_n", (0, y, 0), (x, y + 0.1, z))
    box("table", (1.2, 2.0, 0.0), (2.2, 2.8, 0.7))
    box("lamp_wire", (2.6, 1.0, 1.9), (2.604, 1.004, 2.6))  # thinner than a pixel
    light = bpy.data.lights.new("bulb", "POINT")
    light.energy = 200
    bulb = bpy.data.objects.new("bulb", light)
    bulb.location = (2.0, 2.5, 2.3)
    bpy.context.scene.collection.objects.link(bulb)


def still() -> None:
    room()
    box("chair", (3.0, 3.2, 0.0), (3.4, 3.6, 0.8))
    box("stool", (0.5, 3.8, 0.0), (0.8, 4.1, 0.5))
    box("cup", (1.5, 2.2, 0.7), (1.6, 2.3, 0.8))
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.15, location=(3.2, 1.2, 1.4))
    bpy.context.object.name = "ball"
    colour(bpy.context.object)
    bpy.ops.mesh.primitive_torus_add(location=(0.9, 1.2, 1.2), major_radius=0.2, minor_radius=0.06)
    bpy.context.object.name = "ring"
    colour(bpy.context.object)


def leaf(name: str, hinge: tuple[float, ...], end: tuple[float, ...]) -> bpy.types.Object:
    """A door's leaf from its hinge to its other end, 2 m high, its origin on the hinge."""
    low, high = np.minimum(hinge, end), np.maximum(hinge, end)
    thin = np.where(high[:2] - low[:2] < 0.1, 0.02, 0.0)
    made = box(name, (*(low[:2] - thin), 0.01), (*(high[:2] + thin), 2.0))
    off = np.array([*hinge[:2], 0.01]) - np.array(made.location)
    made.data.transform(Matrix.Translation(tuple(-off)))
    made.location = (*hinge[:2], 0.01)
    return made


def doors() -> None:
    """`door` may swing, `door.001` has a hinge and a cupboard on either side, `door.002` none."""
    room()
    box("frame", (2.88, 0.5, 0.0), (2.995, 0.6, 2.1))  # touches the leaf's corner at its hinge
    leaf("door", (3.0, 0.55), (3.8, 0.55))
    leaf("door.001", (0.6, 4.0), (1.4, 4.0))
    for y in (3.3, 4.2):
        box("cupboard", (0.7, y, 0.0), (1.3, y + 0.5, 1.9))
    box("door.002", (2.4, 4.4, 0.0), (3.2, 4.44, 2.0))
    drawers()


def joined(*parts: bpy.types.Object) -> None:
    with bpy.context.temp_override(active_object=parts[0], selected_editable_objects=parts):
        bpy.ops.object.join()


def drawers() -> None:
    """Of a chest `drawer` may slide, `drawer.001` holds a cup, and something stands before
    `drawer.002`; `drawer.003` stands free on the floor."""
    boards = [box("chest", (0.5, 0.02, 0.0), (1.3, 0.05, 0.94))]
    boards += [box("side", (x, 0.05, 0.0), (x + 0.03, 0.55, 0.94)) for x in (0.5, 1.27)]
    boards += [
        box("board", (0.53, 0.05, z), (1.27, 0.55, z + 0.02)) for z in (0.02, 0.32, 0.62, 0.92)
    ]
    joined(*boards)
    for name, z in (("drawer", 0.645), ("drawer.001", 0.345), ("drawer.002", 0.045)):
        inside = box(name, (0.535, 0.06, z), (1.265, 0.55, z + 0.27))
        joined(inside, box("front", (0.515, 0.55, z - 0.02), (1.285, 0.57, z + 0.28)))
    box("cup", (0.8, 0.2, 0.4), (0.9, 0.3, 0.5))
    box("basket", (0.7, 0.6, 0.0), (1.1, 0.8, 0.25))
    box("drawer.003", (1.7, 1.2, 0.0), (2.1, 1.6, 0.3))


def keyed(made: bpy.types.Object, path: str, *values: object) -> None:
    for step, value in enumerate(values):
        setattr(made, path, value)
        made.keyframe_insert(path, frame=1 + 10 * step)


def animated() -> None:
    room()
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.render.fps = 1, 21, 10
    cart = box("cart", (0.5, 3.6, 0.0), (0.9, 4.0, 0.4))
    keyed(cart, "location", (0.7, 3.8, 0.2), (2.0, 3.9, 0.2), (3.2, 3.6, 0.5))
    keyed(cart, "rotation_euler", (0, 0, 0), (0, 0, 1.2), (0.6, 0, 2.0))
    blob = box("pillow", (2.8, 0.4, 0.0), (3.4, 1.0, 0.4))
    blob.shape_key_add(name="Basis")
    key = blob.shape_key_add(name="tall")
    for point in key.data:
        point.co.z *= 2.5
    for frame, value in ((1, 0.0), (21, 1.0)):
        key.value = value
        key.keyframe_insert("value", frame=frame)
    bpy.ops.mesh.primitive_cylinder_add(radius=0.15, depth=1.2, location=(0.8, 1.5, 0.6))
    skin = bpy.context.object
    skin.name = "plant"
    colour(skin)
    bpy.ops.object.armature_add(location=(0.8, 1.5, 0.0))
    rig = bpy.context.object
    skin.parent, skin.matrix_parent_inverse = rig, rig.matrix_world.inverted()
    skin.modifiers.new("skin", "ARMATURE").object = rig
    skin.vertex_groups.new(name="Bone").add(
        [v.index for v in skin.data.vertices if v.co.z > 0], 1.0, "REPLACE"
    )
    bone = rig.pose.bones["Bone"]
    bone.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (21, 0.7)):
        bone.rotation_euler = (angle, 0, 0)
        bone.keyframe_insert("rotation_euler", frame=frame)
    vase = box("vase", (1.5, 2.3, 0.7), (1.7, 2.5, 1.0))
    for frame, hidden in ((1, False), (9, True), (17, False)):
        vase.hide_render = hidden
        vase.keyframe_insert("hide_render", frame=frame)
    bulb = bpy.data.objects["bulb"]
    keyed(bulb.data, "energy", 200.0, 260.0, 220.0)


def nothing() -> None:
    room()
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.render.fps = 1, 21, 10


def frameless() -> None:
    nothing()
    bpy.context.scene.frame_end = 1


if __name__ == "__main__":
    made = {kind.__name__: kind for kind in (still, doors, animated, nothing, frameless)}
    made[sys.argv[2]]()
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
    from panoforge.datagen.defects import exit_now

    exit_now(0)
