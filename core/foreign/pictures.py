"""Pictures that others made, as RGB uint8 H×W×3, upright: the one reader of every command.

Read: JPEG, PNG, WebP, AVIF, TIFF and BMP, of 8 or 16 bits; grey, palette, alpha and CMYK are turned
into RGB (transparent pixels are black). The EXIF orientation is applied first; every check of
shape comes after it. High dynamic range (EXR, HDR, float TIFF), HEIC and files with several
pictures are refused with the way out. Sizes, and what a decoder would do for them, are capped
before anything is decoded: a picture of 16K takes less than 1 GB on its way.

JPEGs are decoded by libjpeg-turbo in its strict mode: a file with damaged bytes is refused, where
other readers give a picture that is half wrong.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import MAX_FILE_BYTES, read_bytes
from panoforge.core.foreign.gpano import Placement, gpano_placement
from panoforge.core.geometry.views import check_panorama_size
from panoforge.core.image_header import image_size, webp_size
from panoforge.core.numbers import counted
from panoforge.core.types import Mask, Rgb

MAX_PIXELS = 1 << 27  # of one picture; 16K panoramas
_BAND_PIXELS = 1 << 22  # that are turned into RGB at once
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP")
SEVERAL = ("WEBP", "AVIF", "TIFF", "PNG")  # formats that may hold several pictures
_ORIENTATION = 274  # the EXIF tag
_TILE_SIDES, _LARGEST_TILE = (322, 323), 1 << 24  # tags; pixels that any file may ask for
_GREY_16 = ("I;16", "I;16L", "I;16B")
_DIRECT = ("L", "RGB")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_OTHERS = {
    b"\x76\x2f\x31\x01": "OpenEXR (high dynamic range): tone-map it and save it as PNG",
    b"#?RADIANCE": "Radiance HDR (high dynamic range): tone-map it and save it as PNG",
    b"#?RGBE": "Radiance HDR (high dynamic range): tone-map it and save it as PNG",
    b"GIF8": "a GIF: save it as PNG",
    b"\xff\x4f\xff\x51": "JPEG 2000: save it as PNG",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000: save it as PNG",
    b"\xff\x0a": "JPEG XL: save it as PNG or JPEG",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL: save it as PNG or JPEG",
}
# Pillow's own words on sizes below our cap and on odd EXIF would reach the terminal.
warnings.filterwarnings("ignore", module=r"PIL\.")
_SIZE_OF = {b"\xff\xd8": image_size, b"\x89P": image_size, b"RI": webp_size}
# Pictures are boxed so too: HEIC, AVIF, raw files of cameras.
_VIDEO_BRANDS = (b"iso", b"mp4", b"M4V", b"qt", b"avc", b"dash", b"3gp", b"MSNV", b"mmp4")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


@dataclass(frozen=True)
class DecodedPicture:
    """An upright picture, and its place on the sphere where its GPano tags give one."""

    rgb: Rgb
    placement: Placement | None = None

    def on_sphere(self, pixels: NDArray) -> NDArray:
        """The picture or its label map (H×W[×C], of the picture's size) where the picture lies.

        Pixels of another size, and those of a picture without a place, come back as they are.
        """
        if self.placement is None or pixels.shape[:2] != self.rgb.shape[:2]:
            return pixels
        return self.placement.place(pixels)


def read_image(path: Path) -> Rgb:
    """A picture file as RGB uint8 H×W×3, upright.

    Raises:
        DataError: it is no picture that is read, damaged, or over the caps.
    """
    return read_picture(path).rgb


def read_picture(path: Path) -> DecodedPicture:
    """As `read_image`, with the picture's place on the sphere."""
    return decode_picture(read_bytes(path), str(path))


def read_panorama(path: Path) -> Rgb:
    """A whole equirectangular panorama as RGB uint8 H×W×3 with W = 2·H, from a picture file.

    Upright, and a crop is laid onto the sphere by its GPano tags, black around it.

    Raises:
        DataError: as `read_image`, or it is no equirectangular panorama.
    """
    return decode_panorama(read_bytes(path), str(path))


def read_placed(path: Path) -> tuple[Rgb, Mask]:
    """As `read_panorama`, with where the picture is on the sphere, bool H×W: all, or a crop."""
    picture = read_picture(path)
    rgb = panorama_of(picture, str(path))
    return rgb, picture.on_sphere(np.ones(picture.rgb.shape[:2], bool))


def decode_panorama(data: bytes, name: str, max_bytes: int = MAX_FILE_BYTES) -> Rgb:
    """`read_panorama` of a file's bytes; `name` is for messages."""
    if len(data) > max_bytes:
        raise DataError(
            f"{name}: {len(data) / 1e6:.0f} MB is over the cap of {max_bytes / 1e6:.0f} MB:"
            " save it smaller, or as JPEG"
        )
    return panorama_of(decode_picture(data, name), name)


def panorama_of(picture: DecodedPicture, name: str) -> Rgb:
    """The whole panorama that a picture is, or is a crop of. DataError if it is none."""
    if picture.placement is not None:
        _check_pixels(picture.placement.width, picture.placement.height, name, MAX_PIXELS)
    rgb = picture.on_sphere(picture.rgb)
    check_panorama_size(rgb.shape[1], rgb.shape[0], name)
    return rgb


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> DecodedPicture:
    """The picture in a file's bytes; `name` is for messages.

    Raises:
        DataError: it is no picture that is read, damaged, or over `max_pixels`.
    """
    _refuse_others(data, name)
    if size_of := _SIZE_OF.get(data[:2]):
        try:
            width, height = size_of(data)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        _check_pixels(width, height, name, max_pixels)
    pixels, orientation, xmp = _stored(data, name, max_pixels)
    rgb = upright(pixels, orientation)
    height, width = rgb.shape[:2]
    return DecodedPicture(
        rgb, gpano_placement(xmp, width, height, name) if b"GPano" in xmp else None
    )


def _stored(data: bytes, name: str, max_pixels: int) -> tuple[Rgb, int, bytes]:
    """The pixels as they are stored, their EXIF orientation, and the XMP packet."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(*image.size, name, max_pixels)
            _check_single(image, name)
            _check_tiff(image, name)
            pixels = _pixels(image, data, name)
            return pixels, _orientation(image), _xmp(image)  # after: Pillow turns TIFFs itself
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        said = "no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(
            f"{name} cannot be decoded ({said[:100]}): it is truncated or damaged, or none of"
            f" {', '.join(FORMATS)}: get it again, or save it as one of them"
        ) from None
    except Exception as error:  # parsers of EXIF and TIFF raise whatever they meet
        raise DataError(
            f"{name} cannot be decoded ({type(error).__name__}: {str(error)[:100]}): it is damaged,"
            " get it again"
        ) from None


def _refuse_others(data: bytes, name: str) -> None:
    said = next((words for start, words in _OTHERS.items() if data.startswith(start)), None)
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC and b"avif" not in data[8:64]:
        said = "HEIC: save it as JPEG or PNG"
    if said is None and _is_video(data):
        said = "a video: this reads one picture, pano annotate and pano serve read videos"
    if said:
        raise DataError(f"{name} is {said}. Read are {', '.join(FORMATS)}")


def _is_video(data: bytes) -> bool:
    """By its first bytes: MP4 and QuickTime, Matroska and WebM, AVI."""
    boxed = data[4:8] == b"ftyp" and data[8:12].startswith(_VIDEO_BRANDS)
    return (
        boxed or data[:4] == b"\x1a\x45\xdf\xa3" or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")
    )


def _check_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        raise DataError(
            f"{name} claims {width}×{height} pixels: outside of the cap of {max_pixels}, shrink it"
            " first"
        )


def _check_single(image: Image.Image, name: str) -> None:
    frames = getattr(image, "n_frames", 1) if image.format in SEVERAL else 1
    if frames > 1:
        raise DataError(
            f"{name} holds {counted(frames, 'picture')}, expected one: save the one that is meant"
        )


def _check_tiff(image: Image.Image, name: str) -> None:
    """DataError for a TIFF that a decoder would go wrong with.

    Tiles are allocated whole, however small the picture. Where strips do not fill the picture,
    Pillow leaves what is missing black.
    """
    if image.format != "TIFF":
        return
    tags = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 1) for tag in _TILE_SIDES]
    if not all(isinstance(side, int) for side in sides) or sides[0] * sides[1] > max(
        _LARGEST_TILE, 4 * image.size[0] * image.size[1]
    ):
        raise DataError(
            f"{name} is {image.size[0]}×{image.size[1]} and claims tiles of"
            f" {sides[0]}×{sides[1]} pixels: it is damaged, save it again as PNG"
        )
    boxes = [tile.extents for tile in getattr(image, "tile", [])]
    filled = sum((right - left) * (low - high) for left, high, right, low in filter(None, boxes))
    if filled < image.size[0] * image.size[1]:
        raise DataError(
            f"{name} claims {image.size[0]}×{image.size[1]} pixels and holds {filled} of them: it"
            " is truncated or damaged, get it again"
        )


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp", b"")
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def _pixels(image: Image.Image, data: bytes, name: str) -> Rgb:
    """The stored pixels as RGB, whatever the picture's mode."""
    if data[:2] == b"\xff\xd8" and image.mode in _DIRECT:
        try:
            return simplejpeg.decode_jpeg(data, "RGB")
        except ValueError as error:
            raise DataError(
                f"{name}: {error}. The file is damaged, parts of the picture would be wrong: get it"
                " again, or look at it and save it anew"
            ) from None
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name} holds {'float' if image.mode == 'F' else '32-bit'} numbers, no colours of 8 or"
            " 16 bits: tone-map it and save it as PNG"
        )
    width, height = image.size
    rgb, rows = np.empty((height, width, 3), np.uint8), max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):  # each conversion is a copy, of a band only
        bottom = min(height, top + rows)
        rgb[top:bottom] = _band(image.crop((0, top, width, bottom)))
    return rgb


def _band(image: Image.Image) -> NDArray[np.uint8]:
    """Rows of a picture, as RGB or as grey H×W×1."""
    if image.mode in _GREY_16:
        deep = np.asarray(image).astype(np.uint32)
        return ((deep * 255 + 32767) // 65535).astype(np.uint8)[..., None]
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(opaque, image)
    return np.asarray(image.convert("RGB"))


def upright(pixels: NDArray, orientation: int) -> NDArray:
    """Stored pixels H×W[×C] turned as the EXIF `orientation` (1 to 8) says."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation](pixels)
    return np.ascontiguousarray(turned)
