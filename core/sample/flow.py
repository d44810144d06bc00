"""Motion between two frames of a video: where what a pixel shows lies in the other frame.

`flow_forward` leads to the next frame, `flow_backward` to the one before. A displacement is in
pixels, columns to the right and rows down, from a pixel's centre. Columns take the shorter way
around. Where a pixel's point is hidden in the other frame, its place there is known and the state
says HIDDEN. Of a thing that changes its shape nothing is known. A point of the sky moves as one
infinitely far.

Stored are whole 64ths of a pixel, so no place is off by more than 1/128 px, at any width up to the
widest. The codes are uint16 H×W×3 (`flow_forward.delta.zst`), a fifth of what float32 takes:

    low_u, low_v, rest = moveaxis(codes.astype("i8"), -1, 0)
    state = rest & 7                                 # 0 visible, 1 hidden, 2 unknown
    du = (((rest >> 8) - 16 << 16) + low_u) / 64     # columns
    dv = (((rest >> 3 & 31) - 16 << 16) + low_v) / 64
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import edge_to_index, index_to_edge
from panoforge.core.geometry.sphere import angle_between, pixel_to_direction
from panoforge.core.numbers import counted
from panoforge.core.types import Floats

STEPS_PER_PX = 64
VISIBLE, HIDDEN, UNKNOWN = 0, 1, 2
_HALF = 16  # what is added to the high five bits, so that they are not negative


@dataclass(frozen=True)
class Flow:
    """Where each pixel of a frame lies in the other one.

    Attributes:
        displacement_px: float32 H×W×2: columns to the right, rows down; NaN where unknown.
        state: uint8 H×W: VISIBLE, HIDDEN (another surface is before it there) or UNKNOWN.

    Example:
        >>> import numpy as np
        >>> from panoforge.core.sample.flow import Flow
        >>> flow = Flow(np.full((2, 4, 2), 0.5, np.float32), np.zeros((2, 4), np.uint8))
        >>> float(Flow.of_codes(flow.codes()).displacement_px[0, 0, 0])
        0.5
    """

    displacement_px: Float32[np.ndarray, "height width 2"]
    state: UInt8[np.ndarray, "height width"]

    def codes(self) -> UInt16[np.ndarray, "height width 3"]:
        """The flow as it is stored.

        Raises:
            DataError: A displacement is not finite where it is known, or longer than the widest
                panorama.
        """
        known = self.state != UNKNOWN
        steps = np.where(known[..., None], self.displacement_px, 0).astype(np.float64)
        steps = np.rint(steps * STEPS_PER_PX)
        wrong = ~(np.abs(steps) < _HALF << 16).all(axis=-1)  # not a number compares false
        if wrong.any() or self.state.max(initial=0) > UNKNOWN:
            raise DataError(
                f"flow: {counted(int(wrong.sum()), 'pixel is', 'pixels are')} displaced by what is"
                f" no number below {(_HALF << 16) // STEPS_PER_PX} px, or its state is none of"
                " 0, 1, 2"
            )
        whole = steps.astype(np.int32)
        high = (whole >> 16) + _HALF
        rest = self.state | high[..., 1] << 3 | high[..., 0] << 8
        return np.stack([whole[..., 0] & 0xFFFF, whole[..., 1] & 0xFFFF, rest], -1).astype(
            np.uint16
        )

    @staticmethod
    def of_codes(codes: UInt16[np.ndarray, "height width 3"]) -> "Flow":
        """Undo `codes`, to 1/128 px. DataError for codes that `codes` does not give."""
        check_codes(codes)
        low_u, low_v, rest = np.moveaxis(codes.astype(np.int32), -1, 0)
        u, v = ((rest >> 8) - _HALF << 16) + low_u, ((rest >> 3 & 31) - _HALF << 16) + low_v
        state = (rest & 7).astype(np.uint8)
        displacement = np.stack([u, v], axis=-1).astype(np.float32) / np.float32(STEPS_PER_PX)
        displacement[state == UNKNOWN] = np.nan
        return Flow(displacement, state)

    def places(self) -> Float32[np.ndarray, "height width 2"]:
        """Column and row (continuous indices) in the other frame; columns in [−0.5, W − 0.5)."""
        height, width = self.state.shape
        u = np.arange(width, dtype=np.float32) + self.displacement_px[..., 0]
        v = np.arange(height, dtype=np.float32)[:, None] + self.displacement_px[..., 1]
        return np.stack([edge_to_index(np.mod(index_to_edge(u), width)), v], axis=-1)

    def angle_rad(self) -> Floats:
        """How far each pixel's point moves over the sphere, float64 H×W in radians; NaN: unknown.

        Both directions are in the frame of the panorama, so a turn of the camera counts.
        """
        height, width = self.state.shape
        here = pixel_to_direction(
            np.arange(width)[None, :], np.arange(height)[:, None], width, height
        )
        there = self.places().astype(np.float64)
        angle: Floats = angle_between(
            here, pixel_to_direction(there[..., 0], there[..., 1], width, height)
        )
        return angle


def shorter_way(columns: Floats, width: int) -> Floats:
    """Displacements of columns, of any shape, as those in [−W/2, W/2) that lead to the same."""
    return np.mod(columns + width / 2, width) - width / 2


def check_codes(codes: UInt16[np.ndarray, "height width 3"]) -> None:
    """DataError for codes that no flow has: a state of its own, or a place beyond the frame."""
    width = codes.shape[1]
    rest = codes[..., 2]
    u = ((rest.astype(np.int32) >> 8) - _HALF << 16) + codes[..., 0]
    v = ((rest.astype(np.int32) >> 3 & 31) - _HALF << 16) + codes[..., 1]
    rows = np.arange(len(codes))[:, None] * STEPS_PER_PX + v
    if (
        (rest & 7).max(initial=0) > UNKNOWN
        or np.abs(u).max(initial=0) > width * STEPS_PER_PX // 2
        or (rest >= 32 << 8).any()
        or rows.min(initial=0) < -STEPS_PER_PX
        or rows.max(initial=0) > (len(codes) + 1) * STEPS_PER_PX
    ):
        raise DataError(
            "flow: holds codes of no flow: a state above 2, or a place outside of the other frame"
        )
