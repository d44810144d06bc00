"""The unit of the open scene: everything outside Blender is in metres."""

import bpy


def metres_per_unit() -> float:
    """Length of one Blender unit.

    A file that is modelled in centimetres says 0.01; one without units is taken in metres.
    """
    settings = bpy.context.scene.unit_settings
    return 1.0 if settings.system == "NONE" else float(settings.scale_length)
