"""Files as people make them, each odd in one way, built by script: see ODDITIES.

Each function fills an empty file that already holds a floor, a lamp and a few boxes. The camera of
the test stands at CAMERA. Files that link others get the folder to put them in.
"""

from collections.abc import Callable
from pathlib import Path

import bpy
from mathutils import Euler, Vector

CAMERA = (0.0, 0.0, 1.5)
Build = Callable[[Path], None]
ODDITIES: dict[str, Build] = {}


def odd(build: Build) -> Build:
    """Register a file under the name of the function that builds it."""
    ODDITIES[build.__name__] = build
    return build


def root() -> bpy.types.Collection:
    return bpy.context.scene.collection


def put(
    name: str,
    data: bpy.types.ID | None,
    at: tuple[float, float, float] = (0, 0, 0),
    into: bpy.types.Collection | None = None,
) -> bpy.types.Object:
    """A new object of `data`, linked into the scene or a collection."""
    obj = bpy.data.objects.new(name, data)
    obj.location = at
    (into or root()).objects.link(obj)
    return obj


def box_mesh(name: str, size: tuple[float, float, float] = (1, 1, 1)) -> bpy.types.Mesh:
    corners = [
        (x * size[0] / 2, y * size[1] / 2, z * size[2] / 2)
        for x in (-1, 1)
        for y in (-1, 1)
        for z in (-1, 1)
    ]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(corners, [], faces)
    mesh.materials.append(paint("grey", (0.5, 0.5, 0.5)))
    return mesh


