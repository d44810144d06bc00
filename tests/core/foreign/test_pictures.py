"""Pictures as strangers' cameras and programs write them, made here in the same way; what Pillow's
own functions make of them is what is expected.
"""

import io
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_pictures import HEADERS, crop, exif, plain, saved, tagged, zeros_png
from PIL import Image, ImageOps

from panoforge.core.errors import DataError
from panoforge.core.foreign.pictures import (
    decode_panorama,
    decode_picture,
    panorama_of,
    read_image,
    read_panorama,
    read_picture,
    upright,
)
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.image_header import image_size
from panoforge.core.jpeg_markers import JpegMarkers, jpeg_markers
from panoforge.core.sample.products import decode_product

HEIGHT, WIDTH = 32, 64


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Smooth, so that lossy formats keep it, and without symmetry."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * u, 7 * v, 255 - 2 * u - 3 * v], axis=2).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_applies_it(rgb: np.ndarray, orientation: int) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = saved(
            rgb, kind, exif=exif(orientation), **({"quality": 95} if kind == "JPEG" else {})
        )
        with Image.open(io.BytesIO(data)) as image:
            expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        np.testing.assert_array_equal(decode_picture(data, kind).rgb, expected)
    np.testing.assert_array_equal(upright(upright(rgb, 6), 8), rgb)


def test_two_to_one_is_checked_after_turning(rgb: np.ndarray, tmp_path: Path) -> None:
    """Stored 2:1 and shown 1:2 is refused; stored 1:2 and shown 2:1 is a panorama."""
    path = tmp_path / "p.jpg"
    path.write_bytes(saved(rgb, "JPEG", exif=exif(6)))
    with pytest.raises(DataError, match="32×64 is no equirectangular panorama"):
        read_panorama(path)
    path.write_bytes(saved(np.ascontiguousarray(np.rot90(rgb)), "JPEG", exif=exif(6)))
    assert np.abs(read_panorama(path).astype(int) - rgb).mean() < 6


def test_every_kind_becomes_rgb(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    grey = np.array(image.convert("L"))
    deep = grey.astype(np.uint16) * 257
    ok, deep_png = cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 257)
    assert ok
    exact = {
        "png": (saved(rgb, "PNG"), rgb),
        "tiff": (saved(rgb, "TIFF", compression="tiff_lzw"), rgb),
        "bmp": (saved(rgb, "BMP"), rgb),
        "webp": (saved(rgb, "WEBP", lossless=True), rgb),
        "grey": (saved(grey, "PNG"), np.stack([grey] * 3, axis=2)),
        "grey 16": (saved(deep, "PNG"), np.stack([grey] * 3, axis=2)),
        "grey 16 tiff": (saved(deep, "TIFF"), np.stack([grey] * 3, axis=2)),
        "rgb 16": (deep_png.tobytes(), rgb),
        "rgba": (saved(image.convert("RGBA"), "PNG"), rgb),
        "grey jpeg": (saved(grey, "JPEG", quality=100), np.stack([grey] * 3, axis=2)),
    }  # fmt: skip
    for kind, (data, expected) in exact.items():
        found = decode_picture(data, kind).rgb
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        if kind == "grey jpeg":
            assert np.abs(found.astype(int) - expected).max() <= 2
        else:
            np.testing.assert_array_equal(found, expected, err_msg=kind)
    quantised = image.quantize(64)
    lossy = {
        "jpeg": (saved(rgb, "JPEG", quality=95), rgb),
        "progressive": (saved(rgb, "JPEG", quality=95, progressive=True), rgb),
        "avif": (saved(rgb, "AVIF", quality=90), rgb),
        "palette": (saved(quantised, "PNG"), np.array(quantised.convert("RGB"))),
        "cmyk": (saved(image.convert("CMYK"), "JPEG", quality=95), rgb),
    }
    for kind, (data, expected) in lossy.items():
        assert np.abs(decode_picture(data, kind).rgb.astype(int) - expected).mean() < 8, kind


def test_a_jpeg_has_the_pixels_that_opencv_gave_before(rgb: np.ndarray) -> None:
    data = saved(rgb, "JPEG", quality=90)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_picture(data, "x").rgb, bgr[..., ::-1])


