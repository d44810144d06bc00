"""Numbers of every pixel from .npy, .exr and PNG, and what is refused of them."""

import cv2
import numpy as np
import pytest

from panoforge.core.errors import DataError
from panoforge.core.foreign.planes import read_plane

DEPTH = np.linspace(0.1, 60, 32 * 64).reshape(32, 64)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16, np.int32])
def test_npy_comes_as_it_is(tmp_path, dtype):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(DEPTH.astype(dtype)))
    found = read_plane(path)
    assert found.dtype == dtype and np.array_equal(found, DEPTH.astype(dtype))


def test_png_keeps_its_integers(tmp_path):
    deep = (DEPTH * 1000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), deep)
    assert np.array_equal(read_plane(tmp_path / "d.png"), deep)
    colours = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "n.png"), colours[..., ::-1])
    assert np.array_equal(read_plane(tmp_path / "n.png", 3), colours)
    with pytest.raises(DataError, match="palette or grey"):
        read_plane(tmp_path / "n.png")


def test_exr_as_openexr_writes_it(tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    depth = DEPTH.astype(np.float32)
    openexr.File(header, {"Y": depth}).write(str(tmp_path / "d.exr"))
    assert np.array_equal(read_plane(tmp_path / "d.exr"), depth)
    planes = {name: depth * (k - 1) for k, name in enumerate("RGB")}
    openexr.File(header, dict(planes)).write(str(tmp_path / "n.exr"))
    found = read_plane(tmp_path / "n.exr", 3)
    assert np.array_equal(found, np.stack([planes[name] for name in "RGB"], axis=-1))
    with pytest.raises(DataError, match="expected one channel"):
        read_plane(tmp_path / "n.exr")
    with pytest.raises(DataError, match="expected channels R, G, B"):
        read_plane(tmp_path / "d.exr", 3)
    (tmp_path / "x.exr").write_bytes((tmp_path / "d.exr").read_bytes()[:50])
    with pytest.raises(DataError, match="no OpenEXR file"):
        read_plane(tmp_path / "x.exr")


def npy(path, header, body=b""):
    text = (header + " " * (63 - (len(header) + 10) % 64) + "\n").encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


def test_hostile_and_damaged_files_are_refused_before_anything_is_allocated(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="expected numbers, got object"):
        read_plane(path)
    npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (60000, 60000), }")
    with pytest.raises(DataError, match=r"claims 60000×60000 of float32, and holds 0 bytes"):
        read_plane(path)
    npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 8), }", b"\0" * 128)
    with pytest.raises(DataError, match="claims"):
        read_plane(path)
    npy(path, "{'descr': '|S4', 'fortran_order': False, 'shape': (4, 8), }", b"\0" * 128)
    with pytest.raises(DataError, match="expected numbers"):
        read_plane(path)
    npy(path, "__import__('os').abort()")
    with pytest.raises(DataError, match=r"no \.npy array"):
        read_plane(path)
    np.save(path, DEPTH)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="truncated"):
        read_plane(path)
    np.save(path, np.zeros((4, 8, 2)))
    for channels, form in ((0, "H×W, got 4×8×2"), (3, "H×W×3, got 4×8×2")):
        with pytest.raises(DataError, match=form):
            read_plane(path, channels)
    (tmp_path / "a.tiff").write_bytes(b"II")
    with pytest.raises(DataError, match=r"expected one of \.npy.*, got \.tiff: save it"):
        read_plane(tmp_path / "a.tiff")
