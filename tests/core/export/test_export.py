"""Exports, each opened by its format's own reader where one is installed, and compared with the
label maps pixel by pixel.
"""

import io
import json
import shutil
from pathlib import Path

import buckets
import cv2
import numpy as np
import pytest
from export_cases import SMALL_SCAN, busy_dataset, clip_of, pictures_of
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from panoforge.core.cards import CardOptions
from panoforge.core.errors import DataError, UsageError
from panoforge.core.export import FORMATS, ExportOptions, export
from panoforge.core.export.frames import category_ids, masks_of, panorama_frame
from panoforge.core.export.images import deepest_point
from panoforge.core.export.jsonlists import json_lists
from panoforge.core.export.palette import empty_mask_png, mask_png, palette_png
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.store import Store


def test_coco_is_read_by_pycocotools(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    facts = export(dataset, "coco", tmp_path / "out", options)
    coco, frames = (
        COCO(str(tmp_path / "out" / "annotations" / "instances.json")),
        pictures_of(dataset, options),
    )
    assert facts["images"] == len(coco.imgs) == len(frames) == (48 if options.perspective else 2)
    assert facts["annotations"] == len(coco.anns) > 10
    seen: dict[int, np.ndarray] = {}
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        frame = frames[image["file_name"].rsplit(".", 1)[0]]
        mask = coco.annToMask(annotation)
        assert (
            np.array_equal(mask, frame.labels == annotation["instance_id"])
            and annotation["area"] == mask.sum()
        )
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert annotation["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (
            coco.cats[annotation["category_id"]]["name"]
            == frame.instances[annotation["instance_id"]].category
        )
        seen[image["id"]] = seen.get(image["id"], 0) + mask
    for image in coco.imgs.values():
        frame = frames[image["file_name"].rsplit(".", 1)[0]]
        assert (image["height"], image["width"]) == frame.labels.shape
        assert np.array_equal(seen.get(image["id"], np.zeros_like(frame.labels)), frame.labels > 0)
        assert (tmp_path / "out" / "images" / image["file_name"]).read_bytes() == frame.image


def test_labelme_files_hold_every_pixel_and_one_group_an_instance(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    facts = export(dataset, "labelme", tmp_path / "out", options)
    frames = pictures_of(dataset, options)
    assert facts["images"] == len(frames) and facts["shapes"] > 10
    for name, frame in frames.items():
        file = read_labelme(tmp_path / "out" / f"{name}.json")
        labels, found = frame.labels, np.zeros(frame.labels.shape, np.int64)
        for shape in file.shapes:
            assert shape.group is not None and not found[file.mask(shape)].any()
            found[file.mask(shape)] = int(shape.group)
            assert shape.label == frame.instances[int(shape.group)].category
        assert np.array_equal(found, labels) and not file.left_out
        picture = json.loads((tmp_path / "out" / f"{name}.json").read_text())["imagePath"]
        assert (tmp_path / "out" / picture).read_bytes() == frame.image


def test_small_instances_are_left_out_when_asked(dataset: Dataset, tmp_path: Path) -> None:
    export(dataset, "coco", tmp_path / "all")
    export(dataset, "coco", tmp_path / "large", ExportOptions(min_pixels=300))
    areas = [
        a["area"]
        for a in json.loads((tmp_path / "all" / "annotations" / "instances.json").read_text())[
            "annotations"
        ]
    ]
    large = [
        a["area"]
        for a in json.loads((tmp_path / "large" / "annotations" / "instances.json").read_text())[
            "annotations"
        ]
    ]
    assert large == [area for area in areas if area >= 300] and 0 < len(large) < len(areas)


def test_sa1b_is_read_by_sam2(dataset: Dataset, options: ExportOptions, tmp_path: Path) -> None:
    from training.dataset.vos_raw_dataset import SA1BRawDataset

    export(dataset, "sa1b", tmp_path, options)
    reader, frames = SA1BRawDataset(str(tmp_path), str(tmp_path)), pictures_of(dataset, options)
    assert len(reader) == len(frames)
    for index in range(len(reader)):
        video, loader = reader.get_video(index)
        record = json.loads((tmp_path / f"sa_{video.video_id}.json").read_text())
        frame = frames[record["image"]["panoforge_name"]]
        segments = loader.load(0)
        masks = [segments[key].numpy() for key in segments.keys()]  # noqa: SIM118
        ids = [id_ for id_ in np.unique(frame.labels) if id_]
        assert all(
            np.array_equal(mask, frame.labels == id_) for mask, id_ in zip(masks, ids, strict=True)
        )
        for annotation, id_ in zip(record["annotations"], ids, strict=True):
            ((x, y),) = annotation["point_coords"]
            assert frame.labels[int(y), int(x)] == id_
        assert Path(video.frames[0].image_path).read_bytes() == frame.image


def test_the_deepest_point_is_in_the_middle() -> None:
    labels = np.zeros((30, 60), np.uint16)
    labels[5:16, 20:51] = 3
    labels[5:16, 0:4] = 3
    x, y = deepest_point(labels, 3, (0, 5, 51, 11))
    assert y == 10 and 25 <= x <= 45


def test_panoptic_colours_are_ids(dataset: Dataset, options: ExportOptions, tmp_path: Path) -> None:
    export(dataset, "mask2former-panoptic", tmp_path, options)
    panoptic, frames = (
        json.loads((tmp_path / "panoptic.json").read_text()),
        pictures_of(dataset, options),
    )
    images = {image["id"]: image for image in panoptic["images"]}
    assert len(panoptic["annotations"]) == len(frames) and {
        c["isthing"] for c in panoptic["categories"]
    } == {1}
    for annotation in panoptic["annotations"]:
        frame = frames[images[annotation["image_id"]]["file_name"].rsplit(".", 1)[0]]
        rgb = cv2.imread(str(tmp_path / "panoptic" / annotation["file_name"]))[..., ::-1].astype(
            np.int64
        )
        ids = rgb @ [1, 256, 65536]  # panopticapi.utils.rgb2id
        assert np.array_equal(ids, frame.labels)
        assert {s["id"]: s["area"] for s in annotation["segments_info"]} == {
            int(i): int((ids == i).sum()) for i in np.unique(ids) if i
        }


def test_sav_is_read_by_sam2_in_both_forms(dataset: Dataset, tmp_path: Path) -> None:
    from training.dataset.vos_raw_dataset import JSONRawDataset, PNGRawDataset

    facts = export(dataset, "sav", tmp_path, SMALL_SCAN)
    train = JSONRawDataset(
        str(tmp_path / "JPEGImages_24fps"), str(tmp_path / "annotations"), ann_every=4
    )
    val = PNGRawDataset(
        str(tmp_path / "JPEGImages_24fps"),
        str(tmp_path / "Annotations_6fps"),
        file_list_txt=str(tmp_path / "sav_val.txt"),
        is_palette=False,
    )
    assert train.video_names == val.video_names == dataset.keys
    masklets = 0
    for index, key in enumerate(dataset.keys):
        clip, record = (
            clip_of(dataset, key),
            json.loads((tmp_path / "annotations" / f"{key}_manual.json").read_text()),
        )
        ids = [row["id"] for row in record["panoforge_instances"]]
        (video, loader), (_, pngs) = train.get_video(index), val.get_video(index)
        assert len(video.frames) == len(clip) == 24  # none dropped as not annotated
        for number, frame in enumerate(clip):
            assert Path(video.frames[number].image_path).read_bytes() == frame.image
            for found, first in ((loader.load(number), 0), (pngs.load(number), 1)):
                assert sorted(found) == list(range(first, first + len(ids)))
                assert all(
                    np.array_equal(found[p + first].numpy(), frame.labels == id_)
                    for p, id_ in enumerate(ids)
                )
        masklets += len(ids)
        shown = [sum((frame.labels == id_).any() for frame in clip) for id_ in ids]
        assert record["masklet_frame_count"] == shown
        assert record["masklet_first_appeared_frame"] == [
            next(n for n, frame in enumerate(clip) if (frame.labels == id_).any()) for id_ in ids
        ]
    assert facts["masklets"] == masklets > 8


def test_palettes_are_read_as_indices() -> None:
    from PIL import Image

    indices = np.random.default_rng(0).integers(0, 256, (7, 13), np.uint8)
    image = Image.open(io.BytesIO(palette_png(indices)))
    assert (
        image.mode == "P"
        and np.array_equal(np.array(image), indices)
        and len(image.getpalette()) == 768
    )


@pytest.mark.parametrize("width", [1, 8, 13, 300])
@pytest.mark.parametrize("rows", [(0, 40), (0, 1), (39, 40), (5, 31)])
def test_a_mask_is_a_palette_png_of_one_bit_a_pixel(width: int, rows: tuple[int, int]) -> None:
    """Rows of zeros above and below are joined to it, as pieces of one zlib stream."""
    from PIL import Image

    rng = np.random.default_rng(width)
    labels = rng.integers(0, 3, (40, width)).astype(np.uint16)
    labels[: rows[0]], labels[rows[1] :] = 0, 0
    for first in {0, width // 2, width - 1}:
        labels[:, :first] = 0
        labels[rows[0], first] = labels[rows[1] - 1, width - 1] = 2
        box = (first, rows[0], width - first, rows[1] - rows[0])
        data = mask_png(labels, 2, box)
        image = Image.open(io.BytesIO(data))
        assert image.mode == "P" and np.array_equal(np.array(image), labels == 2)
        assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 0) > 0, labels == 2)
        assert data[24] == 1  # IHDR's bit depth


def test_a_large_mask_and_none() -> None:
    from PIL import Image

    labels = np.full((2048, 4096), 7, np.uint16)
    labels[:900], labels[1500:] = 0, 0
    image = Image.open(io.BytesIO(mask_png(labels, 7, (0, 900, 4096, 600))))
    assert np.array_equal(np.array(image), labels == 7)
    nothing = np.array(Image.open(io.BytesIO(empty_mask_png(5, 9))))
    assert nothing.shape == (5, 9) and not nothing.any()


def test_ytvis_masks_decode(dataset: Dataset, tmp_path: Path) -> None:
    export(dataset, "ytvis", tmp_path, SMALL_SCAN)
    record = json.loads((tmp_path / "instances.json").read_text())
    assert [video["file_names"][0] for video in record["videos"]] == [
        f"{key}/00000.jpg" for key in dataset.keys
    ]
    covered = {}
    for annotation in record["annotations"]:
        video = record["videos"][annotation["video_id"] - 1]
        clip = clip_of(dataset, video["file_names"][0].split("/")[0])
        assert (
            len(annotation["segmentations"])
            == len(annotation["bboxes"])
            == video["length"]
            == len(clip)
        )
        for number, (rle, frame) in enumerate(zip(annotation["segmentations"], clip, strict=True)):
            truth = frame.labels == annotation["instance_id"]
            assert (rle is not None) == truth.any()
            if rle:
                assert (
                    np.array_equal(coco_mask.decode(rle), truth)
                    and annotation["areas"][number] == truth.sum()
                )
        covered[video["id"]] = covered.get(video["id"], 0) + 1
        assert (tmp_path / "JPEGImages" / video["file_names"][5]).read_bytes() == clip[5].image
    assert covered.keys() == {1, 2}


def test_structure_is_stuff(tmp_path: Path) -> None:
    dataset = busy_dataset(tmp_path, 6, structure={1, 2})
    found = category_ids(dataset)
    assert [(c.id, c.name, c.thing) for c in found.values()] == [(1, "a", True), (2, "wall", False)]
    export(dataset, "mask2former-panoptic", tmp_path / "out")
    categories = json.loads((tmp_path / "out" / "panoptic.json").read_text())["categories"]
    assert [c["isthing"] for c in categories] == [1, 0]


def test_an_instance_on_the_seam_has_one_mask_of_two_parts(dataset: Dataset) -> None:
    frame = panorama_frame(dataset[0])
    mask = next(
        mask
        for mask in masks_of(frame)
        if "seam" in mask.instance.flags and "pole" not in mask.instance.flags
    )
    assert mask.box[0] == 0 and mask.box[2] == frame.width and mask.instance.box.width < frame.width


@pytest.mark.parametrize("to", [name for name, layout in FORMATS.items() if not layout.panoramic])
def test_export_json_comes_last_and_folders_do_not_mix(
    dataset: Dataset, to: str, tmp_path: Path
) -> None:
    whole = FORMATS[to].whole  # panoramas as they are, with a card
    options = ExportOptions(card=CardOptions("Caps", "cc-by-4.0")) if whole else SMALL_SCAN
    facts = export(dataset, to, tmp_path / to, options)
    assert json.loads((tmp_path / to / "export.json").read_text()) == facts
    assert facts["format"] == to and facts["samples"] == 2
    assert whole or facts["scan"] == {"fov_deg": 90.0, "overlap": 0.5, "size_px": 64}
    assert not list((tmp_path / to).rglob(".tmp-*"))
    with pytest.raises(UsageError, match="is not empty"):
        export(dataset, to, tmp_path / to, options)
    cut = shutil.copytree(dataset.folder, tmp_path / "cut")
    shard = cut / dataset.samples["shard"].to_pylist()[-1]
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="truncated"):
        export(Dataset.open(cut), to, tmp_path / "out", options)
    assert not (tmp_path / "out" / "export.json").exists()


