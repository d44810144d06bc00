"""Tiny trees in the official layouts of benchmarks, made for tests."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pycocotools import mask as coco_mask

from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.config import EvalConfig

WIDTH = 128


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


def video_tree(root: Path, picture: tuple, frames: int = 4, annotated: int = 4) -> None:
    rgb, labels = picture
    for t in range(frames):
        write(root / f"train/JPEGImages/dog/{t + 3:05d}.jpg", np.roll(rgb, 3 * t, axis=1))
        if t < annotated:
            palette(root / f"train/Annotations/dog/{t + 3:05d}.png", np.roll(labels, 3 * t, axis=1))


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


def raw_mask(path: Path, labels: np.ndarray) -> None:
    """A PNG without compression: every mask of one shape has one size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path, compress_level=0)


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
