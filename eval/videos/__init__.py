"""Video benchmarks: objects, boxes and tracks through frames, their scores and report."""
