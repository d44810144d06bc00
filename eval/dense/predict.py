"""`pano predict`: one panorama, its classes, depth and normals, and the files that come of them.

    DIR/NAME.dense/   semantic.png   8 bits: class k of the label set as k + 1, 0 = none
                      depth.npy      float32 H×W, metres along the ray, +inf = none
                      normal.npy     float32 H×W×3, panorama's frame, zero = none
                      classes.jpg depth.jpg normals.jpg   to look at
                      points.ply     the pixels in space, thinned towards the poles
                      prediction.json                     which weights, and what the classes are
    DIR/staged/NAME/  a sample as the renderer stages one: `pano pack` takes it, `pano segment`
                      its instance.zst; ids are the connected parts of each class

A picture that covers a part of the sphere only (GPano) is placed on it; what is around is none.
"""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_map import category_of_class
from panoforge.core.categories.class_sets import VOID, ClassSet
from panoforge.core.categories.semantic import semantic_map
from panoforge.core.errors import DataError
from panoforge.core.export.ply import ply_bytes
from panoforge.core.foreign.pictures import read_placed
from panoforge.core.geometry.clouds import even_pixels, positions_m
from panoforge.core.geometry.shapes import sphere_parts
from panoforge.core.names import check_key
from panoforge.core.report.maps import depth_colours, normal_colours
from panoforge.core.report.pictures import overlay_ids
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.sample.products import encode_product
from panoforge.core.storage.atomic import write_folder_atomic
from panoforge.core.storage.runlog import versions
from panoforge.core.storage.staged import write_staged
from panoforge.core.types import Bools, Labels, Rgb
from panoforge.eval.dense.model import DenseModel
from panoforge.eval.dense.pictures import class_ids
from panoforge.eval.maps import DenseMaps

LEAST_PIXELS = 64  # of an instance; smaller parts of a class keep id 0
MOST_IDS = 65_535
SHOWN_FAR_M = 10.0
_UNPLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def predict_image(image: Path, model: DenseModel, folder: Path) -> list[Path]:
    """Predict the maps of a picture and write them.

    Args:
        image: An equirectangular picture, or a crop of one with GPano tags.
        model: What predicts.
        folder: Where the files go; an earlier prediction of that picture is replaced.

    Returns:
        The two folders, as the module says.

    Raises:
        DataError: The picture is damaged, or no panorama.
    """
    rgb, seen = read_placed(image)
    maps = unseen_is_none(model.maps(rgb), seen)
    name = _UNPLAIN.sub("-", image.stem).strip("-") or "panorama"
    place = folder / f"{name}.dense"
    write_folder_atomic(place, prediction_files(rgb, maps, model, image.name))
    sample = stage_prediction(folder / "staged", name, rgb, maps, model)
    return [place, sample]


def unseen_is_none(maps: DenseMaps, seen: Bools) -> DenseMaps:
    """The maps, nothing said where there was no picture."""
    if seen.all():
        return maps
    semantic, depth_m, normal = maps.semantic, maps.depth_m, maps.normal
    return replace(
        maps,
        semantic=None if semantic is None else np.where(seen, semantic, VOID).astype(np.uint8),
        depth_m=None if depth_m is None else np.where(seen, depth_m, np.inf).astype(np.float32),
        normal=None if normal is None else np.where(seen[..., None], normal, 0).astype(np.float32),
    )


