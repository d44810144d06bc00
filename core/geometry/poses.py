"""How a panorama stands in the world: the rotation that yaw, pitch and roll mean."""

import numpy as np
from numpy.typing import NDArray


def world_from_pano(
    yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> NDArray[np.float64]:
    """3×3 rotation from the panorama frame (x right, y forward, z up) to the world.

    Roll (right side down) about forward, then pitch (up) about right, then yaw (clockwise from
    above) about up.
    """
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    cos, sin = np.cos, np.sin
    about_up = np.array([[cos(yaw), sin(yaw), 0], [-sin(yaw), cos(yaw), 0], [0, 0, 1]])
    about_right = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    about_forward = np.array([[cos(roll), 0, sin(roll)], [0, 1, 0], [-sin(roll), 0, cos(roll)]])
    return about_up @ about_right @ about_forward
