"""Foreign files: pictures, id maps, COCO, LabelMe, prompts files, configs."""

import io
import json
from pathlib import Path

import numpy as np
from fuzz_harness import Reader
from PIL import Image

from panoforge.cluster.config import VERBS
from panoforge.core.config import load_config
from panoforge.core.foreign.files import read_image, read_labels
from panoforge.eval.benchmarks.folder import open_coco
from panoforge.eval.benchmarks.idmaps import read_idmap
from panoforge.eval.benchmarks.leader360v import open_videos
from panoforge.eval.segmentation.promptfile import PromptFile

HEIGHT, WIDTH = 16, 32
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LABELS = np.zeros((HEIGHT, WIDTH), np.uint16)
LABELS[4:8, 4:12], LABELS[8:12, 20:30] = 1, 2


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    rgb = Image.fromarray(RGB)
    return [saved(rgb, "JPEG"), saved(rgb, "PNG"), saved(rgb, "JPEG", progressive=True)]


def idmaps() -> list[bytes]:
    small = LABELS.astype(np.uint8)
    palette = Image.fromarray(small, "P")
    palette.putpalette([7 * k % 256 for k in range(768)])
    return [saved(image, "PNG") for image in (Image.fromarray(small), palette)]


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
    shapes = [
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


def read_coco(path: Path) -> None:
    for item in open_coco(path.parent, path):
        item.read()


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
        lambda path: load_config(path, VERBS[verb], section=verb),
        "text",
    )


READERS = (
    Reader("picture", "a.bin", pictures, read_image),
    Reader("labels", "a.bin", idmaps, read_labels),
    Reader("idmap", "a.bin", idmaps, read_idmap),
    Reader("prompts", "p.json", prompts, lambda p: PromptFile(p).prompts("a", LABELS), "json"),
    *(config_reader(verb) for verb in ("render", "train", "eval")),
)
