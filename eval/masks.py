"""The masks of a panorama's instances, 8 pixels to a byte: what merging gives and scoring reads."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panoforge.core.types import Bools


@dataclass(frozen=True)
class Masks:
    """N binary masks over a panorama.

    - `packed` uint8 N×H×⌈W/8⌉: the masks, 8 pixels to a byte.
    - `labels` int32 H×W: what a picture shows where masks overlap. 1 + the object of the highest
      logit above 0, or 0.
    - `scores` float32 (N,): how sure each is, the mean logit of its pixels (0 without any).
    - `rows` int64 N×2, if known: each mask lies in rows [first, stop). Whoever counts it need not
      read all of 100 MB to find out.
    """

    packed: NDArray[np.uint8]
    labels: NDArray[np.int32]
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.packed.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` as bool H×W."""
        return np.unpackbits(self.packed[index], axis=1, count=self.labels.shape[1]).astype(bool)

    def extent(self, index: int) -> tuple[slice | None, slice]:
        """Rows and byte columns that mask `index` is in; no rows if it is empty."""
        if self.rows is None:
            return packed_extent(self.packed[index])
        first, stop = self.rows[index].tolist()
        rows, bytes_ = packed_extent(self.packed[index, first:stop])
        return (None if rows is None else slice(rows.start + first, rows.stop + first)), bytes_

    @classmethod
    def of(cls, masks: NDArray[np.bool_]) -> "Masks":
        """Of bool N×H×W, their rows noted; labels are those of the last where they overlap."""
        n = len(masks)
        rows = np.zeros((n, 2), np.int64)
        for k, mask in enumerate(masks):
            at = np.flatnonzero(mask.any(axis=1))
            rows[k] = (at[0], at[-1] + 1) if at.size else (0, 0)
        labels = np.zeros(masks.shape[1:], np.int32)
        for k, mask in enumerate(masks):
            labels[mask] = k + 1
        return cls(np.packbits(masks, axis=2), labels, np.zeros(n, np.float32), rows)


def packed_extent(bits: NDArray[np.uint8]) -> tuple[slice | None, slice]:
    """Rows and byte columns that hold a bit, of uint8 H×B; no rows if there is none."""
    words = bits.view(np.uint64) if bits.shape[1] % 8 == 0 and bits.flags.c_contiguous else bits
    rows = span(np.bitwise_or.reduce(words, axis=1) != 0)
    if rows is None:
        return None, slice(0, 0)
    columns = span(np.bitwise_or.reduce(words[rows], axis=0).view(np.uint8) != 0)
    return rows, columns or slice(0, 0)


def span(occupied: Bools) -> slice | None:
    """From the first to the last True."""
    at = np.flatnonzero(occupied)
    return slice(int(at[0]), int(at[-1]) + 1) if at.size else None
