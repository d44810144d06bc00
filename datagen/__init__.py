"""Scene → accepted panoramas; the only package that imports bpy and Infinigen."""