def test_an_unknown_format_names_the_nearest(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no export format 'cocos'\. Did you mean 'coco'\?"):
        export(dataset, "cocos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_lists_join_only_without_an_error(tmp_path: Path) -> None:
    store, path = Store.at(tmp_path), tmp_path / "deep" / "lists.json"
    with json_lists(store, "deep", "lists.json", ("a", "b"), {"head": {"ü": 1}}) as lists:
        for number in range(3):
            lists.add("a", {"n": number})
    assert json.loads(path.read_text()) == {
        "head": {"ü": 1},
        "a": [{"n": 0}, {"n": 1}, {"n": 2}],
        "b": [],
    }
    before = path.read_bytes()
    with pytest.raises(TypeError), json_lists(store, "deep", "lists.json", ("a",), {}) as lists:
        lists.add("a", {"n": object()})
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["lists.json"]
    with json_lists(store, "", "bare.json", ("a",), {}):
        pass
    assert json.loads((tmp_path / "bare.json").read_text()) == {"a": []}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_any_number_of_workers_writes_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    """Also lists that are numbered over many samples; and an error in a worker comes out in its own
    words.
    """
    for workers in (1, 2):
        export(dataset, "coco", tmp_path / f"{workers}", SMALL_SCAN, workers=workers)
    assert len(files_of(tmp_path / "1")) == 50 and files_of(tmp_path / "1") == files_of(
        tmp_path / "2"
    )
    cut = Path(shutil.copytree(dataset.folder, tmp_path / "cut"))
    shard = cut / dataset.samples["shard"].to_pylist()[-1]
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(DataError, match=r"rgb\.jpg: shard .* is truncated: \d+ of \d+ bytes"):
        export(Dataset.open(cut), "coco", tmp_path / "out", workers=2)
    assert not (tmp_path / "out" / "annotations").exists()
    with pytest.raises(UsageError, match="at least 1 worker, got 0"):
        export(dataset, "coco", tmp_path / "none", workers=0)


def test_exports_are_written_to_a_bucket(dataset: Dataset, tmp_path: Path) -> None:
    """The same bytes as on a disk, from a dataset in the bucket; and the bucket's folder is not
    mixed with another.
    """
    with buckets.bucket(dataset=Path(dataset.folder)) as url:
        remote = Dataset.open(f"{url}/dataset")
        for to in ("mask2former-panoptic", "ytvis"):
            export(dataset, to, tmp_path / to, SMALL_SCAN if to == "ytvis" else None)
            export(remote, to, f"{url}/{to}", SMALL_SCAN if to == "ytvis" else None)
            store = Store.at(f"{url}/{to}")
            assert {name: store.read(name) for name in store.sizes()} == files_of(tmp_path / to)
        with pytest.raises(UsageError, match="is not empty"):
            export(remote, "ytvis", f"{url}/ytvis")
