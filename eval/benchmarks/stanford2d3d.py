"""Benchmark `stanford2d3d`: the equirectangular images of 2D-3D-S, 4096×2048.

Armeni et al., 2017. Instances come from its semantic maps.

A pixel of a semantic map is an index as a colour, R·2¹⁶ + G·2⁸ + B, into
assets/semantic_labels.json, whose entries are <class>_<instance>_<room>_<area>; #0D0D0D is missing
data. Class `<UNK>` is no instance.

Of every pixel (the toolkit's README): the class of that index, depth and normals. Depth has 16
bits, 1/512 m from the camera's centre, 65535 = missing. Normals are centred on 127.5, #808080 =
missing, in global axes. They are turned into the panorama's frame by the rotation of its pose file
(`camera_rt_matrix`, world to an OpenCV camera that looks to the middle of the picture). The README
does not say that in so many words: a panorama whose normals then do not face the camera is refused.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID
from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.core.foreign.idmaps import read_idmap
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.foreign.pictures import panorama_of, read_panorama, read_picture
from panoforge.core.foreign.planes import read_plane
from panoforge.core.numbers import counted
from panoforge.core.types import Rgb
from panoforge.eval.benchmarks.base import (
    Benchmark,
    DenseAsked,
    DenseItem,
    Opened,
    PanoramaItem,
    Pixels,
)
from panoforge.eval.benchmarks.dense_folder import check_facing, check_size, metres, unit_vectors
from panoforge.eval.maps import DenseMaps

MISSING = 0x0D0D0D
TABLE = "semantic_labels.json"


def open_areas(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The panoramas of Stanford 2D-3D-S, area by area."""
    areas = [root / split] if split else (sorted(root.glob("area_*")) if root.is_dir() else [])
    tables = [path for path in (root / "assets" / TABLE, root / TABLE) if path.is_file()]
    if not areas or not tables:
        raise DataError(
            f"{root}: expected area_1, area_2, … and assets/{TABLE}; found {found_in(root)}"
        )
    names = read_json(tables[0])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{tables[0]}: expected a list of names like chair_3_office_1_2")
    items, left_out = [], LeftOut()
    for area in areas:
        images, others = _images(area)
        left_out += others
        for image in images:
            labels = area / "pano" / "semantic" / image.name.replace("_rgb.png", "_semantic.png")
            items.append(
                PanoramaItem(
                    f"{area.name}_{image.name.removesuffix('_rgb.png')}",
                    (image,),
                    (labels, tables[0]),
                    partial(_read, image, labels, names),
                )
            )
    if not items:
        raise DataError(
            f"{areas[0]}: expected pano/rgb/*_rgb.png with pano/semantic/*_semantic.png; found"
            f" {found_in(areas[0])}"
        )
    return Opened(items, left_out)


def open_dense(root: Path, split: str | None, asked: DenseAsked) -> Opened[DenseItem]:
    """The panoramas of Stanford 2D-3D-S with their maps, area by area."""
    if "semantic" in asked.tasks and asked.classes.name != "stanford13":
        raise UsageError(
            f"stanford2d3d has 13 classes of its own, and dense.classes is {asked.classes.name}:"
            " set it to stanford13"
        )
    found = open_areas(root, split)
    names = read_json(found[0].truth[1])
    items, without = [], []
    for panorama in found:
        image = panorama.images[0]
        files = {task: _beside(image, task) for task in ("semantic", "depth", "normal", "pose")}
        wanted = [*asked.tasks, *(["pose"] if "normal" in asked.tasks else [])]
        missing = [task for task in wanted if not files[task].is_file()]
        if missing:
            without.append((f"panorama without {' and '.join(missing)}", panorama.key))
            continue
        truth = tuple(files[task] for task in wanted)
        read = partial(_read_dense, image, files, names, asked)
        items.append(DenseItem(panorama.key, (image,), (*truth, panorama.truth[1]), read))
    return Opened(items, found.left_out + LeftOut.of(without))


def _beside(image: Path, kind: str) -> Path:
    """The file of another kind for a panorama's picture."""
    ends = {"normal": "normals.png", "pose": "pose.json"}
    name = image.name.removesuffix("rgb.png") + ends.get(kind, f"{kind}.png")
    return image.parent.parent / kind / name


