"""Picture benchmarks scored: as a dataset is, where crops lie, and anew when a file is edited."""

import json
from pathlib import Path

import numpy as np
import pytest
from official_trees import (
    WIDTH,
    coco,
    config,
    only,
    palette,
    raw_mask,
    same_instances,
    save_crop,
    write,
)
from PIL import Image

from panoforge.core.errors import DataError, UsageError
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.panoramas import open_panoramas
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation


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
