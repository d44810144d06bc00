"""The yolo-seg export, read by Ultralytics' rules: what each polygon paints, holes and parts
included, and what the export says it costs.

`read_labels` states again what Ultralytics 8.4's `verify_image_label` and `polygon2mask` do. Beside
it, test_export_toolkits.py opens the same with Ultralytics itself, where that is installed.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
import yaml
from export_cases import labelled_dataset, pictures_of

from panoforge.core.errors import UsageError
from panoforge.core.export import ExportOptions, export
from panoforge.core.export.yolo import outline, overlap, painted, sides
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions


def read_labels(path: Path, height: int, width: int) -> list[tuple[int, np.ndarray]]:
    """(class, mask) per line: x y pairs in [0, 1], scaled, cut off to integers, filled even-odd."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        number, *values = line.split()
        points = np.array(values, np.float32).reshape(-1, 2)
        assert len(points) >= 3 and points.min() >= 0 and points.max() <= 1
        pixels = (points * np.array([width, height], np.float32)).astype(np.int32)
        canvas = cv2.fillPoly(np.zeros((height, width), np.uint8), [pixels], 1)
        found.append((int(number), canvas.astype(bool)))
    return found


def test_polygons_paint_the_masks(dataset: Dataset, options: ExportOptions, tmp_path: Path) -> None:
    facts = export(dataset, "yolo-seg", tmp_path, options)
    names = list(yaml.safe_load((tmp_path / "data.yaml").read_text())["names"].values())
    assert names == sorted({"sofa", "lamp", "plant"})
    found = []
    for name, frame in pictures_of(dataset, options).items():
        assert (tmp_path / "images" / f"{name}.{frame.suffix}").read_bytes() == frame.image
        read = read_labels(tmp_path / "labels" / f"{name}.txt", frame.height, frame.width)
        ids = [int(id_) for id_ in np.unique(frame.labels) if id_]
        for (number, mask), id_ in zip(read, ids, strict=True):
            truth = frame.labels == id_
            assert names[number] == frame.instances[id_].category
            shown = [truth, *sides(truth)]  # one side alone where that is nearer to the truth
            assert any(mask[part].all() for part in shown)  # and nothing of it is missing
            if cv2.connectedComponents(truth.astype(np.uint8))[0] == 2:
                assert np.array_equal(mask, truth)  # only bridges between parts cost anything
            found.append(overlap(mask, truth))
    assert len(found) > 10 and sum(iou == 1 for iou in found) > 0.7 * len(found)
    assert facts["cost"]["instances"] == facts["annotations"] == len(found)
    assert facts["cost"]["mean_iou"] == pytest.approx(np.mean(found), abs=1e-4)
    assert facts["cost"]["worst_iou"] == pytest.approx(min(found), abs=1e-4)


def framed_wall() -> np.ndarray:
    """Ids 128×64 of a wall (1) with a picture (2) in it, and a broken ring of dots (3)."""
    labels = np.zeros((64, 128), np.uint16)
    labels[8:56, 8:72] = 1
    labels[20:44, 20:60] = 2
    labels[10:54:6, 90:120:6] = 3
    return labels


def test_holes_are_kept_and_scattered_parts_are_priced(tmp_path: Path) -> None:
    """A wall behind a picture keeps its hole; dots apart cost what the bridges paint."""
    dataset = labelled_dataset(tmp_path, framed_wall(), {1: "wall", 2: "picture", 3: "dots"})
    facts = export(dataset, "yolo-seg", tmp_path / "all")
    (_, wall), (_, picture), (_, dots) = read_labels(
        tmp_path / "all" / "labels" / f"{dataset.keys[0]}.txt", 64, 128
    )
    assert np.array_equal(wall, framed_wall() == 1) and np.array_equal(picture, framed_wall() == 2)
    cost = facts["cost_by_category"]
    assert cost["wall"]["mean_iou"] == cost["picture"]["mean_iou"] == 1.0
    share = overlap(dots, framed_wall() == 3)
    assert share < 0.5 and cost["dots"]["mean_iou"] == pytest.approx(share, abs=1e-4)
    assert cost["dots"]["below_half"] == 1 == facts["cost"]["below_half"]
    assert json.loads((tmp_path / "all" / "export.json").read_text())["cost"] == facts["cost"]


