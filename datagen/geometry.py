"""Prepare a scene for rendering: capped subdivision, realised geometry, one index per thing.

Takes a `Scene` in the open Blender file. Afterwards every renderable object is a plain mesh without
modifiers, instances are objects of their own, and `pass_index` says to which thing an object
belongs. This is done once per scene: otherwise Blender evaluates modifiers and converts instances
anew for every view. Cycles writes the source object's index for every instance, so ten scattered
cups would share one id.
"""

import math
from collections.abc import Iterable, Sequence

import bpy
from mathutils import Matrix

from panoforge.core.errors import UserError
from panoforge.datagen.defects import cap_subdivision
from panoforge.datagen.scene import Thing

MAX_PASS_INDEX = 32767  # Blender clamps Object.pass_index here without a word
SMOOTH_ANGLE = math.radians(40)
RENDERABLE = ("MESH", "CURVE", "SURFACE", "META", "FONT")


class TooManyThings(UserError):
    """More things than the Object Index pass can tell apart."""


def prepare(things: Sequence[Thing], subdivision_cap: int) -> None:
    """Realise the geometry of `things` and give thing k (from 0) the pass index k + 1, on all its
    objects.
    """
    check_count(len(things))
    owner = {name: index for index, thing in enumerate(things, start=1) for name in thing.objects}
    for obj in bpy.data.objects:  # a file from outside may bring indices of its own
        obj.pass_index = 0
    objects = [bpy.data.objects[name] for name in owner]
    for obj in objects:  # what is hidden in the viewport renders all the same, and is not evaluated
        obj.hide_viewport = False
    cap_subdivision(objects, subdivision_cap)
    _realise_instances(owner)
    _realise_meshes(owner)


def check_count(count: int) -> None:
    """Raise TooManyThings when ids would collide."""
    if count > MAX_PASS_INDEX:
        raise TooManyThings(
            f"the scene has {count} objects to tell apart, at most {MAX_PASS_INDEX} are possible:"
            " Blender's Object Index pass ends there and would silently give the rest one shared"
            " id. Join or delete objects, or render the scene in parts."
        )


def _realise_instances(owner: dict[str, int]) -> None:
    """Make every instance (collection instances, geometry nodes) an object of its own; it belongs
    to its instancer.
    """
    depsgraph = bpy.context.evaluated_depsgraph_get()
    found: list[tuple[bpy.types.Object, Matrix, int]] = []
    for instance in depsgraph.object_instances:
        if (
            not instance.is_instance
            or instance.object.type not in RENDERABLE
            or instance.parent is None
        ):
            continue
        index = owner.get(instance.parent.original.name)
        if index is not None:
            found.append((instance.object.original, instance.matrix_world.copy(), index))
    meshes: dict[str, bpy.types.Mesh] = {}
    for number, (source, matrix, index) in enumerate(found):
        if source.name not in meshes:
            meshes[source.name] = bpy.data.meshes.new_from_object(
                source.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
            )
        real = bpy.data.objects.new(f"instance.{number:05d}", meshes[source.name])
        real.matrix_world = matrix
        bpy.context.scene.collection.objects.link(real)
        owner[real.name] = index
    for name in list(owner):
        if bpy.data.objects[name].instance_type != "NONE":
            bpy.data.objects[name].instance_type = "NONE"


def _realise_meshes(owner: dict[str, int]) -> None:
    """Replace every object's data by its evaluated mesh. Objects that shared data and modifiers go
    on sharing, which keeps one BVH for all of them in Cycles.
    """
    depsgraph = bpy.context.evaluated_depsgraph_get()
    realised: dict[object, bpy.types.Mesh] = {}
    work = []
    for name, index in sorted(owner.items()):
        obj = bpy.data.objects[name]
        if obj.type in RENDERABLE:
            key = _share_key(obj)
            if key not in realised:
                mesh = bpy.data.meshes.new_from_object(
                    obj.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
                )
                _shade(mesh)
                realised[key] = mesh
            work.append((obj, realised[key], index))
    for (
        obj,
        mesh,
        index,
    ) in work:  # only now: the first change would make the evaluated depsgraph stale
        _replace_data(obj, mesh).pass_index = index


def _share_key(obj: bpy.types.Object) -> object:
    """Equal for objects whose evaluated meshes are equal for certain: same data, only plain
    subdivision on top.
    """
    if (
        obj.type != "MESH"
        or obj.data.shape_keys
        or any(modifier.type != "SUBSURF" for modifier in obj.modifiers)
    ):
        return obj.name
    if any(slot.link == "OBJECT" for slot in obj.material_slots):
        return obj.name
    fields = (
        "levels",
        "subdivision_type",
        "uv_smooth",
        "boundary_smooth",
        "use_creases",
        "quality",
        "show_viewport",
    )
    return obj.data.name, tuple(
        tuple(getattr(modifier, field) for field in fields) for modifier in obj.modifiers
    )


def _shade(mesh: bpy.types.Mesh) -> None:
    """Smooth shading except over edges sharper than SMOOTH_ANGLE, which is what capped subdivision
    needs to look round.
    """
    mesh.shade_smooth()
    mesh.set_sharp_from_angle(angle=SMOOTH_ANGLE)


def _replace_data(obj: bpy.types.Object, mesh: bpy.types.Mesh) -> bpy.types.Object:
    if obj.type == "MESH":
        obj.modifiers.clear()
        obj.data = mesh
        return obj
    name, matrix, parent_collections = obj.name, obj.matrix_world.copy(), list(obj.users_collection)
    bpy.data.objects.remove(obj)
    real = bpy.data.objects.new(name, mesh)
    real.matrix_world = matrix
    for collection in parent_collections:
        collection.objects.link(real)
    return real


def indexed_objects() -> dict[int, list[bpy.types.Object]]:
    """The mesh objects that render, by pass index, in the order of their names."""
    found: dict[int, list[bpy.types.Object]] = {}
    for obj in sorted(bpy.context.scene.objects, key=lambda obj: obj.name):
        if obj.type == "MESH" and obj.pass_index and not obj.hide_render and len(obj.data.polygons):
            found.setdefault(obj.pass_index, []).append(obj)
    return found


def hide_all_but(things: Iterable[Thing]) -> None:
    """Nothing that carries no index may render: what no thing owns is hidden, lights and cameras
    aside.
    """
    for obj in bpy.context.scene.objects:
        if obj.type in RENDERABLE and not obj.pass_index:
            obj.hide_render = True
