"""The parts of a scene that render: every object and instance that Cycles would take, and what of.

Follows Cycles' own reading of the render depsgraph (intern/cycles/blender/object.cpp and
curves.cpp, Blender 4.2). Meshes, hair curves, point clouds and volumes are geometry. An object may
show itself, its particle hair, or neither. A curve, text or metaball comes as a mesh.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import bpy

from panoforge.core.errors import UserError
from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.depsgraph.instance_keys import PartKey

UNUSED_ID = 2**31 - 1
PartKind = Literal["mesh", "curves", "points", "hair", "volume", "light"]
# What another engine draws over the picture of Cycles, or takes from a modifier that realising
# would take away: it would be missing from the picture, or be there without an id.
GREASE_PENCIL = ("GPENCIL", "GREASEPENCIL")


class CannotRealise(UserError):
    """An object renders, and cannot be given an id."""


@dataclass(frozen=True)
class ScenePart:
    """One part, valid while its depsgraph is iterated over."""

    key: PartKey
    kind: PartKind
    instance: bpy.types.DepsgraphObjectInstance

    @property
    def visible_to_camera(self) -> bool:
        """Whether a camera's ray can meet it."""
        obj, parent = self.instance.object, holder(self.instance)
        if not (obj.visible_camera and parent.visible_camera):
            return False
        return not parent.original.indirect_only_get(view_layer=bpy.context.view_layer)

    @property
    def is_holdout(self) -> bool:
        """Whether it shows nothing, and nothing behind it either."""
        parent = holder(self.instance).original
        layer = bpy.context.view_layer
        return self.instance.object.is_holdout or parent.holdout_get(view_layer=layer)


def holder(instance: bpy.types.DepsgraphObjectInstance) -> bpy.types.Object:
    """The object of the scene that an instance belongs to; the object itself where it is none."""
    return instance.parent if instance.is_instance else instance.object


def parts_of(depsgraph: bpy.types.Depsgraph) -> Iterator[ScenePart]:
    """Everything that Cycles renders, in Blender's order.

    CannotRealise for what it does not, or what cannot be kept.
    """
    roots: dict[tuple[str, str], str] = {}
    for instance in depsgraph.object_instances:
        obj = instance.object
        if obj.data is None:
            continue
        source = key_of(instance.instance_object if instance.is_instance else obj)
        ids = [i for i in instance.persistent_id if i != UNUSED_ID] if instance.is_instance else []
        owner = key_of(holder(instance))
        if (owner, source) not in roots:
            roots[owner, source] = key_of(_root(obj.original, holder(instance).original))
        key = PartKey(owner, source, roots[owner, source], tuple(ids), obj.data.as_pointer())
        if instance.show_self and (kind := _kind(obj)):
            yield ScenePart(key, kind, instance)
        if instance.show_particles and hair_systems(obj):
            yield ScenePart(key, "hair", instance)


def _kind(obj: bpy.types.Object) -> PartKind | None:
    if obj.type in GREASE_PENCIL:
        raise CannotRealise(
            f"{key_of(obj)!r} is a grease pencil drawing: Cycles does not render it, so it would be"
            " missing from the picture. Convert it to a mesh, or hide it from renders"
        )
    by_type: dict[str, PartKind] = {
        "CURVES": "curves",
        "POINTCLOUD": "points",
        "VOLUME": "volume",
        "LIGHT": "light",
    }
    if obj.type in by_type:
        return by_type[obj.type]
    if not isinstance(obj.data, bpy.types.Mesh):
        return None
    for modifier in obj.modifiers:
        if (
            modifier.type == "FLUID"
            and modifier.show_render
            and modifier.fluid_type == "DOMAIN"
            and modifier.domain_settings.domain_type == "GAS"
        ):
            raise CannotRealise(
                f"{key_of(obj)!r} is the domain of a smoke simulation, which lives in its modifier."
                " Convert it to a volume (Import OpenVDB), or hide it from renders"
            )
    return "mesh" if len(obj.data.polygons) else None


def hair_systems(obj: bpy.types.Object) -> list[bpy.types.ParticleSystem]:
    """The particle systems of an evaluated object that Cycles renders as hair."""
    return [
        modifier.particle_system
        for modifier in obj.modifiers
        if modifier.type == "PARTICLE_SYSTEM"
        and modifier.show_render
        and modifier.particle_system.settings.type == "HAIR"
        and modifier.particle_system.settings.render_type == "PATH"
    ]


def _root(obj: bpy.types.Object, owner: bpy.types.Object) -> bpy.types.Object:
    """The topmost parent that is in a collection of the object's own, below its instancer."""
    while obj.parent not in (None, owner) and (
        set(obj.parent.users_collection) & set(obj.users_collection)
    ):
        obj = obj.parent
    return obj
