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
import synthetic
import yaml
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from panoforge.core.errors import DataError, UsageError
from panoforge.core.export import FORMATS, ExportOptions, export
from panoforge.core.export.frames import Frame, category_ids, masks_of, panorama_frame, scan_frames
from panoforge.core.export.images import deepest_point, outline
from panoforge.core.export.jsonlists import json_lists
from panoforge.core.export.videos import palette_png
from panoforge.core.geometry.scan import ScanSpec
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged
from panoforge.core.storage.store import Store

SMALL_SCAN = ExportOptions(perspective=ScanSpec(size_px=64))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two scenes, one camera each, of 192×96."""
    return Dataset.open(
        synthetic.dataset(tmp_path_factory.mktemp("export"), scenes=2, cameras=1, width=192)
    )


def busy_dataset(
    folder: Path, count: int, structure: frozenset[int] | set[int] = frozenset()
) -> Dataset:
    """One panorama of 96×48 in `count` upright stripes and blocks of falling size; ids in
    `structure` are walls.
    """
    order = np.repeat(
        np.arange(1, count + 1),
        np.maximum(1, 3 * (48 * 96 // count - np.arange(count) * 48 * 96 // count**2) // 2),
    )
    labels = np.resize(order, 96 * 48).reshape(96, 48).T.astype(np.uint16)
    names = {
        i: InstanceLabel(
            f"n{i}", "wall" if i in structure else "a", "o", ("structure",) * (i in structure)
        )
        for i in range(1, count + 1)
    }
    meta = SampleMeta(
        key="busy",
        width=96,
        height=48,
        source="test",
        scene="busy",
        seed=0,
        camera=0,
        products=("instance.zst", "rgb.png"),
        pose=Pose(
            position_m=(0.0, 0.0, 1.0),
            yaw_deg=0.0,
            world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ),
        instances=instance_table(labels, names),
        config_sha256="0" * 64,
        versions={},
    )
    write_staged(
        folder / "staged",
        meta,
        {"instance.zst": labels, "rgb.png": np.zeros((48, 96, 3), np.uint8)},
    )
    pack(folder / "staged", folder / "dataset")
    return Dataset.open(folder / "dataset")


def clip_of(dataset: Dataset, key: str) -> list[Frame]:
    return scan_frames(dataset.by_key(key), SMALL_SCAN)


def pictures_of(dataset: Dataset, options: ExportOptions) -> dict[str, Frame]:
    """All frames of an image export, by name."""
    samples = [dataset[i] for i in range(len(dataset))]
    return {
        frame.name: frame
        for sample in samples
        for frame in (
            scan_frames(sample, options) if options.perspective else [panorama_frame(sample)]
        )
    }


@pytest.fixture(params=[ExportOptions(), SMALL_SCAN], ids=["panoramas", "views"])
def options(request: pytest.FixtureRequest) -> ExportOptions:
    return request.param


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


def test_yolo_polygons_paint_the_masks(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    export(dataset, "yolo-seg", tmp_path, options)
    names = list(yaml.safe_load((tmp_path / "data.yaml").read_text())["names"].values())
    assert names == sorted({"sofa", "lamp", "plant"})
    polygons = 0
    for name, frame in pictures_of(dataset, options).items():
        assert (tmp_path / "images" / f"{name}.{frame.suffix}").read_bytes() == frame.image
        lines = (tmp_path / "labels" / f"{name}.txt").read_text().splitlines()
        ids = [int(id_) for id_ in np.unique(frame.labels) if id_]
        assert len(lines) == len(ids)
        for line, id_ in zip(lines, ids, strict=True):
            number, *values = line.split()
            points = np.array(values, float).reshape(-1, 2)
            assert len(points) >= 3 and points.min() >= 0 and points.max() <= 1
            assert names[int(number)] == frame.instances[id_].category
            painted = np.zeros(frame.labels.shape, np.uint8)
            pixels = np.rint(points * (frame.width, frame.height) - 0.5).astype(np.int32)
            cv2.fillPoly(painted, [pixels], 1)
            mask = frame.labels == id_
            assert painted[
                mask
            ].all()  # nothing of the instance is missing; holes and bridges may be added
            if cv2.connectedComponents(mask.astype(np.uint8))[0] == 2 and mask.sum() > 200:
                edge, _ = cv2.findContours(
                    mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
                )
                filled = cv2.drawContours(np.zeros_like(painted), edge, -1, 1, -1)
                assert np.array_equal(painted, filled)
            polygons += 1
    assert polygons > 10


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


def test_an_outline_goes_around_all_parts() -> None:
    mask = np.zeros((20, 40), bool)
    mask[2:8, 3:9] = mask[10:18, 30:38] = mask[12, 12] = True
    points = outline(mask)
    painted = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(painted, [points.astype(np.int32)], 1)
    assert painted[mask].all() and painted.sum() < mask.sum() + 40  # bridges are one pixel thin
    assert len(outline(np.eye(1, dtype=bool))) == 3


def test_sa1b_is_read_by_sam2(dataset: Dataset, options: ExportOptions, tmp_path: Path) -> None:
    from training.dataset.vos_raw_dataset import SA1BRawDataset

    export(dataset, "sa1b", tmp_path, options)
    (tmp_path / "export.json").unlink()  # its own lister takes every name
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


def test_davis_is_read_by_sam2(dataset: Dataset, tmp_path: Path) -> None:
    from training.dataset.vos_raw_dataset import PNGRawDataset

    export(dataset, "davis", tmp_path, SMALL_SCAN)
    reader = PNGRawDataset(
        str(tmp_path / "JPEGImages"),
        str(tmp_path / "Annotations"),
        str(tmp_path / "ImageSets" / "train.txt"),
    )
    known = json.loads((tmp_path / "objects.json").read_text())
    for index, key in enumerate(dataset.keys):
        (video, loader), clip = reader.get_video(index), clip_of(dataset, key)
        assert (
            video.video_name == key
            and len(video.frames) == len(clip)
            and known[key]["left_out"] == 0
        )
        for number, frame in enumerate(clip):
            segments = loader.load(number)
            truth = {
                number_: frame.labels == known[key]["objects"][str(number_)]["id"]
                for number_ in segments
            }
            assert all(np.array_equal(segments[k].numpy(), truth[k]) for k in segments)
            assert sum(mask.sum() for mask in truth.values()) == (frame.labels > 0).sum()


def test_davis_keeps_the_largest_255(tmp_path: Path) -> None:
    dataset = busy_dataset(tmp_path, 300)
    facts = export(dataset, "davis", tmp_path / "out", SMALL_SCAN)
    known = json.loads((tmp_path / "out" / "objects.json").read_text())[dataset.keys[0]]
    assert facts["masklets"] == len(known["objects"]) == 255 and known["left_out"] > 0
    clip = clip_of(dataset, dataset.keys[0])
    area = {id_: sum((frame.labels == id_).sum() for frame in clip) for id_ in range(1, 301)}
    kept = {entry["id"] for entry in known["objects"].values()}
    assert min(area[id_] for id_ in kept) >= max(area[id_] for id_ in area if id_ not in kept)


def test_palettes_are_read_as_indices() -> None:
    from PIL import Image

    indices = np.random.default_rng(0).integers(0, 256, (7, 13), np.uint8)
    image = Image.open(io.BytesIO(palette_png(indices)))
    assert (
        image.mode == "P"
        and np.array_equal(np.array(image), indices)
        and len(image.getpalette()) == 768
    )


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


@pytest.mark.parametrize("to", FORMATS)
def test_export_json_comes_last_and_folders_do_not_mix(
    dataset: Dataset, to: str, tmp_path: Path
) -> None:
    facts = export(dataset, to, tmp_path / to, SMALL_SCAN)
    assert json.loads((tmp_path / to / "export.json").read_text()) == facts
    assert (
        facts["format"] == to
        and facts["samples"] == 2
        and facts["scan"] == {"fov_deg": 90.0, "overlap": 0.5, "size_px": 64}
    )
    assert not list((tmp_path / to).rglob(".tmp-*"))
    with pytest.raises(UsageError, match="is not empty"):
        export(dataset, to, tmp_path / to)
    cut = shutil.copytree(dataset.folder, tmp_path / "cut")
    shard = cut / dataset.samples["shard"].to_pylist()[-1]
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="truncated"):
        export(Dataset.open(cut), to, tmp_path / "out", SMALL_SCAN)
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


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_yolo_labels_read_by_ultralytics_rule_are_the_masks(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    """A reader of our own after docs.ultralytics.com/datasets/segment: a line is a class and x y
    pairs in [0, 1], painted by fillPoly at the picture's size, as `polygon2mask` does. Where an
    instance is one part without holes the two masks agree to 0.9, what rounding to whole pixels
    costs thin things; bridges and filled holes may cost more elsewhere, never pixels of the
    instance.
    """
    export(dataset, "yolo-seg", tmp_path, options)
    simple = []
    for name, frame in pictures_of(dataset, options).items():
        size = np.array([frame.width, frame.height])
        lines = (tmp_path / "labels" / f"{name}.txt").read_text().splitlines()
        for line, id_ in zip(
            lines, np.unique(frame.labels[frame.labels > 0]).tolist(), strict=True
        ):
            points = (np.array(line.split()[1:], np.float32).reshape(-1, 2) * size).astype(
                np.int32
            )  # polygon2mask cuts off
            painted = cv2.fillPoly(np.zeros(frame.labels.shape, np.uint8), [points], 1).astype(bool)
            mask = frame.labels == id_
            contours, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            if len(contours) == 1 and mask.sum() >= 100:
                simple.append(iou(painted, mask))
    assert len(simple) >= 5 and min(simple) > 0.9
