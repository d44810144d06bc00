"""Benchmark `folder`: anything that is equirectangular images with instance masks. The form to
bring your own data in.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_image, read_json
from panoforge.core.types import Labels, Rgb
from panoforge.eval.benchmarks.base import Benchmark, PanoramaItem
from panoforge.eval.benchmarks.idmaps import coco_masks, images_in, read_idmap, stack_masks

COCO = "annotations.json"


def open_folder(root: Path, split: str | None) -> Sequence[PanoramaItem]:
    folder = root / split if split else root
    images = images_in(folder / "images")
    if not images:
        raise DataError(f"{folder}: expected images/*.jpg or *.png, found {found_in(folder)}")
    if (folder / COCO).is_file():
        return open_coco(folder / "images", folder / COCO)
    items = []
    for image in images:
        mask = folder / "masks" / f"{image.stem}.png"
        if not mask.is_file():
            raise DataError(
                f"{image} has no masks/{image.stem}.png, and there is no {COCO} in {folder}; masks/"
                f" holds {found_in(folder / 'masks')}"
            )
        items.append(PanoramaItem(image.stem, partial(read_pair, image, mask)))
    return items


def read_pair(
    image: Path, mask: Path, background: tuple[int, ...] = (0,)
) -> tuple[Rgb, Labels, dict[int, str]]:
    """An image and its id map, which must be of one size."""
    rgb, (labels, _) = read_image(image), read_idmap(mask, background)
    if rgb.shape[:2] != labels.shape:
        raise DataError(
            f"{image} is {rgb.shape[1]}×{rgb.shape[0]}, its id map {mask} is"
            f" {labels.shape[1]}×{labels.shape[0]}"
        )
    return rgb, labels, {}


def open_coco(folder: Path, path: Path) -> list[PanoramaItem]:
    """The images of a COCO instances file, those that have annotations."""
    document = read_json(path)
    try:
        names = {
            category["id"]: str(category["name"]) for category in document.get("categories", [])
        }
        files = {image["id"]: str(image["file_name"]) for image in document["images"]}
        found: dict[Any, list[Mapping[str, Any]]] = {}
        for annotation in document["annotations"]:
            if not annotation.get("iscrowd"):
                found.setdefault(annotation["image_id"], []).append(annotation)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not COCO instances ({type(error).__name__} {error}): expected images,"
            " annotations and categories"
        ) from error
    lost = sorted(str(id_) for id_ in set(found) - set(files))
    if lost:
        raise DataError(f"{path} annotates images that it does not list: {', '.join(lost[:5])}")
    return [
        PanoramaItem(
            Path(files[id_]).stem,
            partial(_read_coco, folder / Path(files[id_]).name, found[id_], names, path),
        )
        for id_ in sorted(found, key=files.__getitem__)
    ]


def _read_coco(
    image: Path, annotations: Sequence[Mapping[str, Any]], names: Mapping[Any, str], path: Path
) -> tuple[Rgb, Labels, dict[int, str]]:
    rgb = read_image(image)
    labels, old = stack_masks(coco_masks(annotations, *rgb.shape[:2], path), *rgb.shape[:2], path)
    return (
        rgb,
        labels,
        {
            k + 1: names.get(annotations[index].get("category_id"), "")
            for k, index in enumerate(old)
        },
    )


LAYOUT = """    [<split>/]images/<name>.jpg            equirectangular, W = 2·H
    [<split>/]masks/<name>.png             instance ids: 8 or 16 bit grey, palette, or one colour per instance; 0 or black = nothing
    [<split>/]annotations.json             instead of masks/: COCO instances (polygons or RLE)"""

BENCHMARKS = (
    Benchmark(
        "folder",
        "A folder of panoramas with masks",
        "images",
        "your own.",
        "your own.",
        LAYOUT,
        open_folder,
    ),
)