def test_an_object_over_the_seam_keeps_its_better_ring(tmp_path: Path) -> None:
    """A bridge from edge to edge would cross the picture: 300 pixels for the 12 of the lesser side.
    Where both sides are large and near, the ring around both is the better one.
    """
    labels = np.zeros((64, 512), np.uint16)
    labels[20:40, :3], labels[20:24, -3:] = 1, 1  # 60 and 12 pixels
    labels[50:60, 100:150], labels[50:60, 152:200] = 2, 2
    dataset = labelled_dataset(tmp_path, labels, {1: "sofa", 2: "table"})
    facts = export(dataset, "yolo-seg", tmp_path / "out")
    (_, sofa), (_, table) = read_labels(
        tmp_path / "out" / "labels" / f"{dataset.keys[0]}.txt", 64, 512
    )
    assert np.array_equal(sofa, (labels == 1) & (np.arange(512) < 3))
    assert facts["cost_by_category"]["sofa"]["worst_iou"] == pytest.approx(60 / 72, abs=1e-4)
    assert table[labels == 2].all() and overlap(table, labels == 2) > 0.99


def test_what_falls_below_the_iou_asked_for_is_left_out_and_counted(tmp_path: Path) -> None:
    dataset = labelled_dataset(tmp_path, framed_wall(), {1: "wall", 2: "picture", 3: "dots"})
    facts = export(dataset, "yolo-seg", tmp_path / "good", ExportOptions(min_iou=0.8))
    read = read_labels(tmp_path / "good" / "labels" / f"{dataset.keys[0]}.txt", 64, 128)
    assert len(read) == facts["annotations"] == 2
    assert facts["cost"]["left_out"] == facts["cost_by_category"]["dots"]["left_out"] == 1
    with pytest.raises(UsageError, match="an IoU, from 0 to 1"):
        ExportOptions(min_iou=1.5)
    with pytest.raises(UsageError, match="coco holds every mask as it is"):
        export(dataset, "coco", tmp_path / "coco", ExportOptions(min_iou=0.8))
    assert not (tmp_path / "coco").exists()


def test_yolo_splits_are_those_of_the_dataset(tmp_path: Path) -> None:
    """Read as Ultralytics' `check_det_dataset` does: no `path` means the folder of the file; ./ in
    a list means the list's.
    """
    dataset = Dataset.open(
        synthetic.dataset(
            tmp_path,
            scenes=12,
            cameras=1,
            width=64,
            options=PackOptions(splits=(("train", 0.5), ("test", 0.5))),
        )
    )
    export(dataset, "yolo-seg", tmp_path / "yolo")
    data = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert set(data) == {"train", "val", "test", "names"} and sorted(data["names"]) == list(
        range(len(data["names"]))
    )
    assert (
        data["val"] == data["test"] == "test.txt"
    )  # Ultralytics demands a val; this dataset has none
    found = {
        split: [
            (tmp_path / "yolo" / line).resolve()
            for line in (tmp_path / "yolo" / data[split]).read_text().splitlines()
        ]
        for split in ("train", "test")
    }
    assert all(
        path.is_file() and path.parent.name == "images"
        for paths in found.values()
        for path in paths
    )
    assert {split: [path.stem for path in paths] for split, paths in found.items()} == {
        split: [key for i, key in enumerate(dataset.keys) if dataset.split(i) == split]
        for split in ("train", "test")
    }
    assert min(len(paths) for paths in found.values()) > 0


@pytest.mark.parametrize("seed", range(3))
def test_an_outline_goes_around_all_parts_and_holes(seed: int) -> None:
    """Blobs with holes: all of the mask is painted, and of what is not in it only bridges."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((60, 90)).astype(np.float32), (0, 0), 4)
    mask = noise > np.quantile(noise, 0.4)
    holes = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)[0] - 1
    parts = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
    assert holes > 3
    found = painted(outline(mask), mask.shape)
    assert found[mask].all()
    assert (found & ~mask).sum() < 12 * (holes + parts)


def test_a_single_pixel_is_a_polygon() -> None:
    assert len(outline(np.eye(1, dtype=bool))) == 3
