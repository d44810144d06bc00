"""Depth and normals: lossless where that is said, within the stated error where not, read by a
stranger's dozen lines, and never taken for another form.
"""

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from repository import ROOT

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample import array_codec
from panoforge.core.sample.array_codec import decode_array, encode_array, encode_deltas, read_header
from panoforge.core.sample.deltas import ORDERS, Order, from_planes, to_planes
from panoforge.core.sample.octahedral import (
    LEVELS,
    MAX_ERROR_DEG,
    from_octahedral,
    to_octahedral,
)
from panoforge.core.sample.products import (
    check_product,
    decode_product,
    depth_faults,
    encode_product,
    half_depth,
    product_size,
)

WIDTH, HEIGHT = 512, 256


def directions() -> np.ndarray:
    return pixel_to_direction(np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT)


def room_depth(rng: np.random.Generator) -> np.ndarray:
    """A box room with boxes in it and a window to the sky, as float32 with a renderer's noise."""
    distance = (np.array([2.5, 2.0, 1.4]) / np.maximum(np.abs(directions()), 1e-6)).min(axis=-1)
    for _ in range(12):
        u, v = rng.integers(0, WIDTH - 80), rng.integers(40, HEIGHT - 60)
        distance[v : v + 30, u : u + 60] *= 0.7
    distance = (distance * (1 + 1e-7 * rng.normal(size=distance.shape))).astype(np.float32)
    distance[60:90, 100:160] = np.inf
    return distance


ARRAYS = {
    "depth": room_depth(np.random.default_rng(0)),
    "half": room_depth(np.random.default_rng(1)).astype(np.float16),
    "any bits": np.random.default_rng(2).integers(0, 2**32, (70, 9), np.uint32).view(np.float32),
    "all sky": np.full((600, 1200), np.inf, np.float32),
    "codes": to_octahedral(directions()),
    "normals": directions().astype(np.float16),
    "bytes": np.random.default_rng(3).integers(0, 256, (5, 7, 4), np.uint8),
    "one pixel": np.full((1, 1), 3.25, np.float32),
    "bands": np.random.default_rng(4).normal(size=(1500, 700)).astype(np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_differences_are_lossless_to_the_bit(name):
    array = ARRAYS[name]
    encoded = encode_deltas(array)
    back = decode_array(encoded)
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
    assert encoded == encode_deltas(np.asfortranarray(array))


@pytest.mark.parametrize("order", [*ORDERS, Order(0, 1), Order(0, 0), Order(1, 2), Order(2, 2)])
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=6),
    )
)
@settings(deadline=None, max_examples=30)
def test_every_order_is_undone(order, bits):
    kind = {1: np.uint8, 2: np.float16, 4: np.float32}[bits.itemsize]
    band, out = bits.view(kind), np.empty_like(bits.view(kind))
    from_planes(to_planes(band, order), order, out)
    assert out.tobytes() == band.tobytes()
    assert Order.of_code(order.code) == order


def test_a_room_is_half_of_what_zstd_alone_makes_of_it():
    depth = ARRAYS["depth"]
    assert len(encode_array(depth)) > 1.8 * len(encode_deltas(depth))


@given(st.integers(0, 1499), st.integers(1, 1500))
@settings(deadline=None, max_examples=30)
def test_rows_are_cropped_from_their_bands_alone(start, count):
    array, stop = ARRAYS["bands"], min(1500, start + count)
    assert np.array_equal(decode_array(BANDS, (start, stop)), array[start:stop])


BANDS = encode_deltas(ARRAYS["bands"])


def test_a_crop_does_not_read_the_other_bands():
    header = read_header(BANDS)
    damaged = bytearray(BANDS)
    damaged[header.offsets[-2] + 8] ^= 1
    assert decode_array(bytes(damaged), (0, header.rows_per_band)).size
    with pytest.raises(DataError):
        decode_array(bytes(damaged))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_flipped_bit_never_gives_another_depth(data):
    """The order too: the header has a checksum of its own."""
    array = ARRAYS["depth"][:40, :60]
    encoded = bytearray(encode_deltas(array))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        back = decode_array(bytes(encoded))
    except DataError:
        return
    assert np.array_equal(back, array)


def test_bands_of_another_size_than_they_claim_are_refused():
    array = ARRAYS["depth"]
    assert Order.of_code(0x12) == Order(2, 1)
    with pytest.raises(ValueError, match="no order of differences has the code 53"):
        Order.of_code(0x35)
    long, short = encode_deltas(array[:64]), bytearray(encode_deltas(array[:32]))
    first = read_header(bytes(short)).offsets[0]
    band = long[read_header(long).offsets[0] :]
    struct.pack_into("<I", short, first - 8, len(band))
    struct.pack_into("<I", short, first - 4, zlib.crc32(short[: first - 4]))
    with pytest.raises(DataError, match="its place holds"):
        decode_array(bytes(short[:first]) + band)


