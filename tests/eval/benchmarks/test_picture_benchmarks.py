"""Each picture benchmark's loader on a tiny tree in the official layout, made here."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from official_trees import WIDTH, coco, only, palette, same_instances, write

from panoforge.core.errors import DataError
from panoforge.core.export import export
from panoforge.core.shards.read import Dataset
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.config import BenchmarkName


def test_folder_with_id_maps_of_every_kind(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    colours = np.random.default_rng(1).integers(1, 256, (256, 3)).astype(np.uint8)
    colours[0] = 0
    for name, mask in (
        ("grey", labels.astype(np.uint8)),
        ("deep", labels * 300),
        ("colour", colours[labels]),
    ):
        write(tmp_path / "images" / f"{name}.png", rgb)
        write(tmp_path / "masks" / f"{name}.png", mask)
    write(tmp_path / "images/pal.png", rgb)
    palette(tmp_path / "masks/pal.png", labels)
    items = open_benchmark(get_benchmark("folder"), tmp_path, None)
    assert [item.key for item in items] == ["colour", "deep", "grey", "pal"]
    for item in items:
        image, found, *_ = item.read()
        np.testing.assert_array_equal(image, rgb)
        same_instances(found, labels)
    (tmp_path / "masks/pal.png").unlink()
    with pytest.raises(DataError, match=r"(?s)pal\.png has no masks/pal\.png.*W = 2·H"):
        open_benchmark(get_benchmark("folder"), tmp_path, None)
    write(tmp_path / "masks/pal.png", labels[:10].astype(np.uint8))
    with pytest.raises(DataError, match=r"is 128×64, its id map .*pal\.png is 128×10"):
        open_benchmark(get_benchmark("folder"), tmp_path, None)[-1].read()


def test_folder_takes_our_own_coco_as_it_was_exported(tmp_path: Path, caps_dataset: Path) -> None:
    opened = Dataset.open(caps_dataset)
    export(opened, "coco", tmp_path / "coco")
    items = open_benchmark(get_benchmark("folder"), tmp_path / "coco", None)
    assert len(items) == len(opened)
    by_key = {sample.key: sample for sample in opened}
    for item in items:
        same_instances(item.read().labels, by_key[item.key].read("instance"))


def test_coco_and_hunyuanworld(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    write(tmp_path / "case1/panorama.png", rgb)
    (tmp_path / "case1/annotations.json").write_text(json.dumps(coco(labels, "panorama.png")))
    write(tmp_path / "case2/panorama.png", rgb)
    write(tmp_path / "case2/instance.png", labels)
    one, two = open_benchmark(get_benchmark("hunyuanworld"), tmp_path, None)
    assert (one.key, two.key) == ("case1", "case2")
    _, found, names, _ = one.read()
    assert set(names.values()) == {"sofa", "lamp"} and len(names) == found.max()
    boxed = np.zeros(labels.shape, bool)
    boxed[10:20, 10:30] = True  # as pycocotools fills it
    same_instances(np.where(boxed, 0, found), np.where(boxed, 0, labels))
    same_instances(two.read()[1], labels)
    (tmp_path / "case2/instance.png").unlink()
    with pytest.raises(DataError, match=r"case2 has neither instance\.png"):
        open_benchmark(get_benchmark("hunyuanworld"), tmp_path, None)
    (tmp_path / "case1/annotations.json").write_text(json.dumps({"images": []}))
    (tmp_path / "case2/panorama.png").unlink()
    with pytest.raises(DataError, match="not COCO instances: expected a list of annotations"):
        open_benchmark(get_benchmark("hunyuanworld"), tmp_path, None)


def test_structured3d(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    room = tmp_path / "scene_00012/2D_rendering/834/panorama/full"
    write(room / "rgb_rawlight.png", rgb)
    write(
        room / "instance.png", np.where(labels == 0, 65535, labels - 1).astype(np.uint16)
    )  # 0 is an instance
    item = only("structured3d", tmp_path)
    assert item.key == "scene_00012_834"
    same_instances(item.read()[1], labels)
    with pytest.raises(DataError, match="expected folders scene_00000"):
        open_benchmark(get_benchmark("structured3d"), tmp_path / "scene_00012", None)


def test_stanford2d3d(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    names = [
        "<UNK>_0_<UNK>_0_0",
        "chair_1_office_1_1",
        "table_2_office_1_1",
        "chair_2_office_1_1",
        "wall_1_office_1_1",
    ]
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/semantic_labels.json").write_text(json.dumps(names))
    colour = np.zeros((*labels.shape, 3), np.uint8)
    colour[..., 2] = labels  # index k as (0, 0, k)
    colour[:4] = 0x0D
    stem = "camera_ab_office_1_frame_equirectangular_domain"
    write(tmp_path / f"area_1/pano/rgb/{stem}_rgb.png", rgb)
    write(tmp_path / f"area_1/pano/semantic/{stem}_semantic.png", colour)
    _, found, categories, _ = only("stanford2d3d", tmp_path).read()
    same_instances(found[4:], labels[4:])
    assert (
        not found[:4].any()
        and sorted(categories.values()) == ["chair", "chair", "table", "wall"][: found.max()]
    )
    (tmp_path / "assets/semantic_labels.json").write_text(json.dumps(names[:2]))
    with pytest.raises(DataError, match="not of one release"):
        only("stanford2d3d", tmp_path).read()


def test_pavsod_in_all_three_forms(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    for sequence in ("_a", "_b", "_c"):
        write(tmp_path / f"frame_key/{sequence}/00012.png", rgb)
    palette(tmp_path / "instance/test/_a/00012.png", labels)
    for id_ in range(1, labels.max() + 1):
        write(
            tmp_path / f"instance/test/_b/00012/{id_}.png", (labels == id_).astype(np.uint8) * 255
        )
        write(
            tmp_path / f"instance/test/_c/{id_}/00012.png", (labels == id_).astype(np.uint8) * 255
        )
    items = open_benchmark(get_benchmark("pavsod"), tmp_path, "test")
    assert [item.key for item in items] == ["_a_00012", "_b_00012", "_c_00012"]
    for item in items:
        same_instances(item.read()[1], labels)
    (tmp_path / "frame_key/_b/00012.png").rename(tmp_path / "frame_key/_b/00013.png")
    with pytest.raises(
        DataError, match=r"of a frame that is not there: make the frames with video_to_frames\.py"
    ):
        open_benchmark(get_benchmark("pavsod"), tmp_path, "test")[1].read()
    (tmp_path / "frame_key/_b/00013.png").unlink()
    with pytest.raises(DataError, match=r"has masks, and .* no frames"):
        open_benchmark(get_benchmark("pavsod"), tmp_path, "test")


def test_pavsodr(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    for t in range(3):
        write(tmp_path / f"train/JPEGImages/_v/{t:05d}.png", rgb)
    annotations = [
        {
            "id": a["id"],
            "video_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "rank": 1,
            "segmentations": [a["segmentation"], None, None],
        }
        for a in coco(labels, "")["annotations"][:-1]
    ]
    names = [f"_v/{t:05d}.png" for t in range(3)]
    document = {
        "videos": [{"id": 1, "file_names": names, "length": 3, "height": 64, "width": WIDTH}],
        "annotations": annotations,
    }
    (tmp_path / "train.json").write_text(json.dumps(document))
    item = only("pavsodr", tmp_path, "train")
    assert item.key == "_v_00000"
    same_instances(item.read()[1], labels)
    with pytest.raises(DataError, match=r"expected test\.json"):
        open_benchmark(get_benchmark("pavsodr"), tmp_path, None)


def test_pavsodr_pairs_names_in_their_order_with_segmentations(
    tmp_path: Path, picture: tuple
) -> None:
    """As its authors load it: file_names are sorted, segmentations are not."""
    rgb, labels = picture
    for t in range(3):
        write(tmp_path / f"train/JPEGImages/_v/{t:05d}.png", rgb)
    runs = [a["segmentation"] for a in coco(labels, "")["annotations"][:2]]
    annotation = {"id": 1, "video_id": 1, "rank": 1, "segmentations": [runs[0], None, runs[1]]}
    names = [f"_v/{t:05d}.png" for t in (2, 0, 1)]
    document = {"videos": [{"id": 1, "file_names": names}], "annotations": [annotation]}
    (tmp_path / "train.json").write_text(json.dumps(document))
    items = open_benchmark(get_benchmark("pavsodr"), tmp_path, "train")
    assert [item.key for item in items] == ["_v_00000", "_v_00002"]
    ids = [a["id"] for a in coco(labels, "")["annotations"][:2]]
    for item, id_ in zip(items, ids, strict=True):
        assert np.array_equal(item.read()[1] > 0, labels == id_)


@pytest.mark.parametrize("name", get_args(BenchmarkName))
def test_an_empty_or_missing_folder_is_told_where_the_data_are(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError) as caught:
            open_benchmark(get_benchmark(name), root, None)
        assert (
            "Where to get it:" in str(caught.value)
            and "Licence:" in str(caught.value)
            and str(root) in str(caught.value)
        )


def test_coco_file_names_hold_folders(tmp_path: Path, picture: tuple) -> None:
    """Case 06: images/night/0001.png is read where images/0001.png lies beside it."""
    rgb, labels = picture
    write(tmp_path / "images/0001.png", rgb[::-1])
    write(tmp_path / "images/night/0001.png", rgb)
    (tmp_path / "annotations.json").write_text(json.dumps(coco(labels, "night/0001.png")))
    item = only("folder", tmp_path)
    assert item.key == "night_0001"
    np.testing.assert_array_equal(item.read()[0], rgb)
