"""The array codec of all members that end in `.zst`: zstd that any tool opens and a view can crop.

An encoded array is one zstd *skippable* frame holding a header, then one ordinary zstd frame per
band of rows:

    50 2A 4D 18 | size u32 | "PANO" version u8 dtype u8 ndim u8 order u8 | shape 3×u32
    | rows_per_band u32 | bands u32 | size u32 each | version 2: CRC-32 of all this u32
    28 B5 2F FD …  band 0        28 B5 2F FD …  band 1        …

dtype counts uint8, uint16, float16, float32 from 0. Version 1 holds raw little-endian C-order
bands: `instance.zst`, `semantic.zst`, and depth and normals of earlier datasets. Version 2
holds bands as differences in byte planes (`panoforge.core.sample.deltas`): `*.delta.zst` and
`*.oct.zst`. A version never stands under the other's suffix, and is refused there.

Decoders skip skippable frames and join consecutive ones. So these give the raw array of version 1
(tests/core/sample/test_zstd_readers.py runs each):

    zstd -dc KEY.instance.zst > KEY.u2
    zstandard.open("KEY.instance.zst").read()                        # python-zstandard: streams
    zstandard.ZstdDecompressor().stream_reader(data).read()
    pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read()
    pyarrow.decompress(data, decompressed_size=2 * height * width, codec="zstd")
    numcodecs.Zstd().decode(data)                                    # 0.16.6; 0.16.2 refuses

`zstandard.decompress` (one-shot) takes one frame only, and refuses these bytes. Were the header
behind the bands, it would give band 0 for the whole array and say nothing. One frame for all bands
would please it, but could not be cropped.

docs/reference/format.md has a reader of both versions in a dozen lines of numpy, a test too.

Ours reads the header, checks it against caps before it allocates anything, and decodes only the
bands that the asked-for rows touch. Every frame carries zstd's own checksum, so a flipped bit is an
error and never another label. The same array always gives the same bytes. Why not PNG: it decodes
more than ten times slower (bench/RESULTS.md).
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.sample.deltas import ORDERS, Order, from_planes, to_planes

MAX_PIXELS = 16384 * 8192  # 16K panoramas; a header that asks for more is damage or an attack
_SKIPPABLE_MAGIC = 0x184D2A50
_HEAD = struct.Struct("<II4sBBBB3III")
_CRC = struct.Struct("<I")  # of the header of version 2, which no frame's checksum covers
_DTYPES: tuple[np.dtype, ...] = tuple(np.dtype(code) for code in ("<u1", "<u2", "<f2", "<f4"))
_BAND_BYTES = (
    1 << 20
)  # raw bytes a band aims at: small enough to crop well, large enough to compress well


@dataclass(frozen=True)
class ArrayHeader:
    """What an encoded array says of itself, checked.

    `offsets` has one entry per band and a last one for the end; `order` is None for raw bands.
    """

    order: Order | None
    shape: tuple[int, ...]
    dtype: np.dtype
    rows_per_band: int
    offsets: tuple[int, ...]


def encode_array(array: NDArray, *, level: int = 9) -> bytes:
    """Encode an H×W or H×W×C array of uint8, uint16, float16 or float32 as version 1: raw bands.

    Deterministic. Level 9 costs ~30 ms for a 4K label map and decodes as fast as level 1.
    """
    array, rows_per_band = _checked(array)
    bands = [array[row : row + rows_per_band].data for row in range(0, len(array), rows_per_band)]
    return _encoded(array, rows_per_band, bands, 1, 0, level)


def encode_deltas(array: NDArray, *, level: int = 6) -> bytes:
    """The same as version 2: differences in byte planes. Lossless and deterministic.

    Their order is the one that makes this array smallest; every fourth band is tried.
    """
    array, rows_per_band = _checked(array)
    bands = [array[row : row + rows_per_band] for row in range(0, len(array), rows_per_band)]
    order = _best_order(bands)
    planes = (to_planes(band, order) for band in bands)
    return _encoded(array, rows_per_band, planes, 2, order.code, level)


def _best_order(bands: list[NDArray]) -> Order:
    trial = zstandard.ZstdCompressor(level=3)
    sizes = [
        sum(len(trial.compress(to_planes(band, order))) for band in bands[len(bands) % 4 // 2 :: 4])
        for order in ORDERS
    ]
    return ORDERS[int(np.argmin(sizes))]


def _checked(array: NDArray) -> tuple[NDArray, int]:
    """The array as it is stored, and the rows of a band. ValueError for what cannot be."""
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
    return array, max(1, _BAND_BYTES // array[0].nbytes)


def _encoded(
    array: NDArray,
    rows_per_band: int,
    raw_bands: Iterable[bytes | memoryview],
    version: int,
    order: int,
    level: int,
) -> bytes:
    compressor = zstandard.ZstdCompressor(
        level=level, write_checksum=True, write_content_size=True, threads=0
    )
    bands = [compressor.compress(band) for band in raw_bands]
    shape = (*array.shape, 0)[:3]
    sizes = struct.pack(f"<{len(bands)}I", *map(len, bands))
    head = _HEAD.pack(
        _SKIPPABLE_MAGIC,
        _HEAD.size - 8 + len(sizes) + (version - 1) * _CRC.size,
        b"PANO",
        version,
        _DTYPES.index(array.dtype),
        array.ndim,
        order,
        *shape,
        rows_per_band,
        len(bands),
    )
    if version == 2:
        sizes += _CRC.pack(zlib.crc32(head + sizes))
    return b"".join([head, sizes, *bands])


def read_header(data: bytes | memoryview) -> ArrayHeader:
    """Parse and check the header of an encoded array.

    Raises DataError for anything that `encode_array` did not write.
    """
    if len(data) < _HEAD.size:
        raise DataError(
            f"encoded array is cut: expected at least {_HEAD.size} bytes of header, got {len(data)}"
        )
    magic, skip, name, version, code, ndim, order, *shape3, rows_per_band, n_bands = (
        _HEAD.unpack_from(data)
    )
    if magic != _SKIPPABLE_MAGIC or name != b"PANO":
        raise DataError(
            "not an encoded array: its first bytes are not a zstd skippable frame with the name"
            " PANO"
        )
    if version not in (1, 2) or code >= len(_DTYPES) or ndim not in (2, 3):
        raise DataError(
            f"encoded array has version {version}, dtype code {code}, {ndim} axes: this panoforge"
            " reads versions 1 and 2"
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
        or skip != _HEAD.size - 8 + 4 * n_bands + (version - 1) * _CRC.size
    ):
        raise DataError(
            f"encoded array's band table ({counted(n_bands, 'band')} of"
            f" {counted(rows_per_band, 'row')}) does not fit its"
            f" {counted(shape[0], 'row')}"
        )
    first = skip + 8
    if len(data) < first:
        raise DataError(f"encoded array is cut inside its band table: {len(data)} of {first} bytes")
    sizes = np.frombuffer(data, "<u4", n_bands, _HEAD.size).astype(np.int64)
    how = _order(data[:first], order) if version == 2 else None
    offsets = first + np.concatenate([[0], np.cumsum(sizes)])
    if offsets[-1] != len(data):
        raise DataError(
            f"encoded array is {len(data)} bytes, its band table says {offsets[-1]}: cut or joined"
            " with something"
        )
    return ArrayHeader(how, shape, dtype, rows_per_band, tuple(offsets.tolist()))


def _order(head: bytes | memoryview, code: int) -> Order:
    """The order of differences, which the bands' own checksums do not cover."""
    if zlib.crc32(head[: -_CRC.size]) != _CRC.unpack(head[-_CRC.size :])[0]:
        raise DataError("encoded array's header does not have its checksum: it is damaged")
    try:
        return Order.of_code(code)
    except ValueError as error:
        raise DataError(f"encoded array: {error}") from None


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
        height = min(last * step, header.shape[0]) - first * step
        if header.order is not None and len(header.shape) == 3:  # as planes are: each in one piece
            planar = np.empty((header.shape[2], height, header.shape[1]), header.dtype)
            out = planar.transpose(1, 2, 0)
        else:
            out = np.empty((height, *header.shape[1:]), header.dtype)
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
            if header.order is not None:
                planes = decompressor.decompress(frame, allow_extra_data=False)
                from_planes(planes, header.order, target)
                continue
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
