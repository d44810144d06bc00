"""Differences in byte planes: what makes depth and normals small before zstd sees them.

Neighbours on a surface differ by little, but by something, so a band of raw floats holds no bytes
that come again. Taken as integers (floats of one sign sort as their bits do), differences of
neighbours are small numbers: their high bytes are all the same, their low bytes few. So a band is

1. Read as unsigned integers of its item size.
2. Differenced down its rows `rows` times and along them `columns` times, modulo 2^bits. The
   neighbour outside of the band is 0.
3. Moved by 0x80 in every byte. So small differences of either sign have high bytes 0x80.
4. Laid out as planes, channel after channel: the first (lowest) byte of every item, then the
   second, and so on.

All of it is exact and undone by sums. Which order of differences is best depends on the scene: the
second along rows where surfaces are plain, none where they are flat and repeat.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Order:
    """How often a band is differenced along its rows and down them.

    `plain`: it is left as it lies, neither differenced nor in planes.
    """

    columns: int
    rows: int
    plain: bool = False

    @property
    def code(self) -> int:
        """As one byte."""
        return 0xFF if self.plain else self.rows << 4 | self.columns

    @classmethod
    def of_code(cls, code: int) -> "Order":
        """The order of a byte. ValueError for one that is none."""
        order = PLAIN if code == PLAIN.code else cls(code & 15, code >> 4)
        if not order.plain and max(order.columns, order.rows) > MAX_TIMES:
            raise ValueError(f"no order of differences has the code {code}")
        return order


PLAIN = Order(0, 0, plain=True)
MAX_TIMES = 2
# What an encoder chooses from. bench/geometry_codec.py has what each gives on rooms, houses, land.
ORDERS = (Order(1, 1), Order(2, 1), Order(2, 0), Order(1, 0), PLAIN)


def to_planes(band: NDArray, order: Order) -> bytes:
    """The bytes of a C-ordered band, rows×columns or rows×columns×channels, before compression."""
    if order.plain:
        return band.tobytes()
    size = band.dtype.itemsize
    items = band.view(f"<u{size}").reshape(*band.shape[:2], -1)
    planes = []
    for channel in range(items.shape[2]):
        values = items[..., channel].copy()
        for _ in range(order.rows):
            values[1:] = values[1:] - values[:-1]
        for _ in range(order.columns):
            values[:, 1:] = values[:, 1:] - values[:, :-1]
        values += _bias(values.dtype)
        planes += [values.view(np.uint8).reshape(-1, size)[:, byte] for byte in range(size)]
    return np.stack(planes).tobytes()


def from_planes(data: bytes | memoryview, order: Order, out: NDArray) -> None:
    """Undo `to_planes` into `out`, which has the band's shape and dtype."""
    if order.plain:
        out[...] = np.frombuffer(data, out.dtype).reshape(out.shape)
        return
    size = out.dtype.itemsize
    planes = np.frombuffer(data, np.uint8).reshape(-1, size, *out.shape[:2])
    items = out.view(f"<u{size}").reshape(*out.shape[:2], -1)
    for channel, digits in enumerate(planes):
        joined = cv2.merge(list(digits)) if size > 1 else digits[0]
        values = np.ascontiguousarray(joined).view(items.dtype).reshape(out.shape[:2])
        values = values - _bias(values.dtype)
        for _ in range(order.rows):
            for row in range(1, len(values)):  # eighty times faster than a sum along this axis
                np.add(values[row], values[row - 1], out=values[row])
        for _ in range(order.columns):
            # A sum of words is five times as fast as one of half words, and ends in the same bits.
            sums = np.add.accumulate(values.astype(np.uint32), axis=1, dtype=np.uint32)
            values = sums.astype(values.dtype)
        items[..., channel] = values


def _bias(dtype: np.dtype) -> np.unsignedinteger:
    """0x80 in every byte."""
    return dtype.type(int.from_bytes(b"\x80" * dtype.itemsize, "little"))
