"""Members that expand to gigabytes, and tar headers of other kinds: every verb that reads a dataset
says so in one line, in a child process that must not take a gigabyte.

Digests, indices and sizes are right: it is what an attacker would send.
"""

import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import synthetic
import zstandard
from hostile_dataset import rewrite_sample
from hostile_pictures import scans_jpeg
from verbs_in_a_child import run_verbs

from panoforge.core.errors import DataError
from panoforge.core.sample.array_codec import encode_array
from panoforge.core.shards.repair import repair
from panoforge.core.shards.tar import walk
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions

OPTIONS = PackOptions(20_000, (("train", 1.0),))


def zeros(shape: tuple[int, ...], dtype: str) -> bytes:
    """An encoded array of zeros of any size, without ever making it."""
    real = encode_array(np.zeros((8, 16), "uint16"))
    head = struct.Struct("<II4sBBBB3III")
    magic, _, name, version, *_ = head.unpack_from(real)
    code = ("uint8", "uint16", "float16", "float32").index(dtype)
    row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = max(1, (1 << 20) // row)
    bands = -(-shape[0] // rows)
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(rows * row))
    last = zstandard.ZstdCompressor(write_checksum=True).compress(
        bytes((shape[0] - (bands - 1) * rows) * row)
    )
    frames = [whole] * (bands - 1) + [last]
    sizes = struct.pack(f"<{bands}I", *map(len, frames))
    begin = head.pack(
        magic, head.size - 8 + len(sizes), name, version, code, len(shape), 0,
        *(*shape, 0)[:3], rows, bands,
    )  # fmt: skip
    return begin + sizes + b"".join(frames)


BOMBS = {
    "ids of 16K": ("instance.zst", lambda: zeros((8192, 16384), "uint16")),
    "ids as floats": ("instance.zst", lambda: zeros((8192, 16384, 4), "float32")),
    "depth with channels": ("depth.delta.zst", lambda: zeros((8192, 16384, 4), "float32")),
    "a huge frame": (
        "instance.zst",
        lambda: (
            encode_array(np.zeros((32, 64), "uint16"))[:36]
            + zstandard.ZstdCompressor().compress(bytes(1 << 28))
        ),
    ),
    "a picture of hours": ("rgb.jpg", lambda: scans_jpeg(3000)),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    synthetic.dataset(folder, scenes=2, cameras=1, width=64, n_caps=3, options=OPTIONS)
    return folder


def test_arrays_of_zeros_are_what_the_codec_writes():
    assert zeros((8, 16), "uint16") == encode_array(np.zeros((8, 16), "uint16"), level=3)


def test_no_member_expands_to_gigabytes(clean, tmp_path):
    words, expected = [], []
    for number, (suffix, make) in enumerate(BOMBS.values()):
        folder = tmp_path / str(number)
        dataset = shutil.copytree(clean / "dataset", folder / "dataset")
        rewrite_sample(dataset, lambda members, s=suffix, m=make: members.update({s: m()}))
        words += [
            ["verify", str(dataset)],  # finds each before any other verb trusts it
            ["verify", str(dataset), "--deep"],
            ["stats", str(dataset), "--out", str(folder / "stats")],
            ["export", str(dataset), str(folder / "davis"), "--to", "davis"],
        ]
        expected += [1, 1, 1, 0 if suffix.startswith("depth") else 1]  # davis has no depth
    done = run_verbs(words)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.codes == expected, done.stderr
    assert done.peak_bytes < 600 << 20


# ---------------------------------------------------------------- tar headers


def other_header(kind: bytes, **fields: object) -> bytes:
    info = tarfile.TarInfo("caps-000000-c0.meta.json")
    info.type, info.mode = kind, 0o644
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


def with_size(field: bytes) -> bytes:
    """A header whose size field holds these 12 bytes, its checksum right."""
    block = bytearray(other_header(tarfile.REGTYPE))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HEADERS = {
    "a hard link": other_header(tarfile.LNKTYPE, linkname="../../victim"),
    "a symbolic link": other_header(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a device": other_header(tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": other_header(tarfile.FIFOTYPE),
    "a folder": other_header(tarfile.DIRTYPE),
    "GNU's long name": other_header(tarfile.GNUTYPE_LONGNAME, name="././@LongLink", size=512),
    "GNU's long link": other_header(tarfile.GNUTYPE_LONGLINK, name="././@LongLink", size=512),
    "GNU's sparse file": other_header(tarfile.GNUTYPE_SPARSE, size=10),
    "PAX of a member": other_header(tarfile.XHDTYPE, size=512),
    "PAX of all": other_header(tarfile.XGLTYPE, size=512),
    "a negative size": with_size(b"\xff" * 12),
    "a size of 2^70 in base 256": with_size(b"\x80\x00\x00\x40" + bytes(8)),
    "a size of 8 GiB": with_size(b"77777777777\0"),
    "a size of no digits": with_size(b"-0000000001\0"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_other_kinds_are_refused_and_repaired(clean, tmp_path, kind):
    """Put before the first sample, with digests that fit: verify finds it, repair moves it away and
    keeps what is whole, nothing is made outside.
    """
    dataset = shutil.copytree(clean / "dataset", tmp_path / "dataset")
    shard = sorted((dataset / "shards").iterdir())[0]
    data = shard.read_bytes()
    shard.write_bytes(HEADERS[kind] + bytes(512) + data)
    with open(shard, "rb") as file, pytest.raises(DataError, match="byte 0: "):
        list(walk(file, 1 << 20))
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(dataset)}
    assert verify(dataset).faults
    repair(dataset)
    assert verify(dataset, deep=True).faults == ()
    assert before == {p for p in tmp_path.rglob("*") if not p.is_relative_to(dataset)}
    kept = [p for p in dataset.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    assert kept == []
