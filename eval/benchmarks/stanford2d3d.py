"""Benchmark `stanford2d3d`: the equirectangular images of 2D-3D-S, 4096×2048.

Armeni et al., 2017. Instances come from its semantic maps.

A pixel of a semantic map is an index as a colour, R·2¹⁶ + G·2⁸ + B, into
assets/semantic_labels.json, whose entries are <class>_<instance>_<room>_<area>; #0D0D0D is missing
data. Class `<UNK>` is no instance.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.core.foreign.idmaps import read_idmap
from panoforge.core.foreign.pictures import read_image
from panoforge.core.numbers import counted
from panoforge.eval.benchmarks.base import Benchmark, PanoramaItem, Pixels

MISSING = 0x0D0D0D
TABLE = "semantic_labels.json"


def open_areas(root: Path, split: str | None) -> Sequence[PanoramaItem]:
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
    items = []
    for area in areas:
        for image in sorted((area / "pano" / "rgb").glob("*_rgb.png")):
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
            f"{areas[0]}: expected core/rgb/*_rgb.png with core/semantic/*_semantic.png; found"
            f" {found_in(areas[0])}"
        )
    return items


def _read(image: Path, path: Path, names: list[str]) -> Pixels:
    unknown = [k for k, name in enumerate(names) if name.startswith("<UNK>")]
    rgb, (labels, old) = read_image(image), read_idmap(path, [MISSING, *unknown])
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
