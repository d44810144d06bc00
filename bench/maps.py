"""Inputs of benchmarks that are real: the label map of a furnished room at 4096×2048.

`data/livingroom-4096.instance.zst` was rendered by panoforge from Infinigen's living room, seed 0,
first camera. Where the picture does not matter a synthetic one of the same size stands beside it:
noise over gradients, so that nothing compresses or caches better than a photograph would.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.sample.array_codec import decode_array

ROOM = Path(__file__).parent / "data" / "livingroom-4096.instance.zst"


def room_labels() -> NDArray[np.uint16]:
    """The rendered 2048×4096 uint16 label map."""
    return decode_array(ROOM.read_bytes())


def picture(height: int = 2048, width: int = 4096, seed: int = 0) -> NDArray[np.uint8]:
    """A uint8 H×W×3 picture."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width]
    smooth = np.stack(
        [u * 255 / width, v * 255 / height, (u + v) * 255 / (width + height)], axis=-1
    )
    return np.clip(smooth + rng.normal(0, 20, (height, width, 1)), 0, 255).astype(np.uint8)
