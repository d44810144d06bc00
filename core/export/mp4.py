"""Videos as MP4 files: H.264, as browsers play it, with the metadata of a 360° video.

    <split>/<video>.mp4

Colours are Rec. 709 in the video's range, 4:2:0: this is for looking at, and for SA-V's reader.
Exact pixels are in the other formats. One thread encodes, so that the bytes are the same anywhere.
"""

import io
from collections.abc import Iterable
from fractions import Fraction

import av
from av.video.reformatter import Colorspace

from panoforge.core.errors import DataError
from panoforge.core.export.frames import ExportJob, Frame, Part
from panoforge.core.export.spherical import with_spherical_metadata
from panoforge.core.export.units import Unit
from panoforge.core.sample.products import decode_product
from panoforge.core.types import Rgb

CRF = 18  # of H.264: hard to tell from the pictures
REC_709 = 1  # as H.264 numbers primaries, transfer and matrix


def mp4_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """<split>/<video>.mp4."""
    files = {f"{unit.split}/{unit.key}.mp4": mp4_of(unit, clip)}
    return Part(unit.key, files, counts={"videos": 1})


def mp4_of(unit: Unit, clip: list[Frame]) -> bytes:
    """The MP4 of a video of panoramas."""
    width, height = clip[0].width, clip[0].height
    if width % 2 or height % 2:
        raise DataError(
            f"{unit.key}: {width}×{height}: H.264 holds colour for every second pixel, so both"
            " sides must be even: render it in another size, or export another format"
        )
    pictures = (decode_product(f"rgb.{frame.suffix}", frame.image) for frame in clip)
    return with_spherical_metadata(encode_h264(pictures, width, height, unit.fps or 1.0))


def encode_h264(pictures: Iterable[Rgb], width: int, height: int, fps: float) -> bytes:
    """An MP4 of pictures.

    Args:
        pictures: uint8 height×width×3 each; both even.
        fps: frames a second.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "medium"}
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries = context.color_trc = context.colorspace = REC_709
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            yuv = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            container.mux(stream.encode(yuv))
        container.mux(stream.encode())
    return file.getvalue()
