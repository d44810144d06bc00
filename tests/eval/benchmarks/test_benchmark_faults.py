"""What official layouts leave out, say twice or say wrong, and what is told."""

import html
import json
from pathlib import Path

import pytest
from official_trees import coco, config, labelme_video, palette, video_tree, write

from panoforge.core.errors import DataError
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.vots360 import open_tracks
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation


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
