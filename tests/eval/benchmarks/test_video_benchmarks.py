"""Each video benchmark on a tiny tree in the official layout, made here, and its scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from official_trees import (
    WIDTH,
    config,
    labelme_video,
    only,
    palette,
    raw_mask,
    save_crop,
    video_tree,
    write,
)
from PIL import Image
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError, UsageError
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.leader360v_labels import NAMES, canonical
from panoforge.eval.benchmarks.vots360 import open_tracks, read_tracker
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.metrics.tracking import score_of, success_dual


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
