"""Maps of a panorama as colours for people: depth, normals, motion, and shares of any kind."""

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import row_lat
from panoforge.core.report.pictures import NOTHING_RGB
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, Flow
from panoforge.core.types import Depth, Normals, Rgb

NEAR_M = 0.3
NO_NORMAL = 128
STRONGEST = 98.0  # the percentile of motion that is as strong as colours get


def depth_colours(depth_m: Depth, far_m: float) -> Rgb:
    """Near bright, far dark, on a logarithmic scale from 0.3 m to `far_m`; sky and unknown grey."""
    known = np.isfinite(depth_m)
    shown = np.clip(np.where(known, depth_m, far_m), NEAR_M, far_m)
    place = np.log(shown / NEAR_M) / np.log(max(far_m, 0.4) / NEAR_M)
    return share_colours(1 - place, known, "magma")


def normal_colours(normal: Normals) -> Rgb:
    """Normals as colours: right, forward and up are red, green and blue; grey is none."""
    there = (normal != 0).any(axis=-1, keepdims=True)
    return np.where(there, np.rint((normal + 1) * 127.5), NO_NORMAL).astype(np.uint8)


def flow_colours(flow: Flow) -> Rgb:
    """Motion over the sphere as colours: its direction is the hue, its angle the strength.

    White stands still. Columns count as what they are wide there, or poles would outshine all.
    Where a point is hidden in the other frame the colour is darker; dark grey is unknown.
    """
    known = flow.state != UNKNOWN
    move = np.where(known[..., None], flow.displacement_px, 0).astype(np.float64)
    height = len(move)
    move[..., 0] *= np.cos(row_lat(np.arange(height), height))[:, None]
    length = np.hypot(move[..., 0], move[..., 1])
    strongest = np.percentile(length[known], STRONGEST) if known.any() else 1.0
    strength = np.sqrt(np.clip(length / max(strongest, 1e-6), 0, 1))[..., None]
    turn = np.arctan2(move[..., 1], move[..., 0]) / (2 * np.pi) % 1
    out = 255 * (1 - strength) + strength * share_colours(turn, known, "hsv")
    out[flow.state == HIDDEN] *= 0.55
    out[~known] = NOTHING_RGB
    return np.rint(out).astype(np.uint8)


def share_colours(share: NDArray, known: NDArray[np.bool_], name: str) -> Rgb:
    """Shares H×W through a colour map of matplotlib's; what is not known is dark."""
    colours = (mpl.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    found = colours[np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)]
    found[~known] = NOTHING_RGB
    return found