def ball_mesh(name: str, radius: float = 0.4, segments: int = 16) -> bpy.types.Mesh:
    import bmesh

    shape, mesh = bmesh.new(), bpy.data.meshes.new(name)
    bmesh.ops.create_uvsphere(shape, u_segments=segments, v_segments=segments // 2, radius=radius)
    shape.to_mesh(mesh)
    shape.free()
    mesh.materials.append(paint("blue", (0.1, 0.2, 0.8)))
    return mesh


def paint(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    if name in bpy.data.materials:
        return bpy.data.materials[name]
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1)
    return material


def collection(name: str, inside: bpy.types.Collection | None = None) -> bpy.types.Collection:
    made = bpy.data.collections.new(name)
    (inside or root()).children.link(made)
    return made


def loose(name: str) -> bpy.types.Collection:
    """A collection outside the scene."""
    return bpy.data.collections.new(name)


def instancer(
    name: str,
    of: bpy.types.Collection,
    at: tuple[float, float, float],
    into: bpy.types.Collection | None = None,
) -> bpy.types.Object:
    empty = put(name, None, at, into)
    empty.instance_type, empty.instance_collection = "COLLECTION", of
    return empty


def layer_of(found: bpy.types.Collection) -> bpy.types.LayerCollection:
    return bpy.context.view_layer.layer_collection.children[found.name]


def begin() -> None:
    """An empty file with a room to look at."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    put("Floor", box_mesh("slab", (14, 14, 0.2)), (0, 0, -0.1))
    put("Crate", box_mesh("crate"), (2.0, 1.5, 0.5))
    light = bpy.data.lights.new("Lamp", "POINT")
    light.energy, light.shadow_soft_size = 300, 0.2
    put("Lamp", light, (0.5, 0.5, 4.0))


def nodes_modifier(
    obj: bpy.types.Object, build: Callable[[bpy.types.NodeTree], bpy.types.NodeSocket]
) -> bpy.types.Modifier:
    """Geometry nodes that add what `build` gives to the object's own geometry."""
    tree = bpy.data.node_groups.new("nodes", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    into, out = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    join = tree.nodes.new("GeometryNodeJoinGeometry")
    tree.links.new(build(tree), join.inputs[0])
    tree.links.new(into.outputs[0], join.inputs[0])
    tree.links.new(join.outputs[0], out.inputs[0])
    modifier = obj.modifiers.new("nodes", "NODES")
    modifier.node_group = tree
    return modifier


def line_of_points(
    tree: bpy.types.NodeTree, count: int, start: tuple[float, float, float], step: float
) -> bpy.types.NodeSocket:
    line = tree.nodes.new("GeometryNodeMeshLine")
    line.inputs["Count"].default_value = count
    line.inputs["Start Location"].default_value = start
    line.inputs["Offset"].default_value = (step, 0, 0)
    return line.outputs[0]


def on_points(
    tree: bpy.types.NodeTree, points: bpy.types.NodeSocket, what: bpy.types.NodeSocket
) -> bpy.types.NodeSocket:
    node = tree.nodes.new("GeometryNodeInstanceOnPoints")
    tree.links.new(points, node.inputs["Points"])
    tree.links.new(what, node.inputs["Instance"])
    return node.outputs[0]


def of_object(tree: bpy.types.NodeTree, obj: bpy.types.Object) -> bpy.types.NodeSocket:
    node = tree.nodes.new("GeometryNodeObjectInfo")
    node.inputs["Object"].default_value = obj
    node.inputs["As Instance"].default_value = True
    return node.outputs["Geometry"]


def library(
    folder: Path,
    name: str,
    size: float,
    objects: tuple[str, ...] = ("Cube",),
    at: tuple[float, float, float] = (0, 0, 0),
) -> Path:
    """A file with a collection `Things` of boxes one upon the other, and a lamp in it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    things = collection("Things")
    for number, one in enumerate(objects):
        place = (at[0], at[1], at[2] + size * number * 1.2)
        put(one, box_mesh("Cube", (size, size, size)), place, things)
    light = bpy.data.lights.new("Spot", "POINT")
    light.energy = 20
    put("Spot", light, (0, 0, 2), things)
    path = folder / f"{name}.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def link(path: Path, kind: str, name: str) -> bpy.types.ID:
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        setattr(wanted, kind, [name])
    return getattr(wanted, kind)[0]


def scatter(name: str, prototype: bpy.types.Object, count: int = 6, y: float = 3.0) -> None:
    """An object that places a prototype `count` times along a line before the camera."""
    start = (-2.5, y, 0.6)
    nodes_modifier(
        put(name, bpy.data.meshes.new("points")),
        lambda tree: on_points(
            tree, line_of_points(tree, count, start, 1.0), of_object(tree, prototype)
        ),
    )


def hair(obj: bpy.types.Object, count: int = 60, length: float = 0.6) -> bpy.types.ParticleSettings:
    obj.modifiers.new("hair", "PARTICLE_SYSTEM")
    settings = obj.particle_systems[0].settings
    settings.type, settings.count, settings.hair_length = "HAIR", count, length
    settings.radius_scale, settings.root_radius, settings.render_step = 0.06, 1.0, 3
    return settings


# The oddities.


@odd
def two_libraries_with_a_cube_each(folder: Path) -> None:
    paths = [
        library(folder, "one", 0.6, at=(-1.5, 3.0, 0.5)),
        library(folder, "two", 1.4, at=(1.0, 3.0, 0.7)),
    ]
    begin()
    for path in paths:
        root().objects.link(link(path, "objects", "Cube"))


@odd
def linked_object_with_a_local_ones_name(folder: Path) -> None:
    path = library(folder, "crates", 0.8, ("Crate",), (-2.0, 2.0, 0.5))
    begin()
    root().objects.link(link(path, "objects", "Crate"))


@odd
def modelled_in_centimetres(folder: Path) -> None:
    begin()
    bpy.context.scene.unit_settings.scale_length = 0.01
    for obj in bpy.data.objects:
        obj.location = 100 * Vector(obj.location)
        if obj.type == "MESH":
            obj.scale = (100, 100, 100)
    put("Table", box_mesh("table", (60, 60, 60)), (0, 200, 30))


@odd
def instancer_in_a_collection_hidden_in_renders(folder: Path) -> None:
    begin()
    props = loose("Props")
    put("Pot", ball_mesh("pot"), into=props)
    hidden = collection("Hidden")
    hidden.hide_render = True
    instancer("Hidden pot", props, (0, 2.5, 0.8), hidden)
    instancer("Shown pot", props, (-2, 2.5, 0.8))


@odd
def instancer_that_does_not_show(folder: Path) -> None:
    begin()
    grid = put("Vertices", box_mesh("grid", (2, 1, 1)), (0, 3, 1))
    grid.instance_type, grid.show_instancer_for_render = "VERTS", False
    pot = put("Pot", ball_mesh("pot", 0.3))
    pot.parent = grid


@odd
def instancer_hidden_by_the_eye(folder: Path) -> None:
    begin()
    props = loose("Props")
    put("Pot", ball_mesh("pot"), into=props)
    instancer("Shy pot", props, (0, 2.5, 0.8)).hide_set(True)


@odd
def modifiers_for_renders_only(folder: Path) -> None:
    begin()
    crate = put("Row", box_mesh("row", (0.4, 0.4, 0.4)), (-2, 2.5, 0.5))
    row = crate.modifiers.new("array", "ARRAY")
    row.count, row.show_viewport = 4, False
    seen = put("Ball", ball_mesh("ball"), (1, 2.5, 0.7)).modifiers.new("wave", "CAST")
    seen.cast_type, seen.factor, seen.show_render = "CUBOID", 1.0, False


@odd
def modifiers_in_a_collection_hidden_in_the_viewport(folder: Path) -> None:
    begin()
    away = collection("Away")
    crate = put("Row", box_mesh("row", (0.4, 0.4, 0.4)), (-2, 2.5, 0.5), away)
    crate.modifiers.new("array", "ARRAY").count = 4
    away.hide_viewport = True


@odd
def scatter_in_a_collection_hidden_in_the_viewport(folder: Path) -> None:
    begin()
    away, models = collection("scatters"), loose("models")
    rock = put("Rock", ball_mesh("rock", 0.3), into=models)
    scatter("scatter:rocks", rock)
    bpy.data.objects["scatter:rocks"].users_collection[0].objects.unlink(
        bpy.data.objects["scatter:rocks"]
    )
    away.objects.link(bpy.data.objects["scatter:rocks"])
    away.hide_viewport = True


@odd
def particle_hair(folder: Path) -> None:
    begin()
    rug = put("Furry rug", box_mesh("rug", (1.5, 1.0, 0.1)), (0, 2.5, 0.1))
    hair(rug)


@odd
def particle_hair_with_children(folder: Path) -> None:
    begin()
    rug = put("Furry rug", box_mesh("rug", (1.5, 1.0, 0.1)), (0, 2.5, 0.1))
    rug.rotation_euler, rug.scale = Euler((0.3, 0.2, 0.5)), (1.2, 0.8, 1.0)
    settings = hair(rug, 12)
    settings.child_type, settings.rendered_child_count = "SIMPLE", 6
    settings.shape, settings.use_close_tip, settings.tip_radius = 0.4, True, 0.3
    settings.kink, settings.kink_amplitude = "WAVE", 0.1


@odd
def particle_hair_of_an_instance(folder: Path) -> None:
    begin()
    pets = loose("pets")
    pet = put("Pet", ball_mesh("pet"), into=pets)
    hair(pet, 40, 0.4)
    instancer("Pet one", pets, (-1.5, 2.5, 0.8))
    instancer("Pet two", pets, (1.0, 3.0, 0.8)).scale = (1.0, 1.0, 1.5)


@odd
def emitter_that_hides_behind_its_hair(folder: Path) -> None:
    begin()
    rug = put("Brush", box_mesh("brush", (1.5, 1.0, 0.1)), (0, 2.5, 0.1))
    hair(rug)
    rug.show_instancer_for_render = False


@odd
def point_cloud(folder: Path) -> None:
    begin()

    def build(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
        points = tree.nodes.new("GeometryNodeMeshToPoints")
        points.inputs["Radius"].default_value = 0.3
        tree.links.new(line_of_points(tree, 5, (-2.0, 3.0, 0.8), 1.0), points.inputs[0])
        return points.outputs[0]

    nodes_modifier(put("Beads", bpy.data.meshes.new("points")), build)


@odd
def hair_curves(folder: Path) -> None:
    begin()
    curves = bpy.data.hair_curves.new("strands")
    curves.add_curves([4] * 8)
    positions = [
        value
        for strand in range(8)
        for step in range(4)
        for value in (-1.4 + 0.4 * strand, 3.0 + 0.1 * step, 0.1 + 0.5 * step)
    ]
    curves.attributes["position"].data.foreach_set("vector", positions)
    radius = curves.attributes.new("radius", "FLOAT", "POINT")
    radius.data.foreach_set("value", [0.12, 0.1, 0.08, 0.02] * 8)
    curves.materials.append(paint("hair", (0.6, 0.2, 0.6)))
    put("Reeds", curves)


@odd
def curves_made_by_nodes(folder: Path) -> None:
    begin()

    def build(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
        circle = tree.nodes.new("GeometryNodeCurvePrimitiveCircle")
        circle.inputs["Radius"].default_value = 1.0
        move = tree.nodes.new("GeometryNodeTransform")
        move.inputs["Translation"].default_value = (0, 3, 1)
        move.inputs["Rotation"].default_value = (1.2, 0, 0)
        tree.links.new(circle.outputs[0], move.inputs[0])
        mesh = tree.nodes.new("GeometryNodeCurveToMesh")
        profile = tree.nodes.new("GeometryNodeCurvePrimitiveCircle")
        profile.inputs["Radius"].default_value = 0.1
        tree.links.new(move.outputs[0], mesh.inputs["Curve"])
        tree.links.new(profile.outputs[0], mesh.inputs["Profile Curve"])
        return mesh.outputs[0]

    nodes_modifier(put("Ring", bpy.data.meshes.new("ring")), build)


@odd
def flat_and_smooth_shading(folder: Path) -> None:
    begin()
    put("Facets", ball_mesh("facets", 0.8, 10), (-1.5, 2.5, 1.2))
    smooth = put("Smooth", ball_mesh("smooth", 0.8, 10), (1.5, 2.5, 1.2))
    smooth.data.shade_smooth()


@odd
def subdivided_and_faceted(folder: Path) -> None:
    begin()
    ball = put("Facets", box_mesh("facets", (1.4, 1.4, 1.4)), (-1.5, 2.5, 1.2))
    ball.modifiers.new("subdivide", "SUBSURF").render_levels = 2
    again = put("Facets again", ball.data, (1.5, 2.5, 1.2))
    again.modifiers.new("subdivide", "SUBSURF").render_levels = 1


@odd
def names_that_blender_proposes(folder: Path) -> None:
    begin()
    bpy.data.objects["Floor"].name = "Plane"
    bpy.data.objects["Crate"].name = "Cube.003"
    put("Icosphere", ball_mesh("ball"), (-1.5, 2.5, 0.7))
    put("SM_CoffeeTable_02", box_mesh("table", (1, 0.6, 0.4)), (0, 2.5, 0.4))
    put("Wall_N", box_mesh("wall", (14, 0.2, 3)), (0, 7, 1.5))


@odd
def missing_texture(folder: Path) -> None:
    begin()
    board = put("Board", box_mesh("board", (1, 0.1, 1)), (0, 2.5, 1))
    material = bpy.data.materials.new("wood")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(_picture(folder))
    node.image.filepath = str(folder / "textures" / "wood_not_there.png")
    material.node_tree.links.new(
        node.outputs["Color"],
        material.node_tree.nodes["Principled BSDF"].inputs["Base Color"],
    )
    board.data.materials[0] = material


def _picture(folder: Path) -> str:
    image = bpy.data.images.new("wood", 4, 4)
    image.filepath_raw, image.file_format = str(folder / "wood.png"), "PNG"
    image.save()
    bpy.data.images.remove(image)
    return str(folder / "wood.png")


@odd
def scatter_of_an_object(folder: Path) -> None:
    begin()
    models = loose("models")
    scatter("Scatter", put("Rock.001", ball_mesh("rock", 0.3), into=models))


@odd
def scatter_of_nameless_geometry(folder: Path) -> None:
    begin()

    def build(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
        cube = tree.nodes.new("GeometryNodeMeshCube")
        cube.inputs["Size"].default_value = (0.4, 0.4, 0.4)
        return on_points(tree, line_of_points(tree, 5, (-2, 3, 0.5), 1.0), cube.outputs[0])

    nodes_modifier(put("Stool", box_mesh("stool", (0.5, 0.5, 0.5)), (0, -3, 0.5)), build)


@odd
def scatter_of_scatters(folder: Path) -> None:
    begin()
    models = loose("models")
    bead = put("Bead", ball_mesh("bead", 0.15), into=models)
    string = put("String", bpy.data.meshes.new("string"), into=models)
    nodes_modifier(
        string,
        lambda tree: on_points(
            tree, line_of_points(tree, 3, (0, 0, 0), 0.4), of_object(tree, bead)
        ),
    )
    scatter("Strings", string, 2, 3.0)


@odd
def collection_instances_of_an_assembly(folder: Path) -> None:
    begin()
    chairs = loose("chairs")
    seat = put("Chair", box_mesh("seat", (0.6, 0.6, 0.1)), (0, 0, 0.5), chairs)
    back = put("Back", box_mesh("back", (0.6, 0.1, 0.6)), (0, 0.3, 0.3), chairs)
    back.parent = seat
    put("Pillow", ball_mesh("pillow", 0.15), (0, 0, 0.7), chairs)
    for number in range(3):
        one = instancer(f"Seat {number}", chairs, (-2.0 + 1.5 * number, 2.5, 0))
        one.rotation_euler = Euler((0, 0, 0.7 * number))


@odd
def nested_collection_instances(folder: Path) -> None:
    begin()
    cups, tables = loose("cups"), loose("tables")
    put("Cup", ball_mesh("cup", 0.15), into=cups)
    put("Table", box_mesh("table", (1.4, 0.8, 0.1)), (0, 0, 0.7), tables)
    for number in range(3):
        instancer(f"cup {number}", cups, (-0.5 + 0.5 * number, 0, 0.9), tables)
    instancer("Set one", tables, (-1.5, 2.5, 0))
    instancer("Set two", tables, (1.5, 3.0, 0)).rotation_euler = Euler((0, 0, 0.6))


@odd
def instances_on_faces(folder: Path) -> None:
    begin()
    frame = put("Frame", box_mesh("frame", (1.5, 1.5, 1.5)), (0, 3, 1.2))
    frame.instance_type = "FACES"
    knob = put("Knob", ball_mesh("knob", 0.25))
    knob.parent = frame


@odd
def particle_instances(folder: Path) -> None:
    begin()
    models = loose("models")
    put("Trunk", box_mesh("trunk", (0.1, 0.1, 0.6)), (0, 0, 0.3), models)
    put("Crown", ball_mesh("crown", 0.3), (0, 0, 0.7), models)
    lawn = put("Lawn", box_mesh("lawn", (4, 2, 0.1)), (0, 3, 0.05))
    settings = hair(lawn, 7, 1.0)
    settings.render_type, settings.instance_collection = "COLLECTION", models
    settings.use_whole_collection, settings.particle_size = True, 1.0
    settings.use_advanced_hair = True


@odd
def collections_left_out_of_the_view_layer(folder: Path) -> None:
    begin()
    put("Gone", ball_mesh("gone"), (0, 2.5, 1), collection("Excluded"))
    put("Here", ball_mesh("here"), (-1.5, 2.5, 1), collection("Shown"))
    layer_of(bpy.data.collections["Excluded"]).exclude = True
    bpy.data.objects["Crate"].hide_render = True


@odd
def text_curve_surface_and_metaballs(folder: Path) -> None:
    begin()
    text = bpy.data.curves.new("text", "FONT")
    text.body, text.extrude = "Hall", 0.1
    put("Sign", text, (-1.5, 3, 1.5)).rotation_euler = Euler((1.57, 0, 0))
    pipe = bpy.data.curves.new("pipe", "CURVE")
    pipe.dimensions, pipe.bevel_depth = "3D", 0.1
    pipe.splines.new("POLY").points.add(2)
    for point, at in zip(
        pipe.splines[0].points, ((1, 3, 0), (1.5, 3, 1), (2.5, 3, 1.5)), strict=True
    ):
        point.co = (*at, 1)
    put("Pipe", pipe)
    for number in range(2):
        blob = bpy.data.metaballs.new("blob")
        blob.elements.new().radius = 0.7
        put("Blob" if number == 0 else f"Blob.{number:03d}", blob, (-2.5 + 0.6 * number, 2, 0.5))


@odd
def deformed_by_armature_and_shape_keys(folder: Path) -> None:
    begin()
    armature = bpy.data.armatures.new("bones")
    rig = put("Rig", armature, (-1, 2.5, 0))
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.edit_bones.new("bone")
    bone.head, bone.tail = (0, 0, 0), (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    body = put("Body", box_mesh("body", (0.5, 0.5, 1.5)), (-1, 2.5, 0.75))
    body.vertex_groups.new(name="bone").add([1, 3, 5, 7], 1.0, "ADD")
    body.modifiers.new("armature", "ARMATURE").object = rig
    rig.pose.bones["bone"].rotation_mode = "XYZ"
    rig.pose.bones["bone"].rotation_euler = (0.0, 0.0, 0.6)
    rig.pose.bones["bone"].location = (0.5, 0, 0)
    face = put("Face", ball_mesh("face", 0.6), (1.2, 2.5, 1))
    face.shape_key_add(name="Basis")
    smile = face.shape_key_add(name="smile")
    for point in smile.data:
        point.co.x *= 1.8
    smile.value = 0.7


@odd
def materials_of_the_object(folder: Path) -> None:
    begin()
    shared = ball_mesh("shared", 0.5)
    for number in range(3):
        one = put(f"Ball {number}", shared, (-1.5 + 1.5 * number, 2.5, 1))
        one.material_slots[0].link = "OBJECT"
        one.material_slots[0].material = paint(f"own {number}", (number / 2, 0.5, 1 - number / 2))


@odd
def hidden_from_the_camera(folder: Path) -> None:
    begin()
    put("Ghost", ball_mesh("ghost", 0.6), (0, 2.0, 1)).visible_camera = False
    put("Behind", box_mesh("behind", (2, 0.2, 2)), (0, 3.5, 1))
    indirect = collection("Bounce")
    put("Bouncer", ball_mesh("bouncer", 0.5), (-2, 2, 1), indirect)
    layer_of(indirect).indirect_only = True
    props = loose("props")
    put("Pot", ball_mesh("pot", 0.5), into=props)
    instancer("Unseen pot", props, (2, 2, 2)).visible_camera = False


@odd
def holdout_and_shadow_catcher(folder: Path) -> None:
    begin()
    put("Hole", ball_mesh("hole", 0.5), (-1.2, 2.5, 1)).is_holdout = True
    put("Catcher", box_mesh("catcher", (2, 2, 0.1)), (1.5, 2.5, 0.2)).is_shadow_catcher = True
    put("Thing", ball_mesh("thing", 0.3), (1.5, 2.5, 0.6))


@odd
def mist_in_a_box(folder: Path) -> None:
    begin()
    mist = put("Mist", box_mesh("mist", (3, 3, 3)), (0, 3, 1.5))
    material = bpy.data.materials.new("mist")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.remove(tree.nodes["Principled BSDF"])
    scattering = tree.nodes.new("ShaderNodeVolumeScatter")
    scattering.inputs["Density"].default_value = 0.05
    tree.links.new(scattering.outputs[0], tree.nodes["Material Output"].inputs["Volume"])
    mist.data.materials[0] = material
    put("Within", ball_mesh("within", 0.5), (0, 3, 1))


@odd
def linked_collection_with_a_lamp(folder: Path) -> None:
    path = library(folder, "set", 0.7, ("Cube", "Lid"))
    begin()
    bpy.data.objects.remove(bpy.data.objects["Lamp"])
    instancer("Set", link(path, "collections", "Things"), (0, 2.5, 0.5))


@odd
def lamps_that_light_some_objects(folder: Path) -> None:
    begin()
    for number in range(3):
        put(f"Ball {number}", ball_mesh(f"ball {number}", 0.5), (-1.5 + 1.5 * number, 2.5, 1))
    only, never = loose("only"), loose("never")
    only.objects.link(bpy.data.objects["Ball 0"])
    never.objects.link(bpy.data.objects["Floor"])
    never.collection_objects[0].light_linking.link_state = "EXCLUDE"
    bpy.data.objects["Lamp"].light_linking.receiver_collection = only
    light = bpy.data.lights.new("Second", "POINT")
    light.energy = 100
    second = put("Second", light, (0.5, 0.5, 3.0))
    second.light_linking.receiver_collection = never
    second.light_linking.blocker_collection = only


@odd
def library_override(folder: Path) -> None:
    path = library(folder, "override", 0.7)
    begin()
    cube = link(path, "objects", "Cube")
    root().objects.link(cube)
    cube.override_create().location = (0, 2.5, 1)
    root().objects.unlink(cube)
    for obj in bpy.data.objects:
        if obj.override_library is not None and obj.name not in root().objects:
            root().objects.link(obj)


@odd
def mirrored_and_sheared(folder: Path) -> None:
    begin()
    frame = put("Frame", None, (0, 2.5, 1))
    frame.scale, frame.rotation_euler = (1.5, 0.5, 1.0), Euler((0.2, 0.4, 0.3))
    child = put("Sheared", box_mesh("sheared", (0.8, 0.8, 0.8)), (-1, 0, 0))
    child.parent, child.rotation_euler = frame, Euler((0.5, 0.6, 0.7))
    mirrored = put("Mirrored", ball_mesh("mirrored", 0.5), (1.5, 3, 1))
    mirrored.scale, mirrored.delta_location = (-1.0, 1.0, 1.4), (0.2, 0, 0.2)


@odd
def aimed_and_animated(folder: Path) -> None:
    begin()
    arrow = put("Arrow", box_mesh("arrow", (0.2, 1.5, 0.2)), (-1.5, 2.5, 1))
    aim = arrow.constraints.new("TRACK_TO")
    aim.target, aim.track_axis, aim.up_axis = bpy.data.objects["Crate"], "TRACK_Y", "UP_Z"
    mover = put("Mover", ball_mesh("mover"), (0, 3, 1))
    mover.keyframe_insert("location", frame=1)
    mover.location = (2, 3, 2)
    mover.keyframe_insert("location", frame=20)
    driver = mover.driver_add("scale", 2).driver
    driver.expression = "frame / 10"
    bpy.context.scene.frame_set(10)


@odd
def cut_by_a_hidden_object(folder: Path) -> None:
    begin()
    cutter = put("Cutter", ball_mesh("cutter", 0.7), (0, 2.0, 1.2))
    cutter.hide_render, cutter.display_type = True, "WIRE"
    wall = put("Wall", box_mesh("wall", (4, 0.3, 2.5)), (0, 2.5, 1.25))
    cut = wall.modifiers.new("cut", "BOOLEAN")
    cut.object, cut.operation, cut.solver = cutter, "DIFFERENCE", "EXACT"


@odd
def render_settings_of_another_trade(folder: Path) -> None:
    begin()
    put("Ball", ball_mesh("ball"), (0, 2.5, 1))
    scene = bpy.context.scene
    scene.render.engine = "BLENDER_EEVEE_NEXT"
    scene.render.use_simplify, scene.render.simplify_subdivision_render = True, 0
    scene.render.use_border, scene.render.border_max_x = True, 0.3
    scene.render.use_multiview = True
    scene.render.resolution_percentage = 25
    scene.use_nodes = True
    bpy.data.objects["Ball"].modifiers.new("smooth", "SUBSURF").render_levels = 2
    camera = put("Camera", bpy.data.cameras.new("Camera"), (0, 0, 1))
    scene.camera = camera


@odd
def two_view_layers(folder: Path) -> None:
    begin()
    put("Front", ball_mesh("front"), (-1, 2.5, 1), collection("Front"))
    put("Back", ball_mesh("back"), (1, 2.5, 1), collection("Back"))
    other = bpy.context.scene.view_layers.new("another")
    other.layer_collection.children["Front"].exclude = True
    layer_of(bpy.data.collections["Back"]).exclude = True


@odd
def names_of_all_kinds(folder: Path) -> None:
    begin()
    for number, name in enumerate(("Größe/Ü #1", "a [b]", "wall [x.blend]", "~", "Näme.001")):
        put(name, ball_mesh(name, 0.3), (-2.0 + number, 2.5, 1))
