"""`pano preview`: the pictures are those of the arrays, of samples and of videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
import videos

from panoforge.core.errors import DataError, UsageError
from panoforge.core.preview import preview
from panoforge.core.report.maps import depth_colours, flow_colours, normal_colours
from panoforge.core.report.pictures import NOTHING_RGB, colour_ids
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, Flow
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.lease import InUse, held


def picture(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_a_sample_as_pictures(caps_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(caps_dataset)
    key = dataset.keys[3]
    sample = dataset.by_key(key)
    paths = preview(dataset, key, tmp_path)
    made = {path.name.removeprefix(f"{key}."): path for path in paths}
    products = {"depth": "depth.jpg", "normal": "normals.jpg"}
    has = {suffix.partition(".")[0] for suffix in sample.meta.products}
    extra = {name for product, name in products.items() if product in has}
    assert set(made) == {"jpg", "ids.png", "over.jpg", "html"} | extra
    assert np.array_equal(picture(made["ids.png"]), colour_ids(sample.read("instance")))
    shown = picture(made["jpg"]).astype(int)
    assert np.abs(shown - sample.read("rgb")).mean() < 3
    assert ("In space" in made["html"].read_text(encoding="utf-8")) == ("depth" in has)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        path.name for path in paths
    )


def test_pictures_are_made_smaller_never_larger(caps_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(caps_dataset)
    for width, expected in ((100, 100), (4000, 256)):
        for path in preview(dataset, dataset.keys[0], tmp_path, width):
            if path.suffix != ".html":
                assert picture(path).shape == (expected // 2, expected, 3)


def test_a_video_as_a_strip_with_ids_and_flow(tmp_path: Path) -> None:
    dataset = videos.dataset_of_videos(tmp_path / "v")
    opened = Dataset.open(dataset if isinstance(dataset, Path) else tmp_path / "v/dataset")
    key = opened.videos["video"][0].as_py()
    (path,) = preview(opened, None, tmp_path / "out", 300)  # the first video
    assert path.name == f"{key}.strip.jpg"
    strip = picture(path)
    assert strip.shape == (4 * 50, 300, 3)
    frames = opened.video(key).frame_keys
    ids = colour_ids(opened.by_key(frames[0]).read("instance"))
    small = cv2.resize(ids, (100, 50), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(strip[:50, 100:200] - small).mean() < 8
    found = {p.name for p in preview(opened, frames[1], tmp_path / "out")}
    assert f"{frames[1]}.flow.jpg" in found


def test_what_cannot_be_looked_at_is_said(caps_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(caps_dataset)
    with pytest.raises(UsageError, match="has no sample 'x'"):
        preview(dataset, "x", tmp_path)
    with held(tmp_path, "another preview"), pytest.raises(InUse, match="another preview"):
        preview(dataset, dataset.keys[0], tmp_path)
    broken = synthetic.dataset(tmp_path / "broken", scenes=1, cameras=1)
    shard = next((broken / "shards").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    opened = Dataset.open(broken)
    with pytest.raises(DataError):
        preview(opened, None, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_near_is_bright_and_sky_is_dark() -> None:
    depth = np.array([[0.3, 1.0, 10.0, np.inf]], np.float32)
    light = depth_colours(depth, 10.0).astype(int).sum(-1)[0]
    assert light[0] > light[1] > light[2]
    assert tuple(depth_colours(depth, 10.0)[0, 3]) == NOTHING_RGB


def test_normals_are_colours_of_their_axes() -> None:
    axes = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]], np.float32)
    assert normal_colours(axes)[0].tolist() == [
        [255, 128, 128], [128, 255, 128], [128, 128, 255], [128, 128, 128],
    ]  # fmt: skip


def test_flow_is_hue_by_direction_and_strength_by_angle() -> None:
    """Right and left have opposite hues; a long way at the pole is a short one on the sphere."""
    move = np.zeros((32, 64, 2), np.float32)
    move[14:18, :20, 0], move[14:18, 20:40, 0] = 4, -4
    move[0, :, 0] = 4  # as many columns, next to the pole
    state = np.zeros((32, 64), np.uint8)
    state[15, :5], state[15, 5:10] = HIDDEN, UNKNOWN
    found = flow_colours(Flow(move, state)).astype(int)
    right, left, still, pole = found[14, 0], found[14, 30], found[20, 50], found[0, 0]
    assert still.tolist() == [255] * 3
    assert right[0] > 200 > right[1] and left[0] < 60 < left[1]
    assert (255 - pole).sum() < 0.5 * (255 - right).sum()
    assert (found[15, 0] < right + 1).all() and found[15, 0].sum() < 0.6 * right.sum()
    assert tuple(found[15, 5]) == NOTHING_RGB
