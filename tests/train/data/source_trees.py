"""Tiny trees in the official layouts of other datasets: a bright square on grey that moves, so that
truth is known.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 60, 80


def square_at(left: int, top: int = 10, side: int = 24) -> np.ndarray:
    """H×W bool; `left` beyond the width gives nothing."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def picture(*masks: np.ndarray) -> np.ndarray:
    """RGB: grey, with each mask painted brighter than the one before."""
    shape = masks[0].shape if masks else (HEIGHT, WIDTH)
    image = np.full((*shape, 3), 60, np.uint8)
    for i, mask in enumerate(masks):
        image[mask] = (230, 160 - 60 * i, 40)
    return image


def rle(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode()}


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


def write_labels(path: Path, labels: np.ndarray, *, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), "P" if palette else "L")
    if palette:
        image.putpalette([v for i in range(256) for v in (i * 37 % 256, i * 91 % 256, 255 - i)])
    image.save(path)


def sa1b(root: Path, images: int = 4) -> Path:
    """Two downloaded tars' worth; each image has two overlapping squares and one speck."""
    for i in range(images):
        path = root / f"sa_00000{i % 2}" / f"sa_{100 + i}"
        masks = [square_at(4 + i), square_at(14 + i), square_at(70, 50, 1)]
        write_image(path.with_suffix(".jpg"), picture(*masks[:2]))
        content = {
            "image": {
                "image_id": 100 + i,
                "width": WIDTH,
                "height": HEIGHT,
                "file_name": path.name + ".jpg",
            },
            "annotations": [
                {
                    "id": 10 * i + k,
                    "segmentation": rle(m),
                    "bbox": [0, 0, 1, 1],
                    "area": int(m.sum()),
                    "predicted_iou": 0.9,
                    "stability_score": 0.95,
                    "crop_box": [0, 0, WIDTH, HEIGHT],
                    "point_coords": [[5.0, 5.0]],
                }
                for k, m in enumerate(masks)
            ],
        }
        path.with_suffix(".json").write_text(json.dumps(content))
    return root


def sav(root: Path, *, mp4: bool, annotated: int = 6) -> Path:
    """One video: object 0 moves right by one pixel a frame, object 1 is gone from the third
    annotated frame on.
    """
    frames = 4 * (annotated - 1) + 1

    def masks(frame: int) -> list[np.ndarray]:
        return [square_at(2 + frame), square_at(50 if frame < 8 else WIDTH, 30)]

    video = root / "sav_000" / "sav_000001"
    video.parent.mkdir(parents=True)
    if mp4:
        writer = cv2.VideoWriter(
            str(video) + ".mp4", cv2.VideoWriter_fourcc(*"mp4v"), 24, (WIDTH, HEIGHT)
        )
        for frame in range(frames):
            writer.write(np.ascontiguousarray(picture(*masks(frame))[:, :, ::-1]))
        writer.release()
    else:
        for frame in range(frames):
            write_image(video / f"{frame:05d}.jpg", picture(*masks(frame)))
    content = {
        "video_id": "sav_000001",
        "video_duration": frames / 24,
        "video_frame_count": float(frames),
        "video_height": float(HEIGHT),
        "video_width": float(WIDTH),
        "video_resolution": float(HEIGHT * WIDTH),
        "masklet": [[rle(m) for m in masks(4 * k)] for k in range(annotated)],
        "masklet_id": [0, 1],
        "masklet_num": 2,
    }
    Path(f"{video}_manual.json").write_text(json.dumps(content))
    return root


def davis(root: Path, frames: int = 5, first: int = 7) -> Path:
    """One video of palette masks, numbered from `first` (PanoVOS need not start at 0): ids 1 and 4,
    and a void stripe.
    """
    for t in range(frames):
        masks = square_at(2 + 3 * t), square_at(50, 30)
        labels = masks[0] * 1
        labels[masks[1]] = 4
        labels[:, -2:] = 255
        write_image(root / f"JPEGImages/vid/{first + t:05d}.jpg", picture(*masks))
        write_labels(root / f"Annotations/vid/{first + t:05d}.png", labels)
    return root


def panovos(root: Path, frames: int = 5, height: int = 48) -> Path:
    """One video of whole panoramas in DAVIS' layout: 1 goes over the seam, 4 lies near the zenith,
    9 is gone from the third frame on.
    """
    for t in range(frames):
        labels = np.zeros((height, 2 * height), int)
        labels[20:30, (np.arange(-6, 8) + 2 * t) % (2 * height)] = 1
        labels[3:9, 40:70] = 4
        if t < 2:
            labels[34:44, 10:40] = 9
        seen = picture(labels == 1, labels == 4, labels == 9)
        write_image(root / f"JPEGImages/vid/{t:05d}.jpg", seen)
        write_labels(root / f"Annotations/vid/{t:05d}.png", labels)
    return root


def vos360(root: Path, frames: int = 4) -> Path:
    """0001 with one binary mask per frame, 0002 with one per object."""
    for t in range(frames):
        for video, ids in (("0001", ("",)), ("0002", ("_0", "_1"))):
            masks = [square_at(2 + 3 * t), square_at(50, 30)][: len(ids)]
            write_image(root / video / f"image/{t:06d}.jpg", picture(*masks))
            for id_, mask in zip(ids, masks, strict=True):
                write_labels(root / video / f"mask/{t:06d}{id_}.png", mask * 255, palette=False)
    return root


def coco(root: Path) -> Path:
    """Three images: one with a polygon and a crowd, one with both kinds of RLE, one without
    objects.
    """
    masks = [square_at(10), square_at(40, 30)]
    for i in range(3):
        write_image(root / f"train2017/{i:012d}.jpg", picture(*masks))
    polygon = [10, 10, 34, 10, 34, 34, 10, 34]
    flat = masks[1].T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=1 - flat[-1])).tolist()
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges]).tolist()}
    content = {
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT}
            for i in range(3)
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "segmentation": [polygon]},
            {"id": 2, "image_id": 0, "category_id": 1, "iscrowd": 1, "segmentation": rle(masks[1])},
            {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": rle(masks[0])},
            {"id": 4, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": uncompressed},
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return root
