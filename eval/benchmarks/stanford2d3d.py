"""Benchmark `stanford2d3d`: the equirectangular images of 2D-3D-S, 4096×2048.

Armeni et al., 2017. Instances come from its semantic maps.

A pixel of a semantic map is an index as a colour, R·2¹⁶ + G·2⁸ + B, into
assets/semantic_labels.json, whose entries are <class>_<instance>_<room>_<area>; #0D0D0D is missing
data. Class `<UNK>` is no instance.
"""

from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.core.foreign.idmaps import read_idmap
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.foreign.pictures import panorama_of, read_picture
from panoforge.core.numbers import counted
from panoforge.eval.benchmarks.base import Benchmark, Opened, PanoramaItem, Pixels

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
            f" {labels.shape[1]}×{labels.shape[0]}"
        )
    if old.size and old.max() >= len(names):
        raise DataError(
            f"{path} has index {int(old.max())}, and {TABLE}"
            f" {counted(len(names), 'entry', 'entries')}: they are not of"
            " one release"
        )
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
        f" and assets/{TABLE}",
        open_areas,
    ),
)