def prediction_files(rgb: Rgb, maps: DenseMaps, model: DenseModel, source: str) -> dict[str, bytes]:
    """The files of DIR/NAME.dense by name."""
    files: dict[str, bytes] = {}
    if maps.semantic is not None:
        ids = class_ids(maps.semantic)
        files["semantic.png"] = encode_product("instance.png", ids.astype(np.uint8))
        files["classes.jpg"] = encode_product("rgb.jpg", overlay_ids(rgb, ids))
    if maps.depth_m is not None:
        files["depth.npy"] = _npy(maps.depth_m)
        files["depth.jpg"] = encode_product("rgb.jpg", depth_colours(maps.depth_m, SHOWN_FAR_M))
        files["points.ply"] = cloud_ply(rgb, maps, source)
    if maps.normal is not None:
        files["normal.npy"] = _npy(maps.normal)
        files["normals.jpg"] = encode_product("rgb.jpg", normal_colours(maps.normal))
    facts = {
        "format": "panoforge-prediction",
        "schema_version": 1,
        "picture": source,
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "weights": {"file": model.record.source, "sha256": model.record.sha256},
        "tasks": list(model.tasks),
        "classes": {
            "set": model.classes.name,
            "names": dict(enumerate(model.classes.classes, start=1)),
        },
        "shown_depth_m": SHOWN_FAR_M,
        "versions": versions(),
    }
    files["prediction.json"] = json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n"
    return files


def cloud_ply(rgb: Rgb, maps: DenseMaps, source: str) -> bytes:
    """The pixels with a depth as PLY points: colour, normal and class where they are known."""
    if maps.depth_m is None:
        raise DataError(f"{source}: no depth was predicted, so there are no points")
    kept = even_pixels(*maps.depth_m.shape) & np.isfinite(maps.depth_m)
    return ply_bytes(
        positions_m(maps.depth_m, kept),
        normal=None if maps.normal is None else maps.normal[kept],
        colour=rgb[kept],
        label=None if maps.semantic is None else class_ids(maps.semantic)[kept],
        comments=(f"points of {source}", "metres; x right, y forward to its middle, z up"),
    )


def instances_of(
    semantic: NDArray[np.uint8], classes: ClassSet
) -> tuple[Labels, dict[int, InstanceLabel]]:
    """Ids uint16 H×W of the connected parts of each class, on the sphere, and what they are."""
    labels, names = np.zeros(semantic.shape, np.uint16), dict[int, InstanceLabel]()
    categories = category_of_class(classes)
    for number in np.unique(semantic[semantic != VOID]).tolist():
        parts, count = sphere_parts(semantic == number)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        kept = min(int(np.count_nonzero(sizes >= LEAST_PIXELS)), MOST_IDS - len(names))
        inside = (parts > 0) & (parts <= kept)  # the largest come first
        labels[inside] = (parts[inside] + len(names)).astype(np.uint16)
        name = classes.classes[number]
        for part in range(1, kept + 1):
            label = InstanceLabel(f"{name}_{part}", categories[number], name)
            names[len(names) + 1] = label
    return labels, names


def stage_prediction(staged: Path, key: str, rgb: Rgb, maps: DenseMaps, model: DenseModel) -> Path:
    """Write the prediction as a sample; its folder."""
    check_key(key)
    height, width = rgb.shape[:2]
    labels, names = np.zeros((height, width), np.uint16), dict[int, InstanceLabel]()
    arrays: dict[str, NDArray] = {"rgb.jpg": rgb}
    if maps.semantic is not None:
        labels, names = instances_of(maps.semantic, model.classes)
        categories = {id_: label.category for id_, label in names.items()}
        arrays["semantic.zst"] = semantic_map(labels, categories)
    arrays["instance.zst"] = labels
    if maps.depth_m is not None:
        arrays["depth.delta.zst"] = maps.depth_m.astype(np.float32)
    if maps.normal is not None:
        arrays["normal.oct.zst"] = maps.normal.astype(np.float32)
    meta = SampleMeta(
        key=key,
        width=width,
        height=height,
        source="predicted",
        scene=key,
        seed=0,
        camera=0,
        pose=Pose(position_m=(0.0, 0.0, 0.0), yaw_deg=0.0, world_from_pano=_UPRIGHT),
        products=tuple(sorted(arrays)),
        instances=instance_table(labels, names),
        config_sha256=model.record.sha256 or "0" * 64,
        versions=versions(),
        timings_s={},
    )
    write_staged(staged, meta, arrays)
    return staged / key


def _npy(array: NDArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
