"""Numbers of every pixel that others wrote: .npy, .exr, and PNGs of 8 or 16 bits, as they are.

Sizes are asked before anything is allocated, nothing is unpickled. OpenEXR files need the package
of that name, which panoforge[datagen] brings.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.foreign.pictures import MAX_PIXELS, read_image

PLANE_SUFFIXES = (".npy", ".exr", ".png")
MAX_PLANE_BYTES = 3 * 4 * MAX_PIXELS
_KINDS = "fiu"  # floats, integers, unsigned


def read_plane(path: Path, channels: int = 0) -> NDArray:
    """The numbers of a file, H×W, or H×W×`channels` in the order of the file (RGB for colours).

    A PNG keeps its integers, uint8 or uint16; colours have 8 bits. Floats come as they are stored.

    Raises:
        DataError: it is none of `PLANE_SUFFIXES`, damaged, of another shape, or over the caps.
        UsageError: it is an .exr and OpenEXR is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        found: NDArray = read_image(path) if channels else read_labels(path)
    elif suffix == ".npy":
        found = _npy(path)
    elif suffix == ".exr":
        found = _exr(path, channels)
    else:
        raise DataError(
            f"{path}: expected one of {', '.join(PLANE_SUFFIXES)}, got {suffix or 'no suffix'}:"
            " save it as one of these"
        )
    expected = 2 if not channels else 3
    if found.ndim != expected or (channels and found.shape[2] != channels):
        form = f"H×W×{channels}" if channels else "H×W"
        raise DataError(f"{path}: expected {form}, got {'×'.join(map(str, found.shape))}")
    return found


def _npy(path: Path) -> NDArray:
    data = read_bytes(path, MAX_PLANE_BYTES)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(stream)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} is no .npy array ({str(error)[:80]}): write it with numpy.save"
        ) from None
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise DataError(f"{path}: expected numbers, got {dtype}")
    pixels, claimed = int(np.prod(shape[:2], dtype=object)), int(np.prod(shape, dtype=object))
    if not 0 < pixels <= MAX_PIXELS or claimed * dtype.itemsize != len(data) - stream.tell():
        raise DataError(
            f"{path} claims {'×'.join(map(str, shape))} of {dtype}, and holds"
            f" {len(data) - stream.tell()} bytes: it is truncated, or over the cap of"
            f" {MAX_PIXELS} pixels: write it again, H×W or H×W×3"
        )
    stream.seek(0)
    found: NDArray = np.load(stream, allow_pickle=False)
    return found


def _exr(path: Path, channels: int) -> NDArray:
    try:
        import OpenEXR
    except ImportError:
        raise UsageError(
            f"{path}: reading .exr needs the package OpenEXR: pip install openexr, or save it as"
            " .npy"
        ) from None
    if not path.is_file():
        raise DataError(f"{path} is no file: look for a slip in its name, or write it")
    try:
        with OpenEXR.File(str(path), header_only=True) as header:
            low, high = header.header()["dataWindow"]
        width, height = int(high[0]) - int(low[0]) + 1, int(high[1]) - int(low[1]) + 1
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(
                f"{path} claims {width}×{height} pixels: over the cap of {MAX_PIXELS},"
                " write it smaller"
            )
        with OpenEXR.File(str(path), separate_channels=True) as file:
            planes = {name: channel.pixels for name, channel in file.channels().items()}
    except DataError:
        raise
    except Exception as error:  # its parser raises whatever it meets
        raise DataError(f"{path} is no OpenEXR file ({str(error)[:80]}): write it again") from None
    if not channels:
        if len(planes) != 1:
            raise DataError(f"{path}: expected one channel, got {', '.join(sorted(planes))}")
        return next(iter(planes.values()))
    wanted = next(
        (names for names in (("R", "G", "B"), ("X", "Y", "Z")) if set(names) <= set(planes)), None
    )
    if wanted is None:
        raise DataError(f"{path}: expected channels R, G, B or X, Y, Z; got {', '.join(planes)}")
    return np.stack([planes[name] for name in wanted], axis=-1)
