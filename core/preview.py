"""`pano preview`: one sample or one video of a dataset as pictures, and as a page to look around.

    DIR/KEY.jpg           the panorama
    DIR/KEY.ids.png       its ids, in the colours that all our pages give them
    DIR/KEY.over.jpg      both, one over the other
    DIR/KEY.depth.jpg     near bright, far dark
    DIR/KEY.normals.jpg   right, forward and up as red, green and blue
    DIR/KEY.flow.jpg      of a frame: where what it shows goes
    DIR/KEY.strip.jpg     of a video: a few frames, their ids and their flow
    DIR/KEY.html          the panorama in a 360° view, and its points in space

What a sample does not hold has no file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from panoforge.core import __version__
from panoforge.core.errors import UsageError
from panoforge.core.names import check_key
from panoforge.core.numbers import counted
from panoforge.core.report.maps import depth_colours, flow_colours, normal_colours
from panoforge.core.report.page import (
    Block,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    render_report,
)
from panoforge.core.report.pictures import (
    colour_ids,
    jpeg_uri,
    overlay_ids,
    png_uri,
    shrink_ids,
    shrink_rgb,
)
from panoforge.core.report.points import PointView, cloud_of_panorama
from panoforge.core.report.viewer import Sphere, id_layer
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX, encode_product
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.core.types import Rgb

WIDTH_PX = 1024
FAR_M = 40.0  # the darkest depth, where the panorama goes on farther
POINTS_HEIGHT = 256  # rows that points are taken from: some 80,000 of them
STRIP_FRAMES = 4


def preview(dataset: Dataset, key: str | None, folder: Path, width: int = WIDTH_PX) -> list[Path]:
    """Write the pictures of a sample or a video.

    Args:
        dataset: Where it lies.
        key: The sample's or the video's; None takes the first video, else the first sample.
        folder: Where the files go; earlier ones of the same name are replaced.
        width: Pixels of the widest picture; smaller panoramas stay as they are.

    Returns:
        The files.

    Raises:
        UsageError: There is no such key, or the dataset is empty.
        DataError: The sample is damaged.
        InUse: Another process writes there.
    """
    videos = dataset.videos["video"].to_pylist()
    if not len(dataset):
        raise UsageError(f"{dataset.folder} holds no samples: there is nothing to look at")
    dataset.instances()  # read too: names that lie anywhere in the index are refused everywhere
    key = key or (videos or dataset.keys)[0]
    with held(folder, "pano preview") as lease:
        files = (
            {"strip.jpg": strip(dataset, key, width)}
            if key in videos
            else sample_files(dataset.by_key(key), width)
        )
        lease.check()
        paths = [folder / f"{check_key(key)}.{suffix}" for suffix in files]
        for path, data in zip(paths, files.values(), strict=True):
            write_bytes_atomic(path, data)
    return paths


def sample_files(sample: Sample, width: int) -> Mapping[str, bytes]:
    """The files of a sample by suffix, as the module says."""
    maps = sample_maps(sample)
    files = {
        "jpg": encode_product("rgb.jpg", shrink_rgb(maps["picture"], width)),
        "ids.png": encode_product(
            "rgb.png", colour_ids(shrink_ids(sample.read("instance"), width))
        ),
        "over.jpg": encode_product("rgb.jpg", shrink_rgb(maps["ids"], width)),
    }
    for name in ("depth", "normals", "flow"):
        if name in maps:
            files[f"{name}.jpg"] = encode_product("rgb.jpg", shrink_rgb(maps[name], width))
    return files | {"html": render_report(page(sample, maps)).encode()}


def sample_maps(sample: Sample) -> dict[str, Rgb]:
    """What the sample holds, as pictures uint8 H×W×3 by what they show."""
    rgb, has = sample.read("rgb"), holds(sample)
    found = {"picture": rgb, "ids": overlay_ids(rgb, sample.read("instance"))}
    if "depth" in has:
        found["depth"] = depth_colours(sample.read("depth"), far_m(sample))
    if "normal" in has:
        found["normals"] = normal_colours(sample.read("normal").astype(np.float32))
    if "flow_forward" in has:
        found["flow"] = flow_colours(sample.flow("forward"))
    return found


def holds(sample: Sample) -> set[str]:
    """The names of the sample's products."""
    return {PRODUCT_OF_SUFFIX[suffix] for suffix in sample.meta.products}


def far_m(sample: Sample) -> float:
    """The depth that is darkest: the farthest surface, 40 m at most."""
    depth = sample.read("depth")
    return float(min(FAR_M, np.max(depth[np.isfinite(depth)], initial=1.0)))


def page(sample: Sample, maps: Mapping[str, Rgb]) -> Report:
    """The sample to look around in, and its points in space where depth says where they are."""
    meta, ids = sample.meta, sample.read("instance")
    names = {thing.id: thing.category for thing in meta.instances}
    sphere = Sphere(
        jpeg_uri(shrink_rgb(maps["picture"], 4096)),
        (id_layer("ids", shrink_ids(ids, 2048), names),),
    )
    shown = [Picture(jpeg_uri(shrink_rgb(maps["picture"], 720)), "look around", wide=True)]
    shown.append(
        Picture(png_uri(colour_ids(shrink_ids(ids, 720))), "ids", shown=("ids",), opacity=1.0)
    )
    shown += [
        Picture(jpeg_uri(shrink_rgb(maps[name], 720)), name)
        for name in ("depth", "normals", "flow")
        if name in maps
    ]
    note = f"{counted(len(meta.instances), 'id')}, {meta.width}×{meta.height}"
    sections = [Section("Look around", [Gallery([Item(sample.key, shown, note, sphere=sphere)])])]
    if "depth" in maps:
        sections.append(Section("In space", [_points(sample, maps)]))
    return Report(sample.key, sections, meta.source, made_by=f"panoforge {__version__}")


def _points(sample: Sample, maps: Mapping[str, Rgb]) -> Block:
    depth = sample.read("depth")
    step = max(1, depth.shape[0] // POINTS_HEIGHT)
    kept = slice(step // 2, None, step)
    colours = {name: maps[name][kept, kept] for name in ("picture", "ids") if name in maps}
    return PointView(sample.key, [cloud_of_panorama("truth", depth[kept, kept], colours)])


def strip(dataset: Dataset, key: str, width: int) -> bytes:
    """Frames of a video one below the other; beside each its ids and its flow, as JPEG."""
    frames = dataset.video(key).frame_keys
    chosen = np.unique(np.linspace(0, len(frames) - 2, STRIP_FRAMES).round().clip(0).astype(int))
    columns: list[Callable[[Sample], Rgb]] = [
        lambda sample: sample.read("rgb"),
        lambda sample: colour_ids(sample.read("instance")),
    ]
    if "flow_forward" in holds(dataset.by_key(frames[0], ())):
        columns.append(lambda sample: flow_colours(sample.flow("forward")))
    wide = width // len(columns)
    rows = []
    for number in chosen:
        sample = dataset.by_key(frames[number])
        cells = [
            cv2.resize(draw(sample), (wide, wide // 2), interpolation=cv2.INTER_AREA)
            for draw in columns
        ]
        rows.append(np.concatenate(cells, axis=1))
    return encode_product("rgb.jpg", np.concatenate(rows))
