"""The array codec: round trips on adversarial arrays, row crops, plain zstd reads it, damage is an
error, caps hold.
"""

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from panoforge.core.errors import DataError
from panoforge.core.sample.array_codec import decode_array, encode_array, read_header

ADVERSARIAL = {
    "checkerboard": (np.indices((64, 128)).sum(0) % 2).astype(np.uint16),
    "65535 ids": np.arange(65536, dtype=np.uint16).reshape(256, 256),
    "all zero": np.zeros((300, 600), np.uint16),
    "one column": np.arange(500, dtype=np.uint16)[:, None],
    "one pixel": np.full((1, 1), 65535, np.uint16),
    "many bands": np.random.default_rng(0).integers(0, 9, (3000, 700)).astype(np.uint16),
    "depth": np.where(np.eye(40) > 0, np.inf, 1.5).astype(np.float32),
    "normal": np.random.default_rng(1).normal(size=(30, 60, 3)).astype(np.float16),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_round_trip(name):
    array = ADVERSARIAL[name]
    back = decode_array(encode_array(array))
    assert back.dtype == array.dtype and np.array_equal(back, array)


@settings(deadline=None)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip_of_any_label_map(array):
    assert np.array_equal(decode_array(encode_array(array)), array)


@given(st.integers(0, 2999), st.integers(1, 3000))
@settings(deadline=None, max_examples=40)
def test_row_crops(start, count):
    array = ADVERSARIAL["many bands"]
    stop = min(3000, start + count)
    assert np.array_equal(decode_array(ENCODED, (start, stop)), array[start:stop])


ENCODED = encode_array(ADVERSARIAL["many bands"])


def test_a_crop_decodes_only_its_bands():
    header = read_header(ENCODED)
    damaged = bytearray(ENCODED)
    damaged[header.offsets[-2] + 8] ^= 1  # the last band
    decode_array(bytes(damaged), (0, header.rows_per_band))
    with pytest.raises(DataError):
        decode_array(bytes(damaged))


def test_plain_zstd_reads_the_raw_array():
    raw = zstandard.ZstdDecompressor().stream_reader(ENCODED, read_across_frames=True).read()
    assert raw == ADVERSARIAL["many bands"].tobytes()


def test_encoding_is_deterministic():
    assert encode_array(ADVERSARIAL["65535 ids"]) == encode_array(
        ADVERSARIAL["65535 ids"].copy(order="F")
    )


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_flipped_bit_never_gives_another_array(data):
    array = ADVERSARIAL["depth"]
    encoded = bytearray(encode_array(array))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        back = decode_array(bytes(encoded))
    except DataError:
        return
    assert np.array_equal(back, array)  # e.g. the header's spare byte


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_garbage_is_refused_as_a_data_error(garbage, keep):
    with pytest.raises(DataError):
        decode_array(encode_array(ADVERSARIAL["all zero"])[:keep] + garbage)


def test_sizes_are_capped_before_allocating():
    encoded = bytearray(encode_array(np.zeros((4, 4), np.uint16)))
    struct.pack_into("<II", encoded, 16, 1 << 30, 1 << 30)
    with pytest.raises(DataError, match="claims shape"):
        decode_array(bytes(encoded))
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    header = bytearray(encode_array(np.zeros((4, 4), np.uint16)))
    first = read_header(bytes(header)).offsets[0]
    struct.pack_into("<I", header, first - 4, len(bomb))
    with pytest.raises(DataError, match="claims 16777216 bytes, its place holds 32"):
        decode_array(bytes(header[:first]) + bomb)


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="got int64"):
        encode_array(np.zeros((2, 2), np.int64))


def test_decoding_into_memory_that_is_there():
    labels = np.arange(64 * 128, dtype=np.uint16).reshape(64, 128)
    data, out = encode_array(labels), np.zeros((64, 128), np.uint16)
    assert np.shares_memory(decode_array(data, out=out), out) and np.array_equal(out, labels)
    for wrong in (
        np.zeros((64, 127), np.uint16),
        np.zeros((64, 128), np.uint8),
        np.zeros((128, 64), np.uint16).T,
    ):
        with pytest.raises(ValueError, match="out must be a C-ordered uint16"):
            decode_array(data, out=wrong)
    with pytest.raises(ValueError, match="for all rows"):
        decode_array(data, (0, 8), out=out)
