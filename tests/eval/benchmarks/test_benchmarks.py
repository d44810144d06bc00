"""Every benchmark's loader on a tiny tree in the official layout, made here; and what a wrong
layout is told.
"""

import html
import json
import shutil
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import synthetic
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError, UsageError
from panoforge.core.export import export
from panoforge.core.shards.read import Dataset
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.leader360v_labels import NAMES, canonical
from panoforge.eval.benchmarks.vots360 import open_tracks, read_tracker
from panoforge.eval.config import BenchmarkName, EvalConfig
from panoforge.eval.panoramas import open_panoramas
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.metrics.tracking import score_of, success_dual

WIDTH = 128


@pytest.fixture(scope="module")
def picture() -> tuple[np.ndarray, np.ndarray]:
    return synthetic.caps(np.random.default_rng(0), WIDTH, 4)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def palette(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8), mode="P")
    image.putpalette([7 * k % 256 for k in range(768)])
    image.save(path)


def only(name: str, root: Path, split: str | None = None):
    (item,) = open_benchmark(get_benchmark(name), root, split)
    return item


def same_instances(found: np.ndarray, expected: np.ndarray) -> None:
    """The same regions, whatever their numbers."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()], axis=1), axis=0)
    assert (
        len(pairs) == len(np.unique(found)) == len(np.unique(expected)) and [0, 0] in pairs.tolist()
    )


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


def coco(labels: np.ndarray, name: str) -> dict:
    annotations = []
    for id_ in range(1, int(labels.max()) + 1):
        rle = coco_mask.encode(np.asfortranarray((labels == id_).astype(np.uint8)))
        annotations.append(
            {
                "id": id_,
                "image_id": 5,
                "category_id": 1 + id_ % 2,
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    square = [10, 10, 30, 10, 30, 20, 10, 20]
    annotations.append(
        {"id": 90, "image_id": 5, "category_id": 1, "iscrowd": 0, "segmentation": [square]}
    )
    return {
        "images": [{"id": 5, "file_name": name}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "sofa"}, {"id": 2, "name": "lamp"}],
    }


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


def video_tree(root: Path, picture: tuple, frames: int = 4, annotated: int = 4) -> None:
    rgb, labels = picture
    for t in range(frames):
        write(root / f"train/JPEGImages/dog/{t + 3:05d}.jpg", np.roll(rgb, 3 * t, axis=1))
        if t < annotated:
            palette(root / f"train/Annotations/dog/{t + 3:05d}.png", np.roll(labels, 3 * t, axis=1))


def test_panovos(tmp_path: Path, picture: tuple) -> None:
    video_tree(tmp_path, picture, frames=5, annotated=3)
    item = only("panovos", tmp_path, "train")
    assert [path.name for path in item.images] == [f"{t:05d}.jpg" for t in range(3, 8)]
    assert [mask is not None for mask in item.masks] == [True, True, True, False, False]
    for id_, mask in item.masks[1]().items():
        np.testing.assert_array_equal(mask, np.roll(picture[1] == id_, 3, axis=1))
    video_tree(tmp_path / "still", picture, frames=3, annotated=1)
    (still,) = open_benchmark(get_benchmark("panovos"), tmp_path / "still", "train")
    assert [mask is not None for mask in still.masks] == [True, False, False]
    palette(tmp_path / "still/train/Annotations/cat/00000.png", picture[1])
    palette(tmp_path / "still/train/Annotations/cat/00001.png", picture[1])
    for t in range(2):
        write(tmp_path / f"still/train/JPEGImages/cat/{t:05d}.jpg", picture[0])
    with pytest.raises(DataError, match=r"1 video of 2 with a mask for one frame only.*CodaLab"):
        open_benchmark(get_benchmark("panovos"), tmp_path / "still", "train")
    with pytest.raises(DataError, match="has no split val or valid"):
        open_benchmark(get_benchmark("panovos"), tmp_path, "val")


def test_360vos_and_360vot(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    for t in range(3):
        write(tmp_path / f"0117/image/{t:06d}.jpg", rgb)
        write(tmp_path / f"0117/mask/{t:06d}_0.png", (labels == 1).astype(np.uint8) * 255)
    item = only("360vos", tmp_path)
    np.testing.assert_array_equal(item.masks[0]()[1], labels == 1)
    assert "97 of the 170" in get_benchmark("360vos").warning
    document = {
        f"{t:06d}.jpg": {
            "bfov": {"clon": 3.0 * t, "clat": -10.0, "fov_h": 20.0, "fov_v": 10.0, "rotation": 0},
            "bbox": {
                "cx": -2.0 + 4 * t,
                "cy": 30.0,
                "w": 8.0 if t < 2 else 0,
                "h": 6.0,
                "rotation": 0,
            },
        }
        for t in range(3)
    }
    (tmp_path / "0117/label.json").write_text(json.dumps(document))
    (track,) = open_tracks(tmp_path)
    assert track.present.tolist() == [True, True, False] and track.boxes[0].tolist() == [
        -6.0,
        27.0,
        8.0,
        6.0,
    ]
    assert track.bfovs[1].tolist() == [3.0, -10.0, 20.0, 10.0, 0.0]
    (tmp_path / "r.txt").write_text("122,27,8,6\n-2 27 8 6\n0,0,0,0\n")
    boxes = read_tracker(tmp_path / "r.txt", 3, 4)
    assert (
        success_dual(boxes, track.boxes, track.present, WIDTH)[:-1].min() == 1.0
    )  # the first is a turn away
    assert (
        score_of(
            success_dual(track.boxes, track.boxes, track.present, WIDTH, "official"), "success"
        )
        < 0.7
    )
    with pytest.raises(DataError, match="has 3 lines, expected 2 of 4 numbers"):
        read_tracker(tmp_path / "r.txt", 2, 4)
    (tmp_path / "0117/image/000002.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 frame of label\.json, first 000002\.jpg"):
        open_tracks(tmp_path)


def labelme_video(root: Path, picture: tuple) -> None:
    """A car in two pieces (group 7) and a tree without a group, in two frames."""
    for t in (2, 10):
        write(root / f"street/0001/frame_{t}.png", picture[0])
        car = [[10 + t, 10], [40 + t, 10], [40 + t, 30], [10 + t, 30]]
        shapes = [
            {"label": "car", "group_id": 7, "shape_type": "polygon", "points": car},
            {
                "label": "tree",
                "group_id": None,
                "shape_type": "polygon",
                "points": [[60, 5], [90, 5], [75, 40]],
            },
            {
                "label": "car",
                "group_id": 7,
                "shape_type": "polygon",
                "points": [[100, 10], [110, 10], [110, 20]],
            },
        ]
        document = {"version": "5.6.0", "shapes": shapes, "imageHeight": 64, "imageWidth": WIDTH}
        (root / f"street/0001/frame_{t}.json").write_text(json.dumps(document))


def test_leader360v(tmp_path: Path, picture: tuple) -> None:
    labelme_video(tmp_path, picture)
    item = only("leader360v", tmp_path)
    assert [path.name for path in item.images] == [
        "frame_2.png",
        "frame_10.png",
    ]  # by number, not by name
    first, second = item.masks[0](), item.masks[1]()
    assert (
        sorted(first) == [1, 2] and first[1][15, 15] and first[1][15, 109] and not first[2][15, 15]
    )
    assert not second[1][15, 15] and second[1][15, 25]
    (tmp_path / "street/0001/frame_10.json").write_text("{}")
    with pytest.raises(DataError, match="not LabelMe JSON"):
        open_benchmark(get_benchmark("leader360v"), tmp_path, None)


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


def config(**changes: object) -> EvalConfig:
    base = {
        "predictor": "ground_truth",
        "methods": ["scan_zoom"],
        "scan": {"size_px": 64},
        "device": "cpu",
        "report_panoramas": 1,
        "model": {"size": "tiny", "image_size": 64, "checkpoint": "random"},
        "instances": {"min_pixels": 8},
    }
    return EvalConfig.model_validate({**base, **changes})


def test_an_image_benchmark_is_scored_like_a_dataset(tmp_path: Path, picture: tuple) -> None:
    rgb, labels = picture
    for name in ("a", "b"):
        write(tmp_path / f"data/images/{name}.png", rgb)
        write(tmp_path / f"data/masks/{name}.png", labels)
    scored = config(benchmark="folder", root=tmp_path / "data")
    results = run_evaluation(scored, tmp_path / "unused", tmp_path / "out").results
    (ceiling,) = [s for s in results["scores"] if s["role"] == "ceiling"]
    assert (
        ceiling["miou"] > 0.9
        and ceiling["panoramas"] == 2
        and results["dataset"]["name"] == "folder"
    )
    assert (
        any("2 panoramas" in line for line in as_lines(results))
        and (tmp_path / "out/eval/latest/report.html").exists()
    )
    with pytest.raises(UsageError, match=r"needs root=DIR.*Where to get it"):
        run_evaluation(config(benchmark="folder"), tmp_path, tmp_path / "out")
    write(tmp_path / "data/images/c.png", rgb[:, :90])
    write(tmp_path / "data/masks/c.png", labels[:, :90])
    with pytest.raises(
        DataError, match=r"c\.png: 90×64 is no equirectangular panorama: it must be twice as wide"
    ):
        run_evaluation(scored, tmp_path / "unused", tmp_path / "out")


def test_a_video_benchmark_is_scored_and_goes_on_where_it_stopped(
    tmp_path: Path, picture: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panoforge.eval.videos import run as video

    video_tree(tmp_path / "data", picture, frames=4, annotated=4)
    scored = config(predictor="sam2", benchmark="panovos", root=tmp_path / "data", split="train")
    results = run_evaluation(scored, tmp_path, tmp_path / "out").results
    model, ceiling = (
        next(s for s in results["scores"] if s["role"] == role) for role in ("model", "ceiling")
    )
    assert model["objects"] == ceiling["objects"] == 4 and 0 <= model["j_and_f"] <= 1
    assert 0.4 < ceiling["j"] < 0.9 and ceiling["j_and_f"] == pytest.approx(
        (ceiling["j"] + ceiling["f"]) / 2
    )
    assert {row["frames"] for row in results["rows"]} == {3} and results["weights"][
        "kind"
    ] == "random"
    assert any("1 of 1 video of panovos" in line for line in as_lines(results))
    monkeypatch.setattr(video, "score_video", lambda *_: pytest.fail("this video is done"))
    again = run_evaluation(scored, tmp_path, tmp_path / "out").results
    assert again["scores"] == results["scores"] and again["rows"] == results["rows"]
    with pytest.raises(UsageError, match="ground truth is in every result as the ceiling"):
        run_evaluation(
            config(benchmark="panovos", root=tmp_path / "data"), tmp_path, tmp_path / "out"
        )


def test_masks_for_the_server_of_panovos(tmp_path: Path, picture: tuple) -> None:
    """First frames alone have masks: all others are written, as DAVIS and YouTube-VOS have them."""
    rgb, labels = picture
    for name, frames in (("dog", 3), ("cat", 2)):
        for t in range(frames):
            write(tmp_path / f"data/val/JPEGImages/{name}/{t + 4:05d}.jpg", np.roll(rgb, 3 * t, 1))
        palette(tmp_path / f"data/val/Annotations/{name}/00004.png", labels)
    asked = config(predictor="sam2", benchmark="panovos", root=tmp_path / "data", split="val")
    found = run_evaluation(asked, tmp_path, tmp_path / "out")
    out = found.folder / "submission/Annotations"
    assert sorted(p.name for p in out.iterdir()) == ["cat", "dog"]
    assert [p.name for p in sorted((out / "dog").iterdir())] == [f"{t:05d}.png" for t in (4, 5, 6)]
    ids = set(np.unique(labels).tolist())
    for path in out.glob("*/*.png"):
        with Image.open(path) as image:
            assert image.mode == "P" and image.size == (WIDTH, WIDTH // 2)
            assert set(np.unique(np.array(image)).tolist()) <= ids
    with Image.open(out / "dog/00004.png") as image:
        assert np.array_equal(np.array(image), labels)
    assert found.results["scores"] == [] and found.results["rows"] == []
    assert "submission/Annotations, checked" in "\n".join(as_lines(found.results))
    assert (found.folder / "report.html").is_file()

    before = (out / "cat/00005.png").stat().st_mtime_ns
    run_evaluation(asked, tmp_path, tmp_path / "out")  # goes on where it was
    assert (out / "cat/00005.png").stat().st_mtime_ns == before
    for damage, message in (
        (lambda: (out / "dog/00006.png").unlink(), r"expected 3 masks, found 2"),
        (lambda: palette(out / "dog/00006.png", labels + 77), r"expected 128×64 with the numbers"),
        (lambda: palette(out / "dog/00006.png", labels[:32]), r"found 128×32"),
        (lambda: palette(out / "dog/00004.png", labels * 0), r"of the given mask"),
    ):
        damage()
        with pytest.raises(DataError, match=message + r".*remove .*dog and run again|" + message):
            run_evaluation(asked, tmp_path, tmp_path / "out")
        shutil.rmtree(out / "dog")
        run_evaluation(asked, tmp_path, tmp_path / "out")


def test_labels_of_leader360v_have_one_name_each(tmp_path: Path, picture: tuple) -> None:
    """Synonyms are one label, others are counted; run lengths are masks; each label has a score."""
    assert len(NAMES) == 199 and canonical("sofa") == "sofa"
    assert canonical("painting, picture") == canonical("picture") == "painting"
    assert canonical("pot") == "pot" and canonical("stool") == "stool"  # not of the commode
    assert canonical("dragon") is None
    labelme_video(tmp_path / "data", picture)
    for t in (2, 10):
        path = tmp_path / f"data/street/0001/frame_{t}.json"
        document = json.loads(path.read_text())
        mask = np.zeros((64, WIDTH), np.uint8)
        mask[40:60, 20 + t : 60 + t] = 1
        runs = coco_mask.encode(np.asfortranarray(mask))
        shape = {
            "label": "barrel, cask",
            "group_id": 9,
            "shape_type": "rle",
            "points": [],
            "mask": {"size": runs["size"], "counts": runs["counts"].decode()},
        }
        dragon = {**shape, "label": "dragon", "group_id": 11}
        document["shapes"] += [shape, dragon]
        path.write_text(json.dumps(document))
    item = only("leader360v", tmp_path / "data")
    assert sorted(item.names.values()) == ["barrel", "car", "dragon", "tree"]
    barrel = next(id_ for id_, label in item.names.items() if label == "barrel")
    assert item.masks[1]()[barrel].sum() == 20 * 40 and item.masks[1]()[barrel][50, 40]
    scored = config(predictor="empty", benchmark="leader360v", root=tmp_path / "data")
    found = run_evaluation(scored, tmp_path, tmp_path / "out").results
    assert [entry["label"] for entry in found["labels"]] == ["barrel", "car", "dragon", "tree"]
    assert all(entry["objects"] == 1 for entry in found["labels"])
    assert "label that is none of its list (first: dragon)" in found["dataset"]["left_out"]
    lines = "\n".join(as_lines(found))
    assert "barrel" in lines and "J_sphere official" in lines


def test_labels_of_labelme_reach_the_results(tmp_path: Path, picture: tuple) -> None:
    labelme_video(tmp_path / "data", picture)
    path = tmp_path / "data/street/0001/frame_2.json"
    document = json.loads(path.read_text())
    point = {"label": "lamp", "group_id": None, "shape_type": "point", "points": [[5, 5]]}
    document["shapes"].append(point)
    path.write_text(json.dumps(document))
    scored = config(predictor="sam2", benchmark="leader360v", root=tmp_path / "data")
    found = run_evaluation(scored, tmp_path, tmp_path / "out")
    assert {(row["object"], row["label"]) for row in found.results["rows"]} == {
        (1, "car"),
        (2, "tree"),
    }
    stored = json.loads((found.folder / "results.json").read_text())
    assert stored["rows"] == found.results["rows"]
    assert "1 × point, which has no area (first: lamp)" in stored["dataset"]["left_out"]
    assert "point, which has no area" in (found.folder / "report.html").read_text()


def test_what_a_folder_leaves_out_is_in_the_results_and_the_table(
    tmp_path: Path, picture: tuple
) -> None:
    """A crowd, a box, a stray file, and objects that no pixel is left of: counted in results.json
    and printed under the table, also where the panorama was scored by an earlier run.
    """
    rgb, labels = picture
    write(tmp_path / "data/images/a.png", rgb)
    (tmp_path / "data/images/notes.txt").write_text("x")
    document = coco(labels, "a.png")
    document["annotations"].append(
        {"id": 91, "image_id": 5, "category_id": 1, "bbox": [0, 0, 9, 9]}
    )
    document["annotations"].append({"id": 92, "image_id": 5, "category_id": 1, "iscrowd": 1})
    hidden, empty = dict(document["annotations"][0], id=93), dict(document["annotations"][0], id=94)
    empty["segmentation"] = {"size": list(labels.shape), "counts": [labels.size]}
    document["annotations"] += [hidden, empty]
    (tmp_path / "data/annotations.json").write_text(json.dumps(document))
    found = open_benchmark(get_benchmark("folder"), tmp_path / "data", None)
    said = str(found.left_out)
    assert "1 × file whose name is no picture's (first: notes.txt)" in said
    assert "1 × object with a box and no mask" in said and "1 × crowd" in said
    scored = config(benchmark="folder", root=tmp_path / "data", methods=["direct"])
    for _ in range(2):
        done = run_evaluation(scored, tmp_path / "unused", tmp_path / "out")
        results, left_out = done.results, done.results["dataset"]["left_out"]
        assert left_out.startswith(f"{said}; 1 × object")
        assert "1 × object hidden whole by smaller ones (first: " in left_out
        assert "1 × object without a pixel (first: " in left_out
        assert f"Left out: {left_out}" in as_lines(results)
        assert left_out in html.unescape((done.folder / "report.html").read_text())


def test_coco_file_names_hold_folders(tmp_path: Path, picture: tuple) -> None:
    """Case 06: images/night/0001.png is read where images/0001.png lies beside it."""
    rgb, labels = picture
    write(tmp_path / "images/0001.png", rgb[::-1])
    write(tmp_path / "images/night/0001.png", rgb)
    (tmp_path / "annotations.json").write_text(json.dumps(coco(labels, "night/0001.png")))
    item = only("folder", tmp_path)
    assert item.key == "night_0001"
    np.testing.assert_array_equal(item.read()[0], rgb)


def test_a_crop_and_its_id_map_are_scored_where_they_lie(tmp_path: Path, picture: tuple) -> None:
    """Case 09: GPano tags place the picture and the labels on one sphere."""
    rgb, labels = picture
    sizes = {
        "CroppedAreaImageWidthPixels": WIDTH, "CroppedAreaImageHeightPixels": WIDTH // 2,
        "FullPanoWidthPixels": 2 * WIDTH, "FullPanoHeightPixels": WIDTH,
        "CroppedAreaLeftPixels": 40, "CroppedAreaTopPixels": 20,
    }  # fmt: skip
    tags = " ".join(f'GPano:{name}="{value}"' for name, value in sizes.items())
    (tmp_path / "images").mkdir()
    Image.fromarray(rgb).save(tmp_path / "images/a.jpg", xmp=f"<x {tags}/>".encode())
    write(tmp_path / "masks/a.png", labels)
    image, found, *_ = only("folder", tmp_path).read()
    assert image.shape == (WIDTH, 2 * WIDTH, 3) and found.shape == (WIDTH, 2 * WIDTH)
    same_instances(found[20 : 20 + WIDTH // 2, 40 : 40 + WIDTH], labels)


def test_an_image_without_exif_2_to_1_is_scored_upright(tmp_path: Path, picture: tuple) -> None:
    """Case 03: a picture stored upside down is read upright, as its labels were painted."""
    rgb, labels = picture
    exif = Image.Exif()
    exif[274] = 3
    (tmp_path / "images").mkdir()
    Image.fromarray(np.ascontiguousarray(rgb[::-1, ::-1])).save(
        tmp_path / "images/a.png", exif=exif
    )
    write(tmp_path / "masks/a.png", labels)
    np.testing.assert_array_equal(only("folder", tmp_path).read()[0], rgb)


def test_edited_annotations_are_another_evaluation(tmp_path: Path, picture: tuple) -> None:
    """An object removed, one moved: not the old folder with its old scores."""
    rgb, labels = picture
    write(tmp_path / "data/images/a.png", rgb)
    document = coco(labels, "a.png")
    path = tmp_path / "data/annotations.json"
    path.write_text(json.dumps(document))
    scored = config(benchmark="folder", root=tmp_path / "data", methods=["direct"])
    first = run_evaluation(scored, tmp_path, tmp_path / "out")
    again = run_evaluation(scored, tmp_path, tmp_path / "out")
    assert (again.folder, again.results["rows"]) == (first.folder, first.results["rows"])
    document["annotations"].pop(0)
    document["annotations"][-1]["segmentation"] = [[50, 20, 90, 20, 90, 40, 50, 40]]
    path.write_text(json.dumps(document))
    edited = run_evaluation(scored, tmp_path, tmp_path / "out")
    assert edited.folder != first.folder and first.folder.is_dir()
    (before,), (after,) = (
        [s for s in done.results["scores"] if s["role"] == "ceiling"] for done in (first, edited)
    )
    assert after["instances"] == before["instances"] - 1
    assert {row["pixels"] for row in edited.results["rows"]} != {
        row["pixels"] for row in first.results["rows"]
    }


def raw_mask(path: Path, labels: np.ndarray) -> None:
    """A PNG without compression: every mask of one shape has one size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path, compress_level=0)


