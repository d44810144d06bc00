"""What a render run is asked for, read and checked before any scene is made. Imports no bpy."""
