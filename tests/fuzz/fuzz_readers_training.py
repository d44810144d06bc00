"""Data of other people that is trained on or scored (SA-V, SA-1B, YouTube-VIS JSON, 360VOT, videos,
semantic labels), trackers' results, checkpoints, and what a training run leaves behind.
"""

import functools
import hashlib
import io
import json
import tempfile
from contextlib import closing
from pathlib import Path

import clips
import numpy as np
import torch
from fuzz_harness import Reader
from fuzz_readers_foreign import HEIGHT, LABELS, WIDTH, pictures
from fuzz_readers_foreign import saved as saved_picture
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save as to_safetensors

from panoforge.core.foreign.videos import VideoReader, index_video
from panoforge.eval.benchmarks import get_benchmark
from panoforge.eval.benchmarks.vots360 import open_tracks, read_tracker
from panoforge.train.checkpoints import FORMAT, VERSION, load
from panoforge.train.data.sources.draw import Draw
from panoforge.train.data.sources.sa1b import Sa1b
from panoforge.train.data.sources.sav import Sav
from panoforge.train.log import read_metrics
from panoforge.train.model.checkpoint_export import sidecar
from panoforge.train.model.checkpoint_io import check_architecture, open_checkpoint
from panoforge.train.settings.clips import ClipSettings

JPEG, PNG = pictures()[1], pictures()[3]
DRAW = Draw(0, ClipSettings(frames=2), 32, 0.001)
STATE = {
    "image_encoder.trunk.patch_embed.proj.weight": torch.ones(4, 3),
    "image_encoder.trunk.blocks.0.norm.weight": torch.ones(4),
    "no_obj_embed_spatial": torch.zeros(2),
}


def rle(id_: int) -> dict[str, object]:
    found = coco_mask.encode((id_ == LABELS).astype("uint8", order="F"))
    return {"size": [HEIGHT, WIDTH], "counts": found["counts"].decode()}


def put(folder: Path, *names: str, data: bytes = PNG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def put_area(folder: Path) -> None:
    colour = np.stack([0 * LABELS, LABELS // 256, LABELS % 256], axis=2).astype(np.uint8)
    put(folder, "area_1/pano/rgb/a_rgb.png")
    labels = saved_picture(Image.fromarray(colour), "PNG")
    put(folder, "area_1/pano/semantic/a_semantic.png", data=labels)


def masklets() -> list[bytes]:
    size = {"video_height": float(HEIGHT), "video_width": float(WIDTH)}
    objects = [rle(1), rle(2)]
    return [json.dumps({**size, "masklet": [objects, [rle(2), None], objects]}).encode()]


def masks_of_everything() -> list[bytes]:
    found = [{"id": k, "segmentation": rle(k), "area": 32} for k in (1, 2)]
    image = {"image_id": 1, "width": WIDTH, "height": HEIGHT}
    return [json.dumps({"image": image, "annotations": found}).encode()]


def youtube_vis() -> list[bytes]:
    names = ["_v/0.png", "_v/1.png"]
    found = [{"id": k, "video_id": 1, "segmentations": [rle(k), None]} for k in (1, 2)]
    square = {"id": 3, "video_id": 1, "segmentations": [None, [[4, 4, 12, 4, 12, 8, 4, 8]]]}
    document = {"videos": [{"id": 1, "file_names": names}], "annotations": [*found, square]}
    return [json.dumps(document).encode()]


def boxes() -> list[bytes]:
    frame = {
        "bbox": {"cx": 5.0, "cy": 5.0, "w": 2.0, "h": 2.0, "rotation": 0},
        "bfov": {"clon": 1.0, "clat": 1.0, "fov_h": 2.0, "fov_v": 2.0, "rotation": 0},
    }
    return [json.dumps({"0.png": frame, "1.png": frame}).encode()]


@functools.cache
def videos() -> list[bytes]:
    shown = [picture[::4, ::4] for picture in clips.moving_disc(5)[0]]
    kinds = (
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [
            clips.write_clip(Path(folder) / name, shown, codec=codec, gop=2)
            for name, codec in kinds
        ]
        turned = clips.write_clip(Path(folder) / "turned.mp4", shown, turned_deg=90)
        return [path.read_bytes() for path in (*files, turned)]


def read_video(path: Path) -> None:
    index = index_video(path)
    with closing(VideoReader(path, index)) as reader:
        last = len(index.times) - 1
        for number in (0, last, last // 2, 0):
            reader.read(number)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def weights() -> list[bytes]:
    return [saved({"model": STATE, "step": 3})]


def safetensors() -> list[bytes]:
    return [to_safetensors(STATE, metadata={"step": "3"})]


def train_states() -> list[bytes]:
    content = {
        "format": FORMAT, "version": VERSION, "step": 3, "position": 6, "model": STATE,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "ema": {}, "skipped": 0,
        "config": {"steps": 4}, "config_sha256": "c", "dataset_sha256": "d", "weights_sha256": "w",
    }  # fmt: skip
    return [saved(content)]


def read_weights(path: Path) -> None:
    check_architecture(open_checkpoint(path).state, STATE, path, "tiny")


def read_state(path: Path) -> None:
    """As it comes from whoever wrote it, its digest beside it."""
    sidecar(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    load(path)


def read_benchmark(name: str, root: Path, split: str | None = None) -> None:
    for item in get_benchmark(name).open(root, split):
        item.read()


def metrics() -> list[bytes]:
    rows = [{"step": k, "loss": 0.5, "lr": 1e-4, "clips_per_s": 2.0} for k in (1, 2)]
    return ["\n".join(map(json.dumps, rows)).encode()]


READERS = (
    Reader(
        "sav", "v_manual.json", masklets,
        lambda path: Sav("sav", path.parent, DRAW).clip(0), "json",
        lambda folder: put(folder, *(f"v/{k:05d}.jpg" for k in range(9)), data=JPEG),
    ),
    Reader(
        "sa1b", "sa_1.json", masks_of_everything,
        lambda path: Sa1b("sa1b", path.parent, DRAW).clip(0), "json",
        lambda folder: put(folder, "sa_1.jpg", data=JPEG),
    ),
    Reader(
        "youtube-vis", "train.json", youtube_vis,
        lambda path: read_benchmark("pavsodr", path.parent, "train"), "json",
        lambda folder: put(folder, "train/JPEGImages/_v/0.png", "train/JPEGImages/_v/1.png"),
    ),
    Reader(
        "360vot", "s/label.json", boxes, lambda path: list(open_tracks(path.parents[1])), "json",
        lambda folder: put(folder, "s/image/0.png", "s/image/1.png"),
    ),
    Reader(
        "semantic-labels", "semantic_labels.json",
        lambda: [json.dumps(["<UNK>_0_x_0_0", *(f"chair_{k}_x_0_0" for k in range(300))]).encode()],
        lambda path: read_benchmark("stanford2d3d", path.parent), "json",
        put_area,
    ),
    Reader(
        "tracker", "s.txt", lambda: [b"1,2,3,4\n5 6 7 8\n9,10,11,12\n"],
        lambda path: read_tracker(path, 3, 4), "text",
    ),
    Reader("video", "a.mp4", videos, read_video),
    Reader("checkpoint", "a.pt", weights, read_weights),
    Reader("safetensors", "a.safetensors", safetensors, read_weights),
    Reader("train-state", "step-00000003.pt", train_states, read_state),
    Reader("metrics", "metrics.jsonl", metrics, read_metrics, "text"),
)  # fmt: skip