@pytest.mark.parametrize(
    ("name", "split", "image", "mask"),
    [
        ("folder", None, "images/a.png", "masks/a.png"),
        ("hunyuanworld", None, "a/panorama.png", "a/instance.png"),
        ("pavsod", None, "frame_key/_a/00012.png", "instance/_a/1/00012.png"),
        (
            "structured3d",
            None,
            "scene_00012/2D_rendering/8/panorama/full/rgb_rawlight.png",
            "scene_00012/2D_rendering/8/panorama/full/instance.png",
        ),
    ],
)
def test_a_mask_edited_at_its_size_is_other_data(
    tmp_path: Path, picture: tuple, name: str, split: str | None, image: str, mask: str
) -> None:
    rgb, labels = picture
    write(tmp_path / image, rgb)
    raw_mask(tmp_path / mask, labels)
    scored = config(benchmark=name, root=tmp_path, split=split)

    def now() -> tuple[str, int]:
        return open_panoramas(scored, tmp_path).sha256, (tmp_path / mask).stat().st_size

    before, size = now()
    assert (before, size) == now()
    raw_mask(tmp_path / mask, np.roll(labels, 9, axis=1))
    after, same_size = now()
    assert same_size == size and after != before


def test_a_videos_mask_edited_at_its_size_is_scored_anew(tmp_path: Path, picture: tuple) -> None:
    video_tree(tmp_path / "data", picture)
    mask = tmp_path / "data/train/Annotations/dog/00004.png"
    raw_mask(mask, np.roll(picture[1], 3, axis=1))
    size = mask.stat().st_size
    scored = config(predictor="sam2", benchmark="panovos", root=tmp_path / "data", split="train")
    first = run_evaluation(scored, tmp_path, tmp_path / "out")
    raw_mask(mask, np.roll(picture[1], 40, axis=1))
    edited = run_evaluation(scored, tmp_path, tmp_path / "out")
    assert mask.stat().st_size == size and edited.folder != first.folder
    assert edited.results["rows"] != first.results["rows"]


