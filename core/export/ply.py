"""A point cloud as PLY: what Blender, MeshLab, CloudCompare and every point library open.

Binary, little endian, one element `vertex`: x y z, and where given nx ny nz, red green blue, and
`label`, an integer. The form: Greg Turk's "The PLY Polygon File Format".
"""

import numpy as np
from numpy.typing import NDArray

from panoforge.core.types import Floats

_Field = tuple[str, str]  # name, numpy type
_PLY_OF = {"<f4": "float", "u1": "uchar", "<i4": "int"}


def ply_bytes(
    position_m: Floats,
    *,
    normal: NDArray[np.floating] | None = None,
    colour: NDArray[np.uint8] | None = None,
    label: NDArray[np.integer] | None = None,
    comments: tuple[str, ...] = (),
) -> bytes:
    """The file of N points.

    Args:
        position_m: Metres, (N, 3).
        normal: Unit vectors, (N, 3).
        colour: sRGB, uint8 (N, 3).
        label: An integer for each, (N,).
        comments: Lines of the header; what is not ASCII becomes a question mark.
    """
    parts: list[tuple[tuple[_Field, ...], NDArray]] = [
        ((("x", "<f4"), ("y", "<f4"), ("z", "<f4")), position_m)
    ]
    if normal is not None:
        parts.append(((("nx", "<f4"), ("ny", "<f4"), ("nz", "<f4")), normal))
    if colour is not None:
        parts.append(((("red", "u1"), ("green", "u1"), ("blue", "u1")), colour))
    if label is not None:
        parts.append(((("label", "<i4"),), label[:, None]))
    fields = [field for names, _ in parts for field in names]
    table = np.empty(len(position_m), fields)
    for names, values in parts:
        for k, (name, _) in enumerate(names):
            table[name] = values[:, k]
    plain = [comment.encode("ascii", "replace").decode().replace("\n", " ") for comment in comments]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in plain),
        f"element vertex {len(table)}",
        *(f"property {_PLY_OF[kind]} {name}" for name, kind in fields),
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode() + table.tobytes()
