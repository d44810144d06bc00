"""A mask as it is kept, journalled and sent to the page: row-major run lengths, compressed.

The runs alternate, nothing first, little-endian uint32, deflated by zlib. A browser inflates them
with what it has; a mask of 8192×4096 takes some kilobytes. Its digest is its name: equal masks are
one. Area and middle are worked out once, when it is packed.
"""

import base64
import binascii
import hashlib
import zlib
from typing import Self

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import column_lon, row_lat
from panoforge.core.geometry.sphere import direction_to_lonlat, lonlat_to_direction, row_area_sr
from panoforge.core.models import FrozenModel
from panoforge.core.types import Floats, Mask

DIGEST_HEX = 32
_SAMPLES = 256  # rows and columns that the middle is worked out from


class PackedMask(FrozenModel):
    """`data` is base64 of the deflated runs; `middle_deg` is where to look for it (lon, lat)."""

    height: int
    width: int
    data: str
    pixels: int
    area_sr: float
    middle_deg: tuple[float, float]

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """Pack a mask, bool H×W."""
        height, width = mask.shape
        per_row = np.count_nonzero(mask, axis=1)
        lon, lat = direction_to_lonlat(_middle(mask, per_row))
        return cls(
            height=height,
            width=width,
            data=base64.b64encode(zlib.compress(_runs(mask, per_row).tobytes(), 1)).decode(),
            pixels=int(per_row.sum()),
            area_sr=float(per_row @ row_area_sr(width, height)),
            middle_deg=(round(float(np.degrees(lon)), 3), round(float(np.degrees(lat)), 3)),
        )

    @property
    def digest(self) -> str:
        """The name of the mask: equal masks have one."""
        text = f"{self.width}x{self.height}:{self.data}"
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_HEX]

    def deflated(self) -> bytes:
        """The bytes that go to the page."""
        return base64.b64decode(self.data)

    def mask(self) -> Mask:
        """The mask, bool H×W. DataError if the record is damaged."""
        size = self.height * self.width
        try:
            unzip = zlib.decompressobj()
            raw = unzip.decompress(base64.b64decode(self.data, validate=True), 4 * size + 8)
        except (binascii.Error, zlib.error) as error:
            raise DataError(f"the record of a mask is damaged ({error})") from None
        runs = np.frombuffer(raw[: len(raw) // 4 * 4], "<u4").astype(np.int64)
        if int(runs.sum()) != size:
            raise DataError("the record of a mask is damaged: its runs are not as long as it is")
        flat = np.zeros(size, bool)
        ends = np.cumsum(runs)
        for start, stop in zip(ends[:-1:2].tolist(), ends[1::2].tolist(), strict=False):
            flat[start:stop] = True
        return flat.reshape(self.height, self.width)


def _runs(mask: Mask, per_row: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Lengths of the runs, nothing first; only the rows that hold something are looked at."""
    height, width = mask.shape
    there = np.flatnonzero(per_row)
    if not there.size:
        return np.array([height * width], "<u4")
    v0, v1 = int(there[0]), int(there[-1]) + 1
    flat = np.ascontiguousarray(mask[v0:v1]).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first, last = [0] if flat[0] else [], [flat.size] if flat[-1] else []
    ends = np.concatenate([first, changes, last]) + v0 * width
    return np.diff(np.concatenate([[0], ends, [height * width]])).astype("<u4")


def _middle(mask: Mask, per_row: NDArray[np.intp]) -> Floats:
    """A direction amid the mask, of its samples; forward for an empty one."""
    height, width = mask.shape
    rows = np.flatnonzero(per_row)
    if not rows.size:
        return np.array([0.0, 1.0, 0.0])
    rows = rows[:: max(1, rows.size // _SAMPLES)]
    found = mask[rows]
    v, u = np.nonzero(found[:, :: max(1, width // (4 * _SAMPLES))])
    u = u * max(1, width // (4 * _SAMPLES))
    if not u.size:
        v, u = np.nonzero(found)
    lat = row_lat(rows[v], height)
    total = lonlat_to_direction(column_lon(u, width), lat).T @ np.cos(lat)
    if np.linalg.norm(total) < 1e-9:
        total = lonlat_to_direction(column_lon(u[:1], width), lat[:1])[0]
    return np.asarray(total / np.linalg.norm(total))
