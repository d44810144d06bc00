"""Dense tasks: semantics, depth and normals of a panorama, predicted, scored and shown."""