def _read_dense(
    image: Path, files: Mapping[str, Path], names: list[str], asked: DenseAsked
) -> tuple[Rgb, DenseMaps]:
    rgb = read_panorama(image)
    semantic = depth_m = normal = None
    if "semantic" in asked.tasks:
        path = files["semantic"]
        labels, old = read_idmap(path, [MISSING])
        if old.size and old.max() >= len(names):
            raise _other_release(path, old, names)
        semantic = np.array([VOID, *(_class(names[k], asked) for k in old.tolist())], np.uint8)[
            labels
        ]
        check_size(semantic, rgb, path)
    if "depth" in asked.tasks:
        path = files["depth"]
        depth_m = metres(read_plane(path), 512.0, 65535)
        check_size(depth_m, rgb, path)
    if "normal" in asked.tasks:
        path = files["normal"]
        vectors = read_plane(path, 3).astype(np.float32) / np.float32(127.5) - 1
        normal = unit_vectors(vectors) @ _pano_from_global(files["pose"]).T
        check_size(normal, rgb, path)
        check_facing(normal, path, "global axes turned by the pose file")
    return rgb, DenseMaps(semantic, depth_m, normal)


def _class(name: str, asked: DenseAsked) -> int:
    """The number of the class in an entry such as chair_3_office_1_2; 255 for `<UNK>`."""
    word = name.split("_")[0]
    if word == asked.classes.void_name:
        return VOID
    if word not in asked.classes.classes:
        raise DataError(
            f"{TABLE} names a class {word!r}: expected {', '.join(asked.classes.classes)}"
        )
    return asked.classes.classes.index(word)


def _pano_from_global(path: Path) -> NDArray[np.float32]:
    """3×3: global axes → the panorama's (right, forward, up), by a pose file."""
    pose = read_json(path)
    try:
        world_to_camera = np.array(pose["camera_rt_matrix"], np.float64)[:3, :3]
    except (KeyError, TypeError, ValueError, IndexError):
        world_to_camera = np.zeros(0)
    if world_to_camera.shape != (3, 3) or not np.allclose(
        world_to_camera @ world_to_camera.T, np.eye(3), atol=1e-3
    ):
        raise DataError(f"{path}: expected camera_rt_matrix, a rotation beside a translation")
    right, down, forward = world_to_camera
    return np.stack([right, forward, -down]).astype(np.float32)


def _other_release(path: Path, old: NDArray[np.int64], names: list[str]) -> DataError:
    return DataError(
        f"{path} has index {int(old.max())}, and {TABLE}"
        f" {counted(len(names), 'entry', 'entries')}: they are not of"
        " one release"
    )


def _images(area: Path) -> tuple[list[Path], LeftOut]:
    """The pictures of an area, and what lies beside them or has none."""
    listing = list_pictures(area / "pano/rgb")
    images = [path for path in listing.pictures.values() if path.name.endswith("_rgb.png")]
    odd = [path.name for path in listing.pictures.values() if path not in images]
    maps = list_pictures(area / "pano/semantic")
    known = {path.name.replace("_rgb.png", "_semantic.png") for path in images}
    alone = [path.name for path in maps.pictures.values() if path.name not in known]
    kinds = [("picture whose name is not *_rgb.png", name) for name in odd]
    kinds += [("semantic map without its picture", name) for name in alone]
    bare = LeftOut.of([] if images else [("area without panoramas", area.name)])
    left_out = listing.left_out + maps.left_out + LeftOut.of(kinds)
    return images, left_out.inside(area.name) + bare


def _read(image: Path, path: Path, names: list[str]) -> Pixels:
    unknown = [k for k, name in enumerate(names) if name.startswith("<UNK>")]
    picture = read_picture(image)
    rgb, (labels, old) = panorama_of(picture, str(image)), read_idmap(path, [MISSING, *unknown])
    labels = picture.on_sphere(labels)
    if rgb.shape[:2] != labels.shape:
        raise DataError(
            f"{image} is {rgb.shape[1]}×{rgb.shape[0]}, {path} is"
            f" {labels.shape[1]}×{labels.shape[0]}: get both again, from one release of the dataset"
        )
    if old.size and old.max() >= len(names):
        raise _other_release(path, old, names)
    return Pixels(
        rgb,
        np.ascontiguousarray(labels),
        {k + 1: names[index].split("_")[0] for k, index in enumerate(old.tolist())},
    )


BENCHMARKS = (
    Benchmark(
        "stanford2d3d",
        "Stanford 2D-3D-S, equirectangular images",
        "images",
        "github.com/alexsax/2D-3D-Semantics, after signing the agreement linked there"
        " (area_*_no_xyz.tar).",
        "its agreement: non-commercial research and education.",
        "    area_<n>/pano/rgb/camera_…_rgb.png with area_<n>/pano/semantic/camera_…_semantic.png,"
        f" and assets/{TABLE}\n    task=dense: pano/depth/…_depth.png, pano/normal/…_normals.png"
        " and pano/pose/…_pose.json beside them",
        open_areas,
        dense=open_dense,
    ),
)
