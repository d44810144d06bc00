"""What Blender renders, asked of Blender: its render depsgraph, read part by part."""
