"""Extensions of Blender, from the zip files that their site gives."""
