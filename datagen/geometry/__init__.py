"""A scene's things as Blender renders them: plain objects, triangles, what each is in space."""
