"""Short panoramic videos for tests: what moves in them is known."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

WIDTH, HEIGHT = 256, 128


def moving_disc(
    frames: int, *, start_deg: float = 160.0, step_deg: float = 4.0, radius_deg: float = 14.0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A bright disc that goes over the seam before a soft ground: pictures and its true masks."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(20, 90, (8, 16, 3), np.uint8)
    ground = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    lon = np.radians((np.arange(WIDTH) + 0.5) / WIDTH * 360 - 180)[None]
    lat = np.radians(90 - (np.arange(HEIGHT) + 0.5) / HEIGHT * 180)[:, None]
    pictures, masks = [], []
    for k in range(frames):
        middle = np.radians(start_deg + k * step_deg)
        mask = np.cos(lat) * np.cos(lon - middle) > np.cos(np.radians(radius_deg))
        picture = ground.copy()
        picture[mask] = (250, 180, 40)
        picture[:8, :8] = k * 9 % 256  # the number of the frame, to be read back
        pictures.append(picture)
        masks.append(mask)
    return pictures, masks


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    gop: int = 7,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    turned_deg: int = 0,
) -> Path:
    """Encode a video; `times` in hundredths of a second, else ten frames a second.

    `turned_deg` is how players are told to turn it, counter-clockwise.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = pictures[0].shape[1], pictures[0].shape[0]
        stream.pix_fmt = "yuv420p"
        if turned_deg:
            stream.set_display_rotation(turned_deg)
        stream.bit_rate = 8_000_000
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 100)
        if codec == "libx264":
            stream.options = {"bf": "2", "crf": "10", **(options or {})}
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = 10 * k if times is None else times[k]
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def number_in(picture: np.ndarray) -> int:
    """The frame's number that `moving_disc` wrote into its corner."""
    return round(float(picture[2:6, 2:6].mean()) / 9)
