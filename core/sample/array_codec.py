"""The array codec of `instance.zst`, `depth.zst` and `normal.zst`.

Zstd that any tool opens and a view can crop.

An encoded array is one zstd *skippable* frame holding a header, then one ordinary zstd frame per
band of rows:

    50 2A 4D 18 | size u32 | "PANO" version u8 dtype u8 ndim u8 0 | shape 3×u32 | rows_per_band u32
    | bands u32 | size u32 each
    28 B5 2F FD …  band 0        28 B5 2F FD …  band 1        …

Decoders skip skippable frames and join consecutive ones. So these give the raw little-endian
C-order array (tests/core/sample/test_zstd_readers.py runs each):

    zstd -dc KEY.instance.zst > KEY.u2
    zstandard.open("KEY.instance.zst").read()                        # python-zstandard: streams
    zstandard.ZstdDecompressor().stream_reader(data).read()
    pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read()
    pyarrow.decompress(data, decompressed_size=2 * height * width, codec="zstd")
    numcodecs.Zstd().decode(data)                                    # 0.16.6; 0.16.2 refuses

`zstandard.decompress` (one-shot) takes one frame only, and refuses these bytes. Were the header
behind the bands, it would give band 0 for the whole array and say nothing. One frame for all bands
would please it, but could not be cropped.

Ours reads the header, checks it against caps before it allocates anything, and decodes only the
bands that the asked-for rows touch. Every frame carries zstd's own checksum, so a flipped bit is an
error and never another label. The same array always gives the same bytes. Why not PNG: it decodes
more than ten times slower (bench/RESULTS.md).
"""

import struct
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from panoforge.core.errors import DataError

MAX_PIXELS = 16384 * 8192  # 16K panoramas; a header that asks for more is damage or an attack
_SKIPPABLE_MAGIC = 0x184D2A50
_HEAD = struct.Struct("<II4sBBBB3III")
_DTYPES: tuple[np.dtype, ...] = tuple(np.dtype(code) for code in ("<u1", "<u2", "<f2", "<f4"))
_BAND_BYTES = (
    1 << 20
)  # raw bytes a band aims at: small enough to crop well, large enough to compress well


