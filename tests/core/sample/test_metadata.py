"""The sample format: what is refused at the door, and what comes back."""

import json

import numpy as np
import pytest
import synthetic

from panoforge.core.errors import DataError
from panoforge.core.names import check_key
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import decode_meta, encode_meta
from panoforge.core.sample.products import check_product, decode_product, encode_product
from panoforge.core.storage.staged import list_staged, read_staged, write_staged


@pytest.fixture
def staged(tmp_path):
    key = synthetic.stage(tmp_path, 3, 1, 128)
    meta, members = read_staged(tmp_path, key)
    arrays = {
        suffix: decode_product(suffix, data)
        for suffix, data in members.items()
        if suffix != "meta.json"
    }
    return meta, arrays


def test_metadata_round_trip(staged):
    meta, _ = staged
    data = encode_meta(meta)
    assert decode_meta(data) == meta
    assert data.startswith(b'{"schema_version":1,')


BOX = {
    "center_m": [1, 2, 3],
    "size_m": [1, 0.5, 2],
    "world_from_box": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("visibility", 1.5, "visibility: Input should be less than or equal to 1"),
        ("visibility", -0.1, "visibility"),
        ("box_3d", BOX | {"size_m": [1, -1, 1]}, "box_3d.size_m.1"),
        (
            "box_3d",
            BOX | {"world_from_box": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]},
            "is not a rotation",
        ),
        (
            "box_3d",
            BOX | {"world_from_box": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]},
            "is not a rotation",
        ),
    ],
)
def test_what_an_instance_is_in_space_must_be_possible(staged, field, value, message):
    data = json.loads(encode_meta(staged[0]))
    data["instances"][0] |= {"box_3d": BOX, "visibility": 0.5}
    assert decode_meta(json.dumps(data).encode()).instances[0].visibility == 0.5
    data["instances"][0][field] = value
    with pytest.raises(DataError, match=message):
        decode_meta(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"width": "wide"}, "width"),
        ({"pose": {}}, "pose.position_m"),
    ],
)
def test_metadata_that_does_not_fit_is_named(staged, change, message):
    data = json.loads(encode_meta(staged[0])) | change
    with pytest.raises(DataError, match=message):
        decode_meta(json.dumps(data).encode())


@pytest.mark.parametrize("broken", ["labels", "size", "dtype", "missing", "depth", "rgb lost"])
def test_wrong_products_are_refused_and_nothing_is_staged(staged, tmp_path, broken):
    meta, arrays = staged
    arrays = dict(arrays)
    labels = arrays["instance.zst"].copy()
    if broken == "labels":
        labels[0, 0] = 77
        arrays["instance.zst"] = labels
    if broken == "size":
        arrays["rgb.jpg"] = arrays["rgb.jpg"][:-1]
    if broken == "dtype":
        arrays["instance.zst"] = labels.astype(np.int32)
    if broken == "missing":
        del arrays["depth.delta.zst"]
    if broken == "depth":
        arrays["depth.delta.zst"] = np.full_like(arrays["depth.delta.zst"], np.nan)
    if broken == "rgb lost":
        meta = meta.model_copy(update={"products": ("depth.delta.zst", "instance.zst")})
        del arrays["rgb.jpg"]
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises((DataError, ValueError)):
        write_staged(out, meta, arrays)
    assert list_staged(out) == [] and not list(out.iterdir())


def test_unnamed_ids_are_refused():
    with pytest.raises(DataError, match=r"ids that nothing names: \[2\]"):
        instance_table(np.array([[1, 2]], np.uint16), {1: InstanceLabel("a", "b", "c")})


def test_png_products_are_lossless():
    labels = np.arange(60000, dtype=np.uint16).reshape(200, 300)
    assert np.array_equal(
        decode_product("instance.png", encode_product("instance.png", labels)), labels
    )
    rgb = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    assert np.array_equal(decode_product("rgb.png", encode_product("rgb.png", rgb)), rgb)


def test_colour_is_rgb():
    red = np.zeros((16, 32, 3), np.uint8)
    red[..., 0] = 255
    assert decode_product("rgb.jpg", encode_product("rgb.jpg", red))[8, 8, 0] > 200


def test_image_bombs_are_refused_before_decoding():
    data = bytearray(encode_product("instance.png", np.zeros((2, 2), np.uint16)))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(DataError, match="over the cap"):
        decode_product("instance.png", bytes(data))


def test_other_member_types_are_never_decoded():
    with pytest.raises(DataError, match="nothing else is ever decoded"):
        decode_product("labels.pkl", b"cos\nsystem\n")


@pytest.mark.parametrize("key", ["a.b", "A", "", "-a", "a/b", "x" * 81])
def test_bad_keys_are_refused(key):
    with pytest.raises(DataError, match="sample key"):
        check_key(key)


def test_nan_depth_is_refused():
    with pytest.raises(DataError, match="positive metres"):
        check_product("depth", np.zeros((2, 4), np.float32), 4, 2)