@pytest.mark.parametrize("value", ["x", {}, [1], None, float("nan"), 10**400])
def test_boxes_that_are_no_numbers_name_their_file(tmp_path: Path, value: object) -> None:
    frame = {
        "bbox": {"cx": 5.0, "cy": 5.0, "w": 2.0, "h": 2.0},
        "bfov": {"clon": 1.0, "clat": 1.0, "fov_h": 2.0, "fov_v": 2.0, "rotation": 0},
    }
    (tmp_path / "a").mkdir()
    for part, name in (("bbox", "w"), ("bbox", "h"), ("bfov", "clon")):
        document = {"0.jpg": {**frame, part: {**frame[part], name: value}}}
        (tmp_path / "a/label.json").write_text(json.dumps(document))
        with pytest.raises(DataError, match=r"a/label\.json is not a label file of 360VOT"):
            open_tracks(tmp_path)


def test_what_the_benchmarks_leave_out_is_said(tmp_path: Path, picture: tuple) -> None:
    """Whatever has no counterpart: counted, with the first of its kind."""
    rgb, labels = picture

    def said(name: str, root: Path, split: str | None = None) -> str:
        return str(open_benchmark(get_benchmark(name), root, split).left_out)

    rooms = tmp_path / "rooms/scene_00001/2D_rendering"
    for room, names in (("1", ("rgb_rawlight", "instance")), ("2", ("rgb_rawlight",)), ("3", ())):
        (rooms / room).mkdir(parents=True)
        for name in names:
            write(rooms / room / f"panorama/full/{name}.png", rgb if "rgb" in name else labels)
    (tmp_path / "rooms/scene_00002").mkdir()
    assert said("structured3d", tmp_path / "rooms") == (
        "1 × room without panorama/full/instance.png (first: scene_00001_2);"
        " 1 × room without panorama/full/rgb_rawlight.png and instance.png (first: scene_00001_3);"
        " 1 × scene without 2D_rendering/<room> (first: scene_00002)"
    )
    area = tmp_path / "areas/area_1/pano"
    for name in ("a", "b"):
        write(area / f"semantic/{name}_semantic.png", rgb)
    write(area / "rgb/a_rgb.png", rgb)
    write(area / "rgb/thumb.png", rgb)
    (tmp_path / "areas/area_2").mkdir()
    (tmp_path / "areas/semantic_labels.json").write_text('["chair_1_office_1_1"]')
    assert said("stanford2d3d", tmp_path / "areas") == (
        "1 × picture whose name is not *_rgb.png (first: area_1/thumb.png);"
        " 1 × semantic map without its picture (first: area_1/b_semantic.png);"
        " 1 × area without panoramas (first: area_2)"
    )
    sod = tmp_path / "sod"
    for name in ("_a/00012.png", "_a/00013.png", "_b/00012.png"):
        write(sod / "frame_key" / name, rgb)
    palette(sod / "instance/_a/00012.png", labels)
    (sod / "instance/_a/notes.txt").write_text("x")
    assert said("pavsod", sod) == (
        "1 × sequence without masks (first: _b);"
        " 1 × file whose name is no picture's (first: _a/notes.txt);"
        " 1 × frame without masks (first: _a/00013.png)"
    )
    write(tmp_path / "hunyuan/case1/panorama.png", rgb)
    write(tmp_path / "hunyuan/case1/instance.png", labels)
    write(tmp_path / "hunyuan/case2/pano.png", rgb)
    assert said("hunyuanworld", tmp_path / "hunyuan") == (
        "1 × folder without panorama.png (first: case2)"
    )
    labelme_video(tmp_path / "street", picture)
    write(tmp_path / "street/street/0001/thumb.png", rgb)
    (tmp_path / "street/street/0001/frame_11.json").write_text("{}")
    assert said("leader360v", tmp_path / "street") == (
        "1 × picture whose name is not frame_<n> (first: street/thumb.png);"
        " 1 × annotations without a picture (first: street/frame_11.json)"
    )
    video_tree(tmp_path / "pano", picture)
    write(tmp_path / "pano/train/JPEGImages/cat/00001.jpg", rgb)
    assert said("panovos", tmp_path / "pano", "train") == (
        "1 × video without a folder of masks (first: cat)"
    )
    for t in range(2):
        write(tmp_path / f"vos/0001/image/{t:06d}.jpg", rgb)
        write(tmp_path / f"vos/0001/mask/{t:06d}.png", labels)
    write(tmp_path / "vos/0002/image/000000.jpg", rgb)
    write(tmp_path / "vos/0002/mask/000000.png", labels)
    assert said("360vos", tmp_path / "vos") == (
        "1 × video with a mask for one frame only (first: 0002)"
    )
    box = {
        "bbox": {"cx": 5.0, "cy": 5.0, "w": 2.0, "h": 2.0},
        "bfov": {"clon": 1.0, "clat": 1.0, "fov_h": 2.0, "fov_v": 2.0, "rotation": 0},
    }
    labelled = {f"{t:06d}.jpg": box for t in range(2)}
    (tmp_path / "vos/0001/label.json").write_text(json.dumps(labelled))
    assert said("360vot", tmp_path / "vos") == "1 × folder without label.json (first: 0002)"


