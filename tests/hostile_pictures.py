"""Pictures that an attacker would send: headers that lie, files that ask for gigabytes or hours,
and what is no whole sphere. Every one is refused; each is small.
"""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 32, 64


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(kind: str, **options: object) -> bytes:
    """A small grey panorama."""
    return saved(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), kind, **options)


def exif(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    out = Image.Exif()
    out[274] = orientation
    return out


def png(
    width: int,
    height: int,
    *chunks: tuple[int | None, bytes, bytes],
    colour: int = 2,
    bits: int = 8,
) -> bytes:
    """A PNG header and chunks of (claimed length, None for the true one; type; content)."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for claimed, kind, content in ((None, b"IHDR", head), *chunks):
        data += struct.pack(">I", len(content) if claimed is None else claimed) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    return data


def zeros_png(width: int, height: int, colour: int, bits: int) -> bytes:
    """A whole PNG of zeros of any size."""
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour] * bits // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(
        width, height, (None, b"IDAT", packed), (None, b"IEND", b""), colour=colour, bits=bits
    )


def lying_jpeg() -> bytes:
    """A JPEG of 32760×16380 with another SOF, of 64×32, inside a comment, and padding before the
    true one: what a careless parser reads is the small one.
    """
    data = saved(np.zeros((32, 64, 3), np.uint8), "JPEG")
    sof = data.index(b"\xff\xc0")
    size = int.from_bytes(data[sof + 2 : sof + 4], "big")
    true = bytearray(data[sof : sof + 2 + size])
    true[5:9] = struct.pack(">HH", 16380, 32760)
    return data[:sof] + b"\xff\xff" + bytes(true) + data[sof + 2 + size :]


def scans_jpeg(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each goes over all pixels."""
    data = plain("JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * scans + data[-2:]


def progressive_jpeg(width: int, height: int) -> bytes:
    """A progressive JPEG that claims a size: its decoder keeps all coefficients."""
    data = bytearray(plain("JPEG", progressive=True, subsampling=0))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(width: int, height: int, **tags: int) -> bytes:
    """A grey TIFF of a few bytes of deflated zeros, with tags that claim anything."""
    packed = zlib.compress(bytes(1000), 9)
    entries = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    entries += [(322, tags["tile"]), (323, tags["tile"])] if "tile" in tags else []
    entries += [(278, tags["rows"])] if "rows" in tags else []
    offset, length = (324, 325) if "tile" in tags else (273, 279)
    start = 14 + 12 * (len(entries) + 2)
    entries += [(offset, start), (length, len(packed))]
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, value in sorted(entries):
        data += struct.pack("<HHII", tag, 4, 1, value)
    return data + bytes(4) + packed


def avif(width: int, height: int) -> bytes:
    """An AVIF that claims a size."""
    data = bytearray(plain("AVIF"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def tagged(rgb: np.ndarray, projection: str = "equirectangular", **sizes: int) -> bytes:
    """A JPEG with GPano tags."""
    tags = {"ProjectionType": projection, **sizes}
    attributes = " ".join(f'GPano:{name}="{value}"' for name, value in tags.items())
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {attributes}/></x:xmpmeta>'
    return saved(rgb, "JPEG", quality=95, xmp=xmp.encode())


def crop(width: int, height: int, full: int, left: int, top: int) -> dict[str, int]:
    """GPano's tags of a crop."""
    return {
        "CroppedAreaImageWidthPixels": width, "CroppedAreaImageHeightPixels": height,
        "FullPanoWidthPixels": full, "FullPanoHeightPixels": full // 2,
        "CroppedAreaLeftPixels": left, "CroppedAreaTopPixels": top,
    }  # fmt: skip


def _text_bomb() -> bytes:
    packed = zlib.compress(bytes(1 << 28), 9)
    whole = zlib.compress(bytes((1 + 3 * WIDTH) * HEIGHT))
    return png(
        WIDTH, HEIGHT, (None, b"iCCP", b"k\0\0" + packed), (None, b"IDAT", whole),
        (None, b"IEND", b""),
    )  # fmt: skip


GREY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)

# A header is enough to refuse these, whatever reads them.
HEADERS: dict[str, Callable[[], bytes]] = {
    "fill.jpg": lying_jpeg,
    "chunk.png": lambda: png(64, 32, (2_000_000_000, b"IDAT", b"x" * 20)),
    "text.png": lambda: png(64, 32, (2_000_000_000, b"zTXt", b"x" * 20)),
    "large.png": lambda: png(60_000, 30_000, (0, b"IEND", b"")),
    "webp.webp": lambda: (
        b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2 + b"\0" * 40
    ),
    "cut.jpg": lambda: plain("JPEG")[:-8],
    "cut.png": lambda: plain("PNG")[:-12],
}
# Refused by the reader of strangers' pictures, or as no panorama.
PICTURES: dict[str, Callable[[], bytes]] = {
    **HEADERS,
    "turned.jpg": lambda: plain("JPEG", exif=exif(6)),
    "turned.png": lambda: plain("PNG", exif=exif(8)),
    "profile.png": _text_bomb,
    "wide.png": lambda: zeros_png(16384, 8192, 0, 1),
    "scans.jpg": lambda: scans_jpeg(3000),
    "progressive.jpg": lambda: progressive_jpeg(16376, 8188),
    "tile.tif": lambda: tiff(64, 32, tile=32768),
    "rows.tif": lambda: tiff(64, 32, rows=2**31),
    "large.tif": lambda: tiff(60_000, 30_000),
    "large.avif": lambda: avif(60_000, 30_000),
    "exr.png": lambda: b"\x76\x2f\x31\x01" + bytes(60),
    "hdr.jpg": lambda: b"#?RADIANCE\n" + bytes(60),
    "crop.jpg": lambda: tagged(GREY, **crop(WIDTH, HEIGHT, 1 << 19, 0, 0)),
    "cylinder.jpg": lambda: tagged(GREY, "cylindrical", **crop(WIDTH, HEIGHT, 128, 0, 0)),
    "strip.jpg": lambda: saved(GREY[:20], "JPEG"),
    "empty.png": lambda: b"",
}
