"""Blender's render depsgraph: what an engine is given to render, evaluated for rendering.

Blender evaluates a scene for the viewport or for a render. Only the second knows modifiers that
render only, collections hidden in the viewport, instancers that do not show, and the levels of a
render. Python gets it in one place: a render engine's `render`. So this is an engine that renders
nothing and shows the depsgraph to a function.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import bpy

Result = TypeVar("Result")
ENGINE = "PANOFORGE_VISIT"
_visits: list[Callable[[bpy.types.Depsgraph], None]] = []


class DepsgraphVisit(bpy.types.RenderEngine):
    """The engine: calls what waits, and makes no picture."""

    bl_idname = ENGINE
    bl_label = "panoforge: visit the render depsgraph"

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Called by Blender with the evaluated scene."""
        while _visits:
            _visits.pop()(depsgraph)


def visit_render_depsgraph(visit: Callable[[bpy.types.Depsgraph], Result]) -> Result:
    """What `visit` returns of the render depsgraph of the open scene; its exceptions are passed on.

    Evaluated data does not outlive the call: copy what is to be kept.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run(depsgraph: bpy.types.Depsgraph) -> None:
        try:
            results.append(visit(depsgraph))
        except BaseException as error:  # Blender would print it and go on
            errors.append(error)

    if not DepsgraphVisit.is_registered:
        bpy.utils.register_class(DepsgraphVisit)
    _visits[:] = [run]
    with _engine():
        bpy.ops.render.render()
    if errors:
        raise errors[0]
    return results[0]


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    """While this is open, a render of the scene is a visit. Puts back what it changes."""
    scene, undo = bpy.context.scene, list[tuple[Any, str, Any]]()
    changes: list[tuple[Any, dict[str, Any]]] = [
        (
            scene.render,
            {
                "engine": ENGINE,
                "resolution_x": 8,
                "resolution_y": 8,
                "resolution_percentage": 100,
                "use_compositing": False,
                "use_sequencer": False,
                "use_multiview": False,
                "use_border": False,
                "use_freestyle": False,
                "use_persistent_data": False,
                "use_lock_interface": False,
            },
        ),
        *[(layer, {"use": layer == bpy.context.view_layer}) for layer in scene.view_layers],
    ]
    camera = None
    if scene.camera is None:  # Blender renders nothing without one
        camera = bpy.data.objects.new("panoforge.visit", bpy.data.cameras.new("panoforge.visit"))
        scene.collection.objects.link(camera)
        changes.append((scene, {"camera": camera}))
    for owner, values in changes:
        for name, value in values.items():
            undo.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)
        if camera is not None:
            bpy.data.cameras.remove(camera.data)  # and the object that used it