@dataclass(frozen=True)
class ArrayHeader:
    """What an encoded array says of itself, checked.

    `offsets` has one entry per band and a last one for the end.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows_per_band: int
    offsets: tuple[int, ...]


def encode_array(array: NDArray, *, level: int = 9) -> bytes:
    """Encode an H×W or H×W×C array of uint8, uint16, float16 or float32.

    Deterministic. Level 9 costs ~30 ms for a 4K label map and decodes as fast as level 1.
    """
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _DTYPES or array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            "expected a non-empty 2-D or 3-D array of uint8, uint16, float16 or float32, "
            f"got {array.dtype} {array.shape}"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(
            f"array of {array.shape} is over the cap of {MAX_PIXELS} pixels that readers accept"
        )
    array = np.ascontiguousarray(array, dtype)
    rows_per_band = max(1, _BAND_BYTES // array[0].nbytes)
    compressor = zstandard.ZstdCompressor(
        level=level, write_checksum=True, write_content_size=True, threads=0
    )
    bands = [
        compressor.compress(array[row : row + rows_per_band].data)
        for row in range(0, len(array), rows_per_band)
    ]
    shape = (*array.shape, 0)[:3]
    sizes = struct.pack(f"<{len(bands)}I", *map(len, bands))
    head = _HEAD.pack(
        _SKIPPABLE_MAGIC,
        _HEAD.size - 8 + len(sizes),
        b"PANO",
        1,
        _DTYPES.index(dtype),
        array.ndim,
        0,
        *shape,
        rows_per_band,
        len(bands),
    )
    return b"".join([head, sizes, *bands])


def read_header(data: bytes | memoryview) -> ArrayHeader:
    """Parse and check the header of an encoded array.

    Raises DataError for anything that `encode_array` did not write.
    """
    if len(data) < _HEAD.size:
        raise DataError(
            f"encoded array is cut: expected at least {_HEAD.size} bytes of header, got {len(data)}"
        )
    magic, skip, name, version, code, ndim, _, *shape3, rows_per_band, n_bands = _HEAD.unpack_from(
        data
    )
    if magic != _SKIPPABLE_MAGIC or name != b"PANO":
        raise DataError(
            "not an encoded array: its first bytes are not a zstd skippable frame with the name"
            " PANO"
        )
    if version != 1 or code >= len(_DTYPES) or ndim not in (2, 3):
        raise DataError(
            f"encoded array has version {version}, dtype code {code}, {ndim} axes: this panoforge"
            " reads version 1"
        )
    shape, dtype = tuple(shape3[:ndim]), _DTYPES[code]
    if not all(shape) or shape[0] * shape[1] > MAX_PIXELS or (ndim == 3 and shape[2] > 4):
        raise DataError(
            f"encoded array claims shape {shape}: outside 1 pixel to {MAX_PIXELS} pixels with at"
            " most 4 channels"
        )
    if (
        rows_per_band < 1
        or n_bands != -(-shape[0] // rows_per_band)
        or skip != _HEAD.size - 8 + 4 * n_bands
    ):
        raise DataError(
            f"encoded array's band table ({n_bands} bands of {rows_per_band} rows) does not fit its"
            f" {shape[0]} rows"
        )
    first = _HEAD.size + 4 * n_bands
    if len(data) < first:
        raise DataError(f"encoded array is cut inside its band table: {len(data)} of {first} bytes")
    sizes = np.frombuffer(data, "<u4", n_bands, _HEAD.size).astype(np.int64)
    offsets = first + np.concatenate([[0], np.cumsum(sizes)])
    if offsets[-1] != len(data):
        raise DataError(
            f"encoded array is {len(data)} bytes, its band table says {offsets[-1]}: cut or joined"
            " with something"
        )
    return ArrayHeader(shape, dtype, rows_per_band, tuple(offsets.tolist()))


def decode_array(
    data: bytes | memoryview, rows: tuple[int, int] | None = None, *, out: NDArray | None = None
) -> NDArray:
    """Decode an array, or its rows [start, stop) only.

    Raises DataError for damage; never allocates more than the checked header says, and refuses
    bands whose own size disagrees with it. `out` takes a whole array (rows None) of that shape and
    dtype instead of a new one. It saves a third of the time of a 4K label map, in which the kernel
    clears fresh pages.
    """
    header = read_header(data)
    start, stop = (0, header.shape[0]) if rows is None else rows
    if not 0 <= start < stop <= header.shape[0]:
        raise ValueError(
            f"rows must satisfy 0 <= start < stop <= {header.shape[0]}, got {start}, {stop}"
        )
    step = header.rows_per_band
    first, last = start // step, -(-stop // step)
    if out is None:
        out = np.empty(
            (min(last * step, header.shape[0]) - first * step, *header.shape[1:]), header.dtype
        )
    elif (
        rows is not None
        or out.shape != header.shape
        or out.dtype != header.dtype
        or not out.flags.c_contiguous
    ):
        raise ValueError(
            f"out must be a C-ordered {header.dtype} {header.shape} for all rows, got {out.dtype}"
            f" {out.shape}"
        )
    decompressor = zstandard.ZstdDecompressor()
    view = memoryview(data)
    for band in range(first, last):
        target = out[(band - first) * step : (band - first + 1) * step]
        frame = view[header.offsets[band] : header.offsets[band + 1]]
        try:
            claimed = zstandard.frame_content_size(frame)
            if claimed != target.nbytes:
                raise DataError(
                    f"band {band} of an encoded array claims {claimed} bytes, its place holds"
                    f" {target.nbytes}"
                )
            # Straight into its place; the read past the end makes zstd check the checksum and finds
            # whatever else is there.
            reader = decompressor.stream_reader(frame, read_across_frames=True)
            filled = reader.readinto(target.reshape(-1).view(np.uint8))
            if filled != target.nbytes or reader.read(1):
                raise DataError(
                    f"band {band} of an encoded array holds another number of bytes than it claims"
                )
        except zstandard.ZstdError as error:
            raise DataError(f"band {band} of an encoded array is damaged ({error})") from None
    return out[start - first * step : stop - first * step]
