"""Whatever a sample says twice is compared: a packer that lies in one place is found by verify."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import synthetic

from panoforge.core.errors import DataError
from panoforge.core.sample.array_codec import encode_array
from panoforge.core.shards import build
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack

OPTIONS = PackOptions(splits=(("train", 1.0),))
KEY = "caps-000001-c0"


def swap_rles(meta: dict[str, Any]) -> None:
    a, b = meta["instances"][0], meta["instances"][1]
    a["rle"], b["rle"] = b["rle"], a["rle"]


def shift_rle(meta: dict[str, Any]) -> None:
    meta["instances"][0]["rle"]["counts"] = meta["instances"][1]["rle"]["counts"]


LIES = {
    "RLEs are swapped": swap_rles,
    "an RLE is another's": shift_rle,
    "an RLE is garbage": lambda m: m["instances"][0]["rle"].update(counts="~~~~\x7f"),
    "an RLE is empty": lambda m: m["instances"][0]["rle"].update(counts=""),
    "an RLE is huge": lambda m: m["instances"][0]["rle"].update(size=[65535, 65535]),
    "a count": lambda m: m["instances"][0].update(pixels=m["instances"][0]["pixels"] + 1),
    "an area": lambda m: m["instances"][0].update(area_sr=m["instances"][0]["area_sr"] * 1.01),
    "a box": lambda m: m["instances"][0]["box"].update(u0=m["instances"][0]["box"]["u0"] ^ 1),
    "seam is claimed": lambda m: m["instances"][2].update(flags=["seam"]),
    "seam is left out": lambda m: m["instances"][0].update(flags=[]),
    "a heading": lambda m: m["pose"].update(yaw_deg=0.01),
    "a rotation": lambda m: m["pose"].update(world_from_pano=[[0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "no rotation": lambda m: m["pose"].update(world_from_pano=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]),
    "pole is left out": lambda m: m["instances"][1].update(flags=[]),
}


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    for scene in range(2):
        synthetic.stage(tmp_path / "staged", scene, 0, 64, n_caps=3, rle=True)
    return tmp_path / "staged"


def faults_of(staged: Path) -> set[str | None]:
    pack(staged, staged.parent / "dataset", OPTIONS)
    return {fault.sample for fault in verify(staged.parent / "dataset").faults}


def test_the_truth_passes(staged):
    assert faults_of(staged) == set()


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_the_metadata_is_found_without_a_deep_look(staged, lie):
    path = staged / KEY / "meta.json"
    meta = json.loads(path.read_text())
    LIES[lie](meta)
    path.write_text(json.dumps(meta))
    assert faults_of(staged) == {KEY}


@pytest.mark.parametrize("member", ["rgb.jpg", "depth.delta.zst"])
def test_a_product_of_another_size_is_found_without_a_deep_look(staged, member, monkeypatch):
    """Refused by our packer; found where another packed it."""
    small = np.ones((16, 32), np.float32)
    data = (
        encode_array(small)
        if member.endswith(".zst")
        else cv2.imencode(".jpg", small.astype(np.uint8))[1].tobytes()
    )
    (staged / KEY / member).write_bytes(data)
    with pytest.raises(DataError, match=rf"{KEY}/{member}: 32×16, its metadata say 64×32"):
        faults_of(staged)
    monkeypatch.setattr(build, "product_size", lambda suffix, data: (64, 32))
    assert faults_of(staged) == {KEY}


@pytest.mark.parametrize("member", ["instance.zst", "depth.delta.zst"])
def test_a_staged_member_that_was_cut_is_not_packed(staged, member):
    """Its header says so; nothing is decoded, nothing is left behind."""
    path = staged / KEY / member
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{KEY}/{member}: encoded array is"):
        pack(staged, staged.parent / "dataset", OPTIONS)
    assert not (staged.parent / "dataset").exists()
