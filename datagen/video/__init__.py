"""Videos: how cameras and things move through a scene, what pixels do then, and rendering them.

Poses of a video are planned before its first frame is rendered. Everything about a path is a
function of the scene's seed and the video's number.
"""