def test_one_frame_under_two_names_is_refused(tmp_path: Path, picture: tuple) -> None:
    """Neither the last one nor the first one wins."""
    rgb, labels = picture
    labelme_video(tmp_path, picture)
    write(tmp_path / "street/0002/frame_2.png", rgb)
    with pytest.raises(DataError, match="has frame 2 twice"):
        open_benchmark(get_benchmark("leader360v"), tmp_path, None)
    sod = tmp_path / "sod"
    write(sod / "frame_key/_a/00012.png", rgb)
    palette(sod / "instance/_a/00012.png", labels)
    palette(sod / "instance/_a/00012/1.png", labels)
    with pytest.raises(DataError, match="masks of frame 00012 twice"):
        open_benchmark(get_benchmark("pavsod"), sod, None)
    write(tmp_path / "case/a/panorama.png", rgb)
    document = coco(labels, "panorama.png")
    document["images"].append({"id": 6, "file_name": "b.png"})
    document["annotations"].append({**document["annotations"][0], "id": 91, "image_id": 6})
    (tmp_path / "case/a/annotations.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"has 2 images with objects, expected one: panorama\.png"):
        open_benchmark(get_benchmark("hunyuanworld"), tmp_path / "case", None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d["annotations"].append(d["annotations"][0]), "annotation 1: expected an id of"),
        (lambda d: d["annotations"][0]["segmentations"].append(None), "found 2"),
        (lambda d: d["videos"].append(d["videos"][0]), "2 videos with 1 id: two share one"),
    ],
)
def test_what_a_youtube_vis_file_says_twice_is_refused(
    tmp_path: Path, picture: tuple, spoil, message: str
) -> None:
    rgb, labels = picture
    write(tmp_path / "train/JPEGImages/_v/00000.png", rgb)
    objects = [
        {"id": a["id"], "video_id": 1, "segmentations": [a["segmentation"]]}
        for a in coco(labels, "")["annotations"]
    ]
    video = {"id": 1, "file_names": ["_v/00000.png"]}
    document = {"videos": [video], "annotations": [*objects, {**objects[0], "video_id": 2}]}
    (tmp_path / "train.json").write_text(json.dumps(document))
    opened = open_benchmark(get_benchmark("pavsodr"), tmp_path, "train")
    assert "1 × object of a video that is not listed (first: annotation 1)" in str(opened.left_out)
    spoil(document)
    (tmp_path / "train.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        open_benchmark(get_benchmark("pavsodr"), tmp_path, "train")


def save_crop(path: Path, rgb: np.ndarray) -> None:
    """A picture that lies on a sphere of twice its size, 40 columns and 20 rows from its corner."""
    sizes = {
        "CroppedAreaImageWidthPixels": WIDTH, "CroppedAreaImageHeightPixels": WIDTH // 2,
        "FullPanoWidthPixels": 2 * WIDTH, "FullPanoHeightPixels": WIDTH,
        "CroppedAreaLeftPixels": 40, "CroppedAreaTopPixels": 20,
    }  # fmt: skip
    tags = " ".join(f'GPano:{name}="{value}"' for name, value in sizes.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    packet = f"<x {tags}/>".encode()
    if path.suffix == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        Image.fromarray(rgb).save(path, pnginfo=info)
    else:
        Image.fromarray(rgb).save(path, xmp=packet)


def test_every_benchmark_honours_a_crops_place(tmp_path: Path, picture: tuple) -> None:
    """Crop and masks are laid onto the sphere, whoever reads them."""
    rgb, labels = picture
    ids = [int(id_) for id_ in np.unique(labels[labels > 0])]
    stem = "camera_ab_office_1_frame_equirectangular_domain"
    save_crop(tmp_path / f"area/area_1/pano/rgb/{stem}_rgb.png", rgb)
    colour = np.zeros((*labels.shape, 3), np.uint8)
    colour[..., 2] = labels
    write(tmp_path / f"area/area_1/pano/semantic/{stem}_semantic.png", colour)
    names = json.dumps(["<UNK>_0", *(f"chair_{id_}" for id_ in range(1, max(ids) + 1))])
    (tmp_path / "area/semantic_labels.json").write_text(names)
    for sequence in ("_a", "_b"):
        save_crop(tmp_path / f"sod/frame_key/{sequence}/00012.jpg", rgb)
    palette(tmp_path / "sod/instance/_a/00012.png", labels)
    for id_ in ids:
        mask = (labels == id_).astype(np.uint8) * 255
        write(tmp_path / f"sod/instance/_b/00012/{id_}.png", mask)
    save_crop(tmp_path / "sodr/train/JPEGImages/_v/0.jpg", rgb)
    objects = [
        {"id": a["id"], "video_id": 1, "segmentations": [a["segmentation"]]}
        for a in coco(labels, "")["annotations"][:-1]
    ]
    document = {"videos": [{"id": 1, "file_names": ["_v/0.jpg"]}], "annotations": objects}
    (tmp_path / "sodr/train.json").write_text(json.dumps(document))
    items = [
        only("stanford2d3d", tmp_path / "area"),
        *open_benchmark(get_benchmark("pavsod"), tmp_path / "sod", None),
        only("pavsodr", tmp_path / "sodr", "train"),
    ]
    assert len(items) == 4
    for item in items:
        image, found, *_ = item.read()
        assert image.shape == (WIDTH, 2 * WIDTH, 3) and found.shape == (WIDTH, 2 * WIDTH)
        same_instances(found[20 : 20 + WIDTH // 2, 40 : 40 + WIDTH], labels)


def test_a_video_of_crops_is_refused(tmp_path: Path, picture: tuple) -> None:
    video_tree(tmp_path / "data", picture)
    for path in sorted((tmp_path / "data/train/JPEGImages/dog").iterdir()):
        save_crop(path, picture[0])
    scored = config(predictor="sam2", benchmark="panovos", root=tmp_path / "data", split="train")
    with pytest.raises(DataError, match=r"00003\.jpg is by its GPano tags a crop of a panorama"):
        run_evaluation(scored, tmp_path, tmp_path / "out")


def test_videos_of_which_nothing_is_scored_are_refused(tmp_path: Path, picture: tuple) -> None:
    """No table of nothing, and no score beside a ceiling of 0; what is left out is said."""
    rgb, labels = picture

    def tree(root: Path, *masks: np.ndarray) -> EvalConfig:
        for t, mask in enumerate(masks):
            write(root / f"train/JPEGImages/dog/{t:05d}.jpg", rgb)
            palette(root / f"train/Annotations/dog/{t:05d}.png", mask)
        return config(predictor="sam2", benchmark="panovos", root=root, split="train")

    nothing, speck = np.zeros_like(labels), np.zeros_like(labels)
    speck[30, 60] = 1
    late = tree(tmp_path / "late", nothing, labels)
    with pytest.raises(DataError, match=r"nothing was scored.*4 × object that no annotated frame"):
        run_evaluation(late, tmp_path, tmp_path / "out")
    specks = tree(tmp_path / "specks", speck, speck)
    with pytest.raises(DataError, match=r"the ceiling is 0.* of the 1 object, so a score"):
        run_evaluation(specks, tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("results.json"))
    largest = int(np.bincount(labels[labels > 0]).argmax())
    mixed = tree(tmp_path / "mixed", np.where(labels == largest, labels, 0), labels)
    for _ in range(2):  # the second takes them from the first one's files
        results = run_evaluation(mixed, tmp_path, tmp_path / "out").results
        assert {row["object"] for row in results["rows"]} == {largest}
        said = f"3 × object that no annotated frame follows (first: {1 + (largest == 1)} of dog)"
        assert f"Left out: {said}" in as_lines(results)


@pytest.mark.parametrize("document", [[3], [10**30], ["a"], {"0.jpg": [1]}, 7])
def test_a_label_file_of_another_shape_names_itself(tmp_path: Path, document: object) -> None:
    """Found by the fuzzer: numbers of a list are indices into it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/label.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"a/label\.json is not a label file of 360VOT"):
        open_tracks(tmp_path)
