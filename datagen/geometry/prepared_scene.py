"""Prepare a scene for rendering: everything that renders, and nothing else, as plain objects.

Takes a `Scene` in the open Blender file. What renders is asked of Blender's render depsgraph. Each
of its parts becomes an object of its own in one flat collection: meshes, hair and point clouds
without modifiers, and the lights. All else leaves the scene. `pass_index` says to which thing an
object belongs. This is done once per scene: otherwise Blender evaluates modifiers and converts
instances anew for every view. Cycles writes the source object's index for every instance, so ten
scattered cups would share one id.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils import Matrix

from panoforge.datagen.defects import cap_subdivision
from panoforge.datagen.depsgraph.datablocks import check_distinct
from panoforge.datagen.depsgraph.instance_keys import PartKey, instance_keys
from panoforge.datagen.depsgraph.light_links import link_lights
from panoforge.datagen.depsgraph.parts import (
    CannotRealise,
    PartKind,
    ScenePart,
    holder,
    parts_of,
)
from panoforge.datagen.depsgraph.strands import Strands, curves_of, particle_strands
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.depsgraph.visit import visit_render_depsgraph
from panoforge.datagen.geometry.materials import is_volume_only
from panoforge.datagen.geometry.part_motion import (
    PartIdentity,
    PartMotion,
    motions_of,
    read_states,
    set_frame,
)
from panoforge.datagen.geometry.rendered_things import RenderedThing, some, thing_table
from panoforge.datagen.scene.scene import Scene

MAX_PASS_INDEX = 32767  # Blender clamps Object.pass_index here without a word
ANCHOR = "panoforge.anchor"  # the parent of objects whose matrix is sheared
SMOOTH_ANGLE = math.radians(40)
EXACT = 1e-6  # of a matrix's largest entry
NUMBER = "panoforge.thing"  # the property of an object that says which thing it is of, from 1
# What Cycles asks an object for, beside its geometry. Of an instance: of its own object and of its
# instancer, and a ray must be welcome to both.
RAYS = ("camera", "diffuse", "glossy", "transmission", "volume_scatter", "shadow")
SAME_IN_CYCLES = ("shadow_terminator_offset", "shadow_terminator_geometry_offset")


@dataclass(frozen=True)
class PreparedScene:
    """What was made of a scene.

    Args:
        things: thing k (from 1) is `things[k - 1]`.
        scatters: each scatter as one thing, by the key that its members carry.
        volumes: whether light scatters or dims between surfaces.
        notes: what renders and is no thing, or differs from the file.
        objects: the name of the object that each part became.
        motions: what the file's animation does to each part, where it is played.
    """

    things: tuple[RenderedThing, ...]
    scatters: dict[str, RenderedThing]
    volumes: bool
    notes: tuple[str, ...]
    objects: dict[PartIdentity, str] = field(default_factory=dict, repr=False)
    motions: dict[PartIdentity, PartMotion] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Piece:
    """A part of the scene, copied out of the depsgraph."""

    key: PartKey
    kind: PartKind
    data: bpy.types.ID | Strands | None
    materials: tuple[bpy.types.Material | None, ...]
    matrix: Matrix
    look: dict[str, object]
    original: bpy.types.Object

    @property
    def identity(self) -> PartIdentity:
        """What it is called in every frame."""
        return (self.kind, self.key.owner, self.key.source, self.key.ids)


def prepare(scene: Scene, subdivision_cap: int, frames: Sequence[float] = ()) -> PreparedScene:
    """Realise what renders and number its things. CannotRealise for what can be given no id.

    `frames` are those of the file's animation that will be rendered; none: as the file stands.
    """
    check_distinct()
    capped = cap_subdivision(bpy.data.objects, subdivision_cap)
    owners = {key for thing in scene.things for key in thing.objects}
    wanted = owners if scene.rest == "hide" else None
    pieces, helpers, motions = _read_all(wanted, capped, frames)
    if scene.rest == "each" and bpy.app.autoexec_fail:
        raise CannotRealise(
            f"the file needs scripts to look as it does ({bpy.app.autoexec_fail_message}), and"
            " files from others run none: bake or remove these drivers and save it again"
        )
    keys = instance_keys([piece.key for piece in pieces])
    surfaces = [
        key
        for key, piece in zip(keys, pieces, strict=True)
        if piece.kind not in ("light", "volume")
    ]
    table = thing_table(scene, surfaces)
    flat = bpy.data.collections.new("panoforge")
    made, placed = _Made(), list[tuple[bpy.types.Object, bpy.types.Object]]()
    objects: dict[PartIdentity, str] = {}
    for key, piece in zip(keys, pieces, strict=True):
        flat_object = made.object_of(piece)
        if flat_object is None:
            continue
        flat.objects.link(flat_object)
        objects[piece.identity] = flat_object.name
        placed.append((flat_object, piece.original))
        if piece.kind not in ("light", "volume"):
            flat_object[NUMBER] = table.number[key]
    link_lights(placed)
    _leave_only(flat)
    set_indices(digit=0)
    return PreparedScene(
        table.things,
        table.scatters(),
        bool(_volumes()) or world_volume() is not None,
        _notes(pieces, helpers, capped, scene),
        objects,
        motions,
    )


def _read_all(
    wanted: set[str] | None, capped: set[str], frames: Sequence[float]
) -> tuple[list[_Piece], tuple[str, ...], dict[PartIdentity, PartMotion]]:
    """The parts of all frames, the owners of the rest, and what becomes of the parts."""
    pieces: list[_Piece] = []
    helpers: dict[str, None] = {}
    states, known = [], set[PartIdentity]()
    for frame in frames or (None,):
        if frame is not None:
            set_frame(frame)
            states.append(read_states())
            if known.issuperset(states[-1]):
                continue
        found, others = visit_render_depsgraph(lambda depsgraph: _read(depsgraph, wanted, capped))
        pieces += [piece for piece in found if piece.identity not in known]
        known.update(piece.identity for piece in found)
        helpers |= dict.fromkeys(others)
    if not frames:
        return pieces, tuple(helpers), {}
    set_frame(frames[0])
    return pieces, tuple(helpers), motions_of(states)


def _read(
    depsgraph: bpy.types.Depsgraph, wanted: set[str] | None, capped: set[str]
) -> tuple[list[_Piece], tuple[str, ...]]:
    """The parts of the scene whose owners are wanted, and lights; and the owners of the rest."""
    copies: dict[object, bpy.types.ID | Strands | None] = {}
    looks: dict[tuple[str, str], dict[str, object]] = {}
    pieces, helpers = [], dict[str, None]()
    for part in parts_of(depsgraph):
        key, obj = part.key, part.instance.object
        seen = part.kind not in ("light", "volume")
        if seen and wanted is not None and key.owner not in wanted:
            helpers[key.owner] = None
            continue
        materials = tuple(
            slot.material.original if slot.material else None for slot in obj.material_slots
        )
        share = (part.kind, *_share_key(part), *[m.as_pointer() if m else 0 for m in materials])
        if share not in copies:
            copies[share] = _copy(part, key.source in capped)
        if (key.owner, key.source) not in looks:
            looks[key.owner, key.source] = _look(part)
        pieces.append(
            _Piece(
                key,
                part.kind,
                copies[share],
                materials,
                part.instance.matrix_world.copy(),
                looks[key.owner, key.source],
                obj.original,
            )
        )
    return pieces, tuple(helpers)


def _share_key(part: ScenePart) -> tuple[object, ...]:
    """Equal for parts whose evaluated data are equal for certain.

    The same evaluated data, or the same original data with only plain subdivision on top.
    """
    obj = part.instance.object
    original = part.instance.instance_object.original if part.key.ids else obj.original
    plain = all(modifier.type == "SUBSURF" for modifier in original.modifiers)
    is_own_data = obj.data.original == original.data
    if part.kind != "mesh" or not plain or not is_own_data or original.type != "MESH":
        return (part.key.data,)
    if original.data.shape_keys or not original.modifiers:
        return (part.key.data,)
    fields = (
        "render_levels",
        "subdivision_type",
        "uv_smooth",
        "boundary_smooth",
        "use_creases",
        "use_limit_surface",
        "use_custom_normals",
        "quality",
        "show_render",
    )
    levels = tuple(
        tuple(getattr(modifier, field) for field in fields) for modifier in original.modifiers
    )
    return original.data.as_pointer(), levels


def _copy(part: ScenePart, smooth: bool) -> bpy.types.ID | Strands | None:
    obj = part.instance.object
    if part.kind == "light":
        return obj.data.original
    if part.kind == "hair":
        return particle_strands(part.instance.instance_object if part.key.ids else obj)
    data = obj.data.copy()
    if smooth and part.kind == "mesh":
        _shade(data)
    return data


def _shade(mesh: bpy.types.Mesh) -> None:
    """Smooth shading except over edges sharper than SMOOTH_ANGLE.

    Capped subdivision needs it to look round.
    """
    mesh.shade_smooth()
    mesh.set_sharp_from_angle(angle=SMOOTH_ANGLE)


def _look(part: ScenePart) -> dict[str, object]:
    """How rays see the part, as Cycles makes it of the object and of what instances it."""
    obj, parent = part.instance.object, holder(part.instance)
    look: dict[str, object] = {
        f"visible_{ray}": getattr(obj, f"visible_{ray}") and getattr(parent, f"visible_{ray}")
        for ray in RAYS
    }
    look["visible_camera"] = part.visible_to_camera
    look["is_holdout"] = part.is_holdout
    look["color"] = tuple(obj.color)
    look["is_shadow_catcher"] = obj.is_shadow_catcher
    for name in SAME_IN_CYCLES:
        look[f"cycles.{name}"] = getattr(obj.cycles, name)
    return look


class _Made:
    """The objects of the flat scene, and the data that they share."""

    def __init__(self) -> None:
        self._dressed: dict[int, bpy.types.ID | None] = {}
        self._anchor: bpy.types.Object | None = None

    def object_of(self, piece: _Piece) -> bpy.types.Object | None:
        """The piece as an object; a light that is no instance is that very object."""
        if piece.kind == "light" and not piece.key.ids:
            return piece.original
        data = self._data(piece)
        if data is None:
            return None
        name = piece.original.name
        obj = bpy.data.objects.new(name, data)
        if not piece.key.ids and piece.kind != "hair" and piece.original.library is None:
            piece.original.name = f"{name}~"  # Object Info's Random hashes the name
            obj.name = name
        self._place(obj, piece.matrix)
        for attribute, value in piece.look.items():
            owner = obj.cycles if attribute.startswith("cycles.") else obj
            setattr(owner, attribute.removeprefix("cycles."), value)
        for name, value in piece.original.items():  # what an Attribute node reads of an object
            if isinstance(value, (int, float)) or hasattr(value, "to_list"):
                obj[name] = value
        return obj

    def _place(self, obj: bpy.types.Object, matrix: Matrix) -> None:
        """Location, rotation and scale hold no shear, which a scaled parent gives.

        An inverse of a parent does.
        """
        plain = Matrix.LocRotScale(*matrix.decompose())
        if np.allclose(plain, matrix, rtol=0, atol=EXACT * np.abs(matrix).max()):
            obj.matrix_world = matrix
            return
        if self._anchor is None:
            self._anchor = bpy.data.objects.new(ANCHOR, None)
        obj.parent = self._anchor
        place_object(obj, matrix)

    def _data(self, piece: _Piece) -> bpy.types.ID | None:
        if piece.kind == "light" or piece.data is None:
            return piece.data
        if id(piece.data) not in self._dressed:
            data = piece.data
            if isinstance(data, Strands):
                data = curves_of(data, piece.original.name)
            data.animation_data_clear()
            for slot, material in enumerate(piece.materials):
                if slot < len(data.materials):
                    data.materials[slot] = material
                else:
                    data.materials.append(material)
            self._dressed[id(piece.data)] = data
        return self._dressed[id(piece.data)]


def place_object(obj: bpy.types.Object, matrix: Matrix) -> None:
    """Put an object of a prepared scene somewhere else, by its matrix in the world.

    One that is sheared hangs from the anchor, for which `prepare` says why.
    """
    if obj.parent is not None and obj.parent.name == ANCHOR:
        obj.matrix_parent_inverse = matrix
    else:
        obj.matrix_world = matrix


def _leave_only(flat: bpy.types.Collection) -> None:
    """The scene holds `flat` and nothing else."""
    root = bpy.context.scene.collection
    for child in list(root.children):
        root.children.unlink(child)
    for obj in list(root.objects):
        root.objects.unlink(obj)
    root.children.link(flat)
    bpy.context.view_layer.update()


def _notes(
    pieces: Sequence[_Piece], helpers: Sequence[str], capped: set[str], scene: Scene
) -> tuple[str, ...]:
    """What renders and has no id, and what differs from the file."""

    def owners(found: Iterable[_Piece]) -> list[str]:
        return sorted({piece.key.owner for piece in found})

    volumes = owners(piece for piece in pieces if piece.kind == "volume")
    solid = [piece for piece in pieces if piece.kind not in ("light", "volume")]
    unseen = owners(piece for piece in solid if not piece.look["visible_camera"])
    holes = owners(piece for piece in solid if piece.look["is_holdout"])
    notes = []
    if helpers:
        notes.append(f"left out, as helpers of the generator: {some(helpers)}")
    if volumes:
        notes.append(f"volumes, which have no surface and no id: {some(volumes)}")
    if unseen:
        notes.append(f"hidden from the camera, so without an id: {some(unseen)}")
    if holes:
        notes.append(f"holdouts, which show nothing, so without an id: {some(holes)}")
    if capped and scene.rest == "each":
        notes.append(f"subdivided less than in the file (subdivision_cap): {some(sorted(capped))}")
    if (unit := metres_per_unit()) != 1:
        notes.append(f"one unit of the file is {unit:g} m")
    return tuple(notes)


def numbered_objects() -> dict[int, list[bpy.types.Object]]:
    """The objects of a prepared scene by the number of their thing, in the order of their names."""
    found: dict[int, list[bpy.types.Object]] = {}
    for obj in sorted(bpy.context.scene.objects, key=lambda obj: obj.name):
        if (number := obj.get(NUMBER)) is not None:
            found.setdefault(number, []).append(obj)
    return found


def _volumes() -> list[bpy.types.Object]:
    """The objects of the prepared scene that are volumes and have no surface."""

    def is_volume(obj: bpy.types.Object) -> bool:
        if obj.type == "VOLUME":
            return True
        materials = obj.data.materials if obj.type == "MESH" else ()
        return bool(materials) and all(is_volume_only(material) for material in materials)

    return [obj for obj in bpy.context.scene.objects if is_volume(obj)]


def world_volume() -> bpy.types.NodeLink | None:
    """What fills the whole scene, if anything does."""
    world = bpy.context.scene.world
    if world is None or not world.use_nodes or world.node_tree is None:
        return None
    outputs = [node for node in world.node_tree.nodes if node.type == "OUTPUT_WORLD"]
    links = [link for node in outputs for link in node.inputs["Volume"].links]
    return links[0] if links else None


@contextlib.contextmanager
def without_volumes() -> Iterator[None]:
    """While this is open, nothing scatters light between surfaces."""
    volumes, link = _volumes(), world_volume()
    undo = None if link is None else (link.from_socket, link.to_socket)
    for obj in volumes:
        obj.hide_render = True
    if link is not None:
        bpy.context.scene.world.node_tree.links.remove(link)
    try:
        yield
    finally:
        for obj in volumes:
            obj.hide_render = False
        if undo is not None:
            bpy.context.scene.world.node_tree.links.new(*undo)


def set_indices(digit: int) -> None:
    """Give every object a digit of its thing's number, in base MAX_PASS_INDEX + 1, as pass index.

    Digit 0 is the whole number, as long as a pass index can hold it.
    """
    base = MAX_PASS_INDEX + 1
    for number, objects in numbered_objects().items():
        for obj in objects:
            obj.pass_index = number // base**digit % base


@contextlib.contextmanager
def second_digit() -> Iterator[None]:
    """While this is open, objects carry the second digit."""
    set_indices(digit=1)
    try:
        yield
    finally:
        set_indices(digit=0)