def test_octahedral_normals_are_within_the_stated_error():
    """Everywhere: on a grid of codes' corners, which are the worst there is, and at random."""
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[np.arange(0.5, LEVELS, 3.0)] * 2), -1) / LEVELS
    z = 1 - corners.sum(-1, keepdims=True)
    grids = [
        np.concatenate([corners, z], -1) * sign for sign in ((1, 1, 1), (-1, 1, 1), (1, -1, 1))
    ]
    vectors = np.concatenate([*grids, *[-grid for grid in grids], rng.normal(size=(99, 834, 3))])
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    back = from_octahedral(to_octahedral(vectors))
    assert back.dtype == np.float32 and np.allclose(np.linalg.norm(back, axis=-1), 1, atol=1e-6)
    chord = np.linalg.norm(back.astype(np.float64) - vectors, axis=-1)
    error_deg = np.degrees(2 * np.arcsin(chord / 2))
    assert 0.04 < error_deg.max() <= MAX_ERROR_DEG and error_deg[-99:].mean() < 0.02


def test_axes_are_exact_and_nothing_stays_nothing():
    vectors = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])[None]
    assert np.array_equal(from_octahedral(to_octahedral(vectors)), vectors)
    assert not to_octahedral(vectors)[0, -1].any()
    with pytest.raises(DataError, match="1 pixel is not finite"):
        to_octahedral(np.array([[[np.nan, 0, 0]]]))
    with pytest.raises(DataError, match="a code is 5002, octahedral ones end at 5001"):
        from_octahedral(np.full((1, 1, 2), 5002, np.uint16))


FORMAT = ROOT / "docs/reference/format.md"


def stranger_reader() -> dict:
    """The functions of the reader on the page of the format, and nothing else of it."""
    block = re.search(
        r"```python\n(import json, struct.*?)```", FORMAT.read_text(encoding="utf-8"), re.S
    )
    code = block[1].split("\nfor sample in")[0].replace(", webdataset", "")
    names: dict = {}
    exec(code, names)
    return names


@pytest.mark.parametrize("name", ARRAYS)
def test_a_stranger_reads_both_versions_by_the_pages_lines(name):
    array, read = ARRAYS[name], stranger_reader()["read_zst"]
    for data in (encode_deltas(array), encode_array(array)):
        found = read(data)
        assert found.dtype == array.dtype and found.tobytes() == array.tobytes()


def test_a_stranger_reads_normals_by_the_pages_lines():
    normals = directions().astype(np.float32)
    normals[:9] = 0
    data = encode_product("normal.oct.zst", normals)
    found = stranger_reader()["read_normals"](data)
    assert np.allclose(found, decode_product("normal.oct.zst", data), atol=1e-6)
    assert not found[:9].any() and product_size("normal.oct.zst", data) == (WIDTH, HEIGHT)


def test_forms_are_never_taken_for_each_other():
    depth = ARRAYS["depth"]
    old, new = encode_product("depth.zst", depth), encode_product("depth.delta.zst", depth)
    assert np.array_equal(decode_product("depth.zst", old), depth)  # of earlier datasets: as it was
    for suffix, data in (("depth.zst", new), ("depth.delta.zst", old), ("instance.zst", new)):
        with pytest.raises(DataError, match="this suffix does not stand for"):
            decode_product(suffix, data)
    codes = encode_product("normal.oct.zst", directions())
    assert decode_product("normal.oct.zst", codes, (3, 9)).shape == (6, WIDTH, 3)
    with pytest.raises(DataError, match="expected uint16 with 2 channels, its header says"):
        decode_product("normal.oct.zst", new)


def test_a_reader_of_before_refuses_what_it_cannot_read():
    """0.1's `read_header` takes version 1 only: the version of new bands is another."""
    assert encode_deltas(ARRAYS["depth"])[12] == 2 and encode_array(ARRAYS["depth"])[12] == 1


def test_half_depth_keeps_what_it_says_or_refuses():
    depth = ARRAYS["depth"]
    half = half_depth(depth)
    near = np.isfinite(depth)
    assert np.array_equal(np.isinf(half), ~near)
    error = np.abs(half[near].astype(np.float64) - depth[near]) / depth[near]
    assert error.max() <= 2**-11
    for wrong in (70_000.0, 1e-9):
        with pytest.raises(DataError, match=r"1 pixel, such as .* does not fit float16.*float32$"):
            half_depth(np.array([[1, wrong]], np.float32))


def test_depth_where_there_is_an_id_is_finite():
    labels = np.array([[0, 3], [7, 0]], np.uint16)
    good = np.array([[np.inf, 2], [1, 5]], np.float32)
    assert depth_faults(good, labels) == []
    assert depth_faults(good.T[::-1], labels) == [
        "depth: 1 pixel of instances is infinitely far, the first of id 7: only sky and id 0 may be"
    ]
    with pytest.raises(DataError, match="normal: expected unit vectors"):
        check_product("normal", np.full((2, 2, 3), np.nan, np.float32), 2, 2)


def test_the_docstring_names_the_suffixes_of_each_version():
    assert "`*.delta.zst`" in array_codec.__doc__ and "`*.oct.zst`" in array_codec.__doc__
