"""Other people's zstd readers on our `.zst` members: what the array codec's docstring promises."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from panoforge.core.sample import array_codec
from panoforge.core.sample.array_codec import encode_array, read_header


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Of several bands, one of them short."""
    array = np.random.default_rng(0).integers(0, 50, (700, 2048)).astype(np.uint16)
    assert len(read_header(encode_array(array)).offsets) - 1 == 3
    return array


def command_line(data: bytes, path: Path, raw: int) -> bytes:
    if not shutil.which("zstd"):
        pytest.skip("no zstd command here")
    return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout


def numcodecs(data: bytes, path: Path, raw: int) -> bytes:
    return pytest.importorskip("numcodecs", "0.16.6").Zstd().decode(data)


READERS = {
    "numcodecs": numcodecs,
    "zstd -dc": command_line,
    "zstandard.open": lambda data, path, raw: zstandard.open(path).read(),
    "zstandard stream_reader": lambda data, path, raw: (
        zstandard.ZstdDecompressor().stream_reader(data).read()
    ),
    "pyarrow stream": lambda data, path, raw: pa.CompressedInputStream(
        pa.BufferReader(data), "zstd"
    ).read(),
    "pyarrow one-shot": lambda data, path, raw: pa.decompress(
        data, decompressed_size=raw, codec="zstd", asbytes=True
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_others_read_the_raw_array(labels, tmp_path, reader):
    data = encode_array(labels)
    path = tmp_path / "x.instance.zst"
    path.write_bytes(data)
    assert READERS[reader](data, path, labels.nbytes) == labels.tobytes()


def test_the_one_shot_reader_refuses_and_never_gives_a_part(labels):
    """Were the skippable frame last, it would give the first band and say nothing."""
    data = encode_array(labels)
    with pytest.raises(zstandard.ZstdError):
        zstandard.decompress(data)
    first = read_header(data).offsets[0]
    assert len(zstandard.decompress(data[first:] + data[:first])) < labels.nbytes


def test_the_recipes_of_the_docstring_are_these():
    recipes = re.findall(
        r"^    (zstd -dc|zstandard\S+?\(|pyarrow\S+?\(|numcodecs\S+?\()", array_codec.__doc__, re.M
    )
    assert len(recipes) == len(READERS)
