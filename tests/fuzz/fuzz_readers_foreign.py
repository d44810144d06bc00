"""Foreign files: pictures, id maps, COCO, LabelMe, prompts files, configs."""

import base64
import io
import json
from pathlib import Path

import cv2
import numpy as np
from fuzz_harness import Reader
from PIL import Image

from panoforge.cluster.config.sections import VERBS, load_section
from panoforge.core.foreign.csv_rows import read_csv
from panoforge.core.foreign.idmaps import read_idmap, read_labels
from panoforge.core.foreign.pictures import read_picture
from panoforge.eval.benchmarks.folder import open_coco
from panoforge.eval.benchmarks.leader360v import open_videos
from panoforge.eval.segmentation.promptfile import PromptFile

HEIGHT, WIDTH = 16, 32
GPANO = {
    "ProjectionType": "equirectangular",
    "CroppedAreaImageWidthPixels": HEIGHT,
    "CroppedAreaImageHeightPixels": WIDTH,
    "FullPanoWidthPixels": 64,
    "FullPanoHeightPixels": 32,
    "CroppedAreaLeftPixels": 3,
    "CroppedAreaTopPixels": 0,
}
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LABELS = np.zeros((HEIGHT, WIDTH), np.uint16)
LABELS[4:8, 4:12], LABELS[8:12, 20:30] = 1, 2


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    rgb = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[274] = 6
    tags = " ".join(f'GPano:{name}="{value}"' for name, value in GPANO.items())
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r {tags}/></x:xmpmeta>'.encode()
    deep = Image.fromarray(LABELS * 30000)
    return [
        saved(rgb, "JPEG", exif=exif, xmp=xmp),
        saved(rgb, "JPEG", progressive=True),
        saved(rgb.convert("CMYK"), "JPEG"),
        saved(rgb, "PNG"),
        saved(rgb.convert("RGBA"), "PNG"),
        saved(rgb.convert("P"), "PNG"),
        saved(deep, "PNG"),
        saved(rgb, "WEBP"),
        saved(rgb, "WEBP", lossless=True, exif=exif),
        saved(rgb, "AVIF"),
        saved(rgb, "TIFF", compression="tiff_lzw"),
        saved(deep, "TIFF"),
        saved(rgb, "BMP"),
    ]


def idmaps() -> list[bytes]:
    small = LABELS.astype(np.uint8)
    palette = Image.fromarray(small, "P")
    palette.putpalette([7 * k % 256 for k in range(768)])
    kinds = (Image.fromarray(small), palette, Image.fromarray(LABELS * 300))
    deep = np.stack([LABELS * 7, LABELS * 300, LABELS], axis=2)
    ok, colour = cv2.imencode(".png", deep)
    assert ok
    return [*(saved(image, "PNG") for image in kinds), colour.tobytes()]


def coco() -> list[bytes]:
    square = [4, 4, 12, 4, 12, 8, 4, 8]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [square]},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [100, 12, 400]},
            },
        ],
        "categories": [{"id": 1, "name": "lamp"}],
    }
    return [json.dumps(document).encode()]


def labelme() -> list[bytes]:
    square = [[4, 4], [12, 4], [12, 8], [4, 8]]
    small = base64.b64encode(saved(Image.fromarray(LABELS[4:8, 4:12] > 0), "PNG")).decode()
    rle = {"size": [HEIGHT, WIDTH], "counts": [100, 12, 400]}
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]},
        {"label": "b", "shape_type": "circle", "points": [[8, 8], [10, 8]]},
        {"label": "c", "shape_type": "mask", "points": [[4, 4], [11, 7]], "mask": small},
        {"label": "d", "shape_type": "rle", "points": [], "mask": rle},
        {"label": "e", "shape_type": "line", "points": [[1, 1], [5, 5]]},
        {"label": "car", "group_id": 7, "shape_type": "polygon", "points": square},
        {"label": "tree", "group_id": None, "shape_type": "polygon", "points": square},
    ]
    document = {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return [json.dumps(document).encode()]


def prompts() -> list[bytes]:
    click = {"u": 5, "v": 5, "lon_deg": -118.1, "lat_deg": 28.1, "label": 1}
    box = {"u0": 20, "v0": 8, "width": 10, "height": 4}
    instances = [{"id": 1, "clicks": [click]}, {"id": 2, "box": box}]
    panorama = {"width": WIDTH, "height": HEIGHT, "instances": instances}
    document = {
        "format": "panoforge-prompts",
        "schema_version": 2,
        "protocol_id": "x",
        "panoramas": {"a": panorama},
    }
    return [json.dumps(document).encode()]


def with_image(folder: Path) -> None:
    (folder / "a.png").write_bytes(pictures()[1])


def read_images(path: Path) -> None:
    for item in open_coco(path.parent, path):
        item.read()


def tables() -> list[bytes]:
    text = "x_m,y_m,z_m,yaw_deg\n0,0,1.5,0\n1,2,1.5,90\n"
    german = "x_m;y_m;z_m;yaw_deg\r\n0;0;1,5;0\r\n"
    return [text.encode(), text.encode("utf-8-sig"), german.encode(), text.encode("utf-16")]


def with_frames(folder: Path) -> None:
    (folder / "video").mkdir()
    (folder / "video/frame_1.png").write_bytes(pictures()[1])
    (folder / "video/frame_2.png").write_bytes(pictures()[1])
    (folder / "video/frame_1.json").write_bytes(labelme()[0])


def read_frames(path: Path) -> None:
    for video in open_videos(path.parent.parent, None):
        for masks in video.masks:
            assert masks is not None
            masks()


def configs(folder: str) -> list[bytes]:
    root = Path(__file__).parents[2] / "configs" / folder
    return [path.read_bytes() for path in sorted(root.glob("*.yaml"))]


def config_reader(verb: str) -> Reader:
    """The verb's configs as the command reads them; for `render` the whole chain's."""
    folder = {"render": "", "train": "train", "eval": "eval"}[verb]
    seeds = [data for data in configs(folder) if folder or b"render:" in data]
    return Reader(
        f"config-{verb}",
        "c.yaml",
        lambda: seeds,
        lambda path: load_section(path, VERBS[verb]),
        "text",
    )


READERS = (
    Reader("picture", "a.bin", pictures, read_picture),
    Reader("coco", "c.json", coco, read_images, "json", with_image),
    Reader("labelme", "video/frame_2.json", labelme, read_frames, "json", with_frames),
    Reader("csv", "t.csv", tables, read_csv, "text"),
    Reader("labels", "a.bin", lambda: idmaps()[:3], read_labels),
    Reader("idmap", "a.bin", idmaps, read_idmap),
    Reader("prompts", "p.json", prompts, lambda p: PromptFile(p).prompts("a", LABELS), "json"),
    *(config_reader(verb) for verb in ("render", "train", "eval")),
)