def test_transparent_pixels_are_black(rgb: np.ndarray) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:8] = 0
    found = decode_picture(saved(np.dstack([rgb, alpha]), "PNG"), "x").rgb
    assert not found[:8].any()
    np.testing.assert_array_equal(found[8:], rgb[8:])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x76\x2f\x31\x01" + b"\0" * 60, "OpenEXR .*tone-map it"),
        (b"#?RADIANCE\n", "Radiance HDR .*tone-map it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC: save it as JPEG or PNG"),
        (b"GIF89a" + b"\0" * 60, "a GIF: save it as PNG"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video: .* pano annotate and pano serve"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", "x is a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "no picture"),  # a camera's raw file
        (b"\x1a\x45\xdf\xa3" + b"\0" * 60, "x is a video"),
        (b"RIFF\0\0\0\0AVI LIST" + b"\0" * 60, "x is a video"),
        (b"", r"no picture.*none of JPEG, PNG, WEBP, AVIF, TIFF, BMP"),
        (b"<svg/>", "no picture"),
    ],
)
def test_what_is_not_read_is_refused_with_the_way_out(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        decode_picture(data, "x")


def test_float_and_several_pictures_are_refused(rgb: np.ndarray) -> None:
    with pytest.raises(DataError, match="float numbers"):
        decode_picture(saved(Image.fromarray(rgb[..., 0].astype(np.float32)), "TIFF"), "x")
    second = Image.fromarray(rgb[::-1])
    for kind in ("TIFF", "WEBP"):
        data = saved(rgb, kind, save_all=True, append_images=[second])
        with pytest.raises(DataError, match="holds 2 pictures, expected one"):
            decode_picture(data, "x")


def test_padding_before_a_marker_is_legal_and_damage_is_refused(rgb: np.ndarray) -> None:
    """Case 16: fill bytes before a marker are read over; damaged pixels never pass as whole."""
    big = np.kron(rgb, np.ones((8, 8, 1), np.uint8))
    whole = saved(big, "JPEG", quality=95)
    sof = whole.index(b"\xff\xc0")
    padded = whole[:sof] + b"\xff\xff\xff" + whole[sof:]
    assert image_size(padded) == (8 * WIDTH, 8 * HEIGHT)
    np.testing.assert_array_equal(decode_picture(padded, "x").rgb, decode_picture(whole, "x").rgb)
    rng = np.random.default_rng(0)
    scan = whole.index(b"\xff\xda") + 14
    rotten = bytearray(whole)
    middle = (scan + len(whole)) // 2
    rotten[middle : middle + 64] = bytes(rng.integers(0, 255, 64).astype(np.uint8))  # no 0xFF
    for damaged in (bytes(rotten), whole[: len(whole) // 2]):
        with pytest.raises(DataError, match=r"rotten\.jpg.*damaged"):
            decode_picture(damaged, "rotten.jpg")


@pytest.mark.parametrize("rows", [HEIGHT + 1, 2_000_000])
def test_a_tiff_that_claims_more_rows_than_it_holds_is_refused(rgb, rows):
    """Pillow leaves them black, and allocates them all."""
    whole = saved(rgb, "TIFF")
    image_length = struct.pack("<HHI", 257, 4, 1) + struct.pack("<I", HEIGHT)
    assert whole.count(image_length) == 1
    claims = whole.replace(image_length, image_length[:8] + struct.pack("<I", rows))
    with pytest.raises(
        DataError, match=rf"claims {WIDTH}×{rows} pixels and holds {WIDTH * HEIGHT}"
    ):
        decode_picture(claims, "x")
    np.testing.assert_array_equal(decode_picture(whole, "x").rgb, rgb)


# ---------------------------------------------------------------- on the sphere


def test_a_crop_lies_where_its_tags_say(rgb: np.ndarray, tmp_path: Path) -> None:
    """Case 09: a 2:1 crop of a panorama of twice its size, and its label map with it."""
    path = tmp_path / "crop.jpg"
    path.write_bytes(tagged(rgb, **crop(WIDTH, HEIGHT, 128, 32, 16)))
    plain = decode_picture(saved(rgb, "JPEG", quality=95), "x").rgb
    whole = read_panorama(path)
    assert whole.shape == (64, 128, 3)
    np.testing.assert_array_equal(whole[16:48, 32:96], plain)
    whole[16:48, 32:96] = 0
    assert not whole.any()
    picture = read_picture(path)
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    labels[4:8, 10:20] = 7
    placed = picture.on_sphere(labels)
    assert placed[20:24, 42:52].all() and (placed > 0).sum() == 40
    area, alone = (
        float((m > 0).sum(axis=1) @ row_area_sr(m.shape[1], m.shape[0])) for m in (placed, labels)
    )
    assert area < 0.5 * alone  # as a whole sphere it would be several times as large
    np.testing.assert_array_equal(picture.on_sphere(placed), placed)


def test_a_strip_and_a_crop_over_the_seam_are_placed(rgb: np.ndarray) -> None:
    strip = decode_panorama(tagged(rgb[:20], **crop(WIDTH, 20, WIDTH, 0, 6)), "x")
    assert strip.shape == (32, 64, 3) and not strip[:6].any() and not strip[26:].any()
    seam = decode_panorama(tagged(rgb, **crop(WIDTH, HEIGHT, 128, 100, 0)), "x")
    assert seam[:HEIGHT, 100:].any() and seam[:HEIGHT, :36].any() and not seam[:, 36:100].any()
    halved = decode_panorama(tagged(rgb, **crop(2 * WIDTH, 2 * HEIGHT, 256, 64, 32)), "x")
    assert halved.shape == (64, 128, 3)  # resized after the tags were written: they scale along
    full = decode_panorama(tagged(rgb, **crop(WIDTH, HEIGHT, WIDTH, 0, 0)), "x")
    assert full.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("projection", "sizes", "said"),
    [
        ("cylindrical", crop(WIDTH, HEIGHT, 128, 0, 0), "'cylindrical'.*convert it with Hugin"),
        ("equirectangular", {"FullPanoWidthPixels": 128}, "incomplete or garbled"),
        ("equirectangular", crop(WIDTH, 20, 128, 0, 0), "edited after they were written"),
        ("equirectangular", crop(WIDTH, HEIGHT, 128, 0, 60), "inside a panorama twice as wide"),
        ("equirectangular", crop(WIDTH, HEIGHT, 62, 0, 0), "inside a panorama twice as wide"),
        ("equirectangular", crop(WIDTH, HEIGHT, 1 << 19, 0, 0), "outside of the cap"),
    ],
)
def test_tags_that_cannot_be_followed_are_refused(
    rgb: np.ndarray, projection: str, sizes: dict[str, int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        decode_panorama(tagged(rgb, projection, **sizes), "x")


def test_a_width_that_nothing_can_sample_is_refused_in_one_line(rgb: np.ndarray) -> None:
    """Case 12, by its size alone."""
    from panoforge.core.foreign.pictures import DecodedPicture

    wide = np.broadcast_to(np.zeros(3, np.uint8), (8192, 16384, 3))
    with pytest.raises(DataError, match=r"x: 16384×8192 is over the cap of 16378 pixels across"):
        panorama_of(DecodedPicture(wide), "x")


# ---------------------------------------------------------------- caps


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_makes_a_decoder_allocate(name: str, tmp_path: Path) -> None:
    """The bytes are refused within 200 MB and seconds, by the reader and as a shard's product."""
    (tmp_path / name).write_bytes(HEADERS[name]())
    code = f"""
import resource, sys, time
from pathlib import Path
from panoforge.core.errors import DataError
from panoforge.core.foreign.pictures import read_image
from panoforge.core.sample.products import decode_product
path = Path({str(tmp_path / name)!r})
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
refused = 0
for read in (read_image, lambda path: decode_product("rgb.jpg", path.read_bytes())):
    try:
        read(path)
    except DataError as error:
        refused += 1
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert refused == 2, refused
assert grown < 200_000, grown
assert time.monotonic() - start < 5
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


MEMORY = {
    "alpha": (lambda: zeros_png(8192, 4096, 6, 8), 8),
    "WebP": (lambda: saved(Image.new("RGB", (8192, 4096)), "WEBP", lossless=True, method=0), 13),
}


@pytest.mark.parametrize("name", MEMORY)
def test_a_large_picture_takes_few_bytes_a_pixel(name: str, tmp_path: Path) -> None:
    """A picture of kilobytes that is truly as large as it says: Pillow keeps 4 bytes a pixel, the
    result 3; nothing else may be of the picture's size. At 16K that is below 1 GB.
    """
    make, most = MEMORY[name]
    (tmp_path / "picture").write_bytes(make())
    code = f"""
import resource
from pathlib import Path
from panoforge.core.foreign.pictures import read_image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_image(Path({str(tmp_path / "picture")!r}).with_name("small.png"))
before = peak()
read_image(Path({str(tmp_path / "picture")!r}))
grown = (peak() - before) * 1024 / (8192 * 4096)
assert grown < {most}, grown
"""
    (tmp_path / "small.png").write_bytes(plain("PNG"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_the_markers_of_a_jpeg_are_walked_as_libjpeg_walks_them(rgb: np.ndarray) -> None:
    """Scans, padding and thumbnails; a run of padding costs no square of its length."""
    big = np.kron(rgb, np.ones((8, 8, 1), np.uint8))
    baseline, progressive = (saved(big, "JPEG", progressive=p) for p in (False, True))
    assert jpeg_markers(baseline) == JpegMarkers(3, 1, False, True)
    found = jpeg_markers(progressive)
    assert found.several and found.whole and found.scans == progressive.count(b"\xff\xda") > 5
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(progressive)) + progressive
    assert jpeg_markers(b"\xff\xd8" + thumbnail + baseline[2:]) == jpeg_markers(baseline)
    assert jpeg_markers(baseline[:2] + b"\xff" * 500_000 + baseline[2:]).whole
    for cut in (1, 2, 50, len(baseline) // 2):
        assert not jpeg_markers(baseline[:-cut]).whole
        with pytest.raises(DataError, match="end before its image does"):
            image_size(baseline[:-cut])
    assert image_size(baseline + b"a phone's film") == (8 * WIDTH, 8 * HEIGHT)


def test_a_product_keeps_its_place_whatever_its_exif_says(rgb: np.ndarray) -> None:
    """A shard's picture is W×H as its meta says: an orientation tag cannot turn it after checks."""
    data = saved(rgb, "JPEG", exif=exif(6))
    assert decode_product("rgb.jpg", data).shape == (HEIGHT, WIDTH, 3)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="is no file"):
        read_image(tmp_path)
