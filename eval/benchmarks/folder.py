"""Benchmark `folder`: anything that is equirectangular images with instance masks.

The form to bring your own data in.
"""

from functools import partial
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.coco import CocoImage, read_coco
from panoforge.core.foreign.files import found_in, inside
from panoforge.core.foreign.idmaps import read_idmap, stack_masks
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.listing import Listing, composed, list_pictures
from panoforge.core.foreign.masks import MadeMasks
from panoforge.core.foreign.pictures import panorama_of, read_panorama, read_picture
from panoforge.core.types import Rgb
from panoforge.eval.benchmarks.base import (
    Benchmark,
    DenseAsked,
    DenseItem,
    Opened,
    PanoramaItem,
    Pixels,
)
from panoforge.eval.benchmarks.dense_folder import check_size, map_file, read_maps
from panoforge.eval.maps import DenseMaps

# The second is where `pano export --to coco` and `pano annotate` put it.
COCO, EXPORTED_COCO = "annotations.json", "annotations/instances.json"


def open_folder(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The pictures of a folder with their id maps or COCO annotations."""
    folder = root / split if split else root
    listing = list_pictures(folder / "images")
    for coco in (folder / COCO, folder / EXPORTED_COCO):
        if coco.is_file():
            return open_coco(folder / "images", coco, listing)
    if not listing.pictures:
        raise DataError(f"{folder}: expected images/*.jpg or *.png, found {found_in(folder)}")
    masks = list_pictures(folder / "masks")
    pngs = {stem: path for stem, path in masks.pictures.items() if path.suffix.lower() == ".png"}
    items = []
    for stem, image in listing.pictures.items():
        if stem not in pngs:
            raise DataError(
                f"{image} has no masks/{image.stem}.png, and there is no {COCO} or {EXPORTED_COCO}"
                f" in {folder}; masks/ holds {found_in(folder / 'masks')}. Add the"
                " id map, or take the picture out"
            )
        items.append(pair_item(stem, image, pngs.pop(stem)))
    alone = LeftOut.of(("mask without an image", path.name) for path in pngs.values())
    return Opened(items, listing.left_out + masks.left_out + alone)


def pair_item(
    key: str, image: Path, mask: Path, background: tuple[int, ...] = (0,)
) -> PanoramaItem:
    """The panorama of an image and its id map."""
    return PanoramaItem(key, (image,), (mask,), partial(read_pair, image, mask, background))


def read_pair(image: Path, mask: Path, background: tuple[int, ...] = (0,)) -> Pixels:
    """An image and its id map, which must be of one size."""
    picture = read_picture(image)
    rgb = panorama_of(picture, str(image))
    labels, _ = read_idmap(mask, background)
    labels = picture.on_sphere(labels)
    if rgb.shape[:2] != labels.shape:
        raise DataError(
            f"{image} is {rgb.shape[1]}×{rgb.shape[0]}, its id map {mask} is"
            f" {labels.shape[1]}×{labels.shape[0]}: make the map of the picture's size, without"
            " smoothing"
        )
    return Pixels(rgb, labels, {})


def open_coco(folder: Path, path: Path, listing: Listing | None = None) -> Opened[PanoramaItem]:
    """The images of a COCO instances file that have objects, which lie in `folder`.

    Pictures of `listing` that the file does not name are counted as left out.
    """
    coco = read_coco(path)
    files = {image.id: inside(folder, image.file_name) for image in coco.images}
    unnamed = set(listing.pictures.values()) - set(files.values()) if listing else set()
    left_out = coco.left_out + LeftOut.of(
        ("picture without objects in the annotations", picture.name) for picture in sorted(unnamed)
    )
    if listing:
        left_out = listing.left_out + left_out
    items = [
        PanoramaItem(
            key_of(image.file_name),
            (files[image.id],),
            (path,),
            partial(_read_coco, files[image.id], image),
        )
        for image in sorted(coco.images, key=lambda image: image.file_name)
    ]
    return Opened(items, left_out)


def key_of(file_name: str) -> str:
    """`night/0001.jpg` → `night_0001`: a key names a folder of results."""
    parts = Path(composed(file_name.replace("\\", "/"))).with_suffix("").parts
    return "_".join(part for part in parts if part != ".")


def _read_coco(path: Path, image: CocoImage) -> Pixels:
    picture = read_picture(path)
    rgb = panorama_of(picture, str(path))
    height, width = picture.rgb.shape[:2]
    image.check_size(height, width, path)
    masks = MadeMasks(range(len(image.objects)), lambda k: image.objects[k].mask(height, width))
    labels, old, lost = stack_masks(masks, height, width, path)
    names = {k + 1: image.objects[index].category for k, index in enumerate(old)}
    return Pixels(rgb, picture.on_sphere(labels), names, lost)


LAYOUT = """    [<split>/]images/<name>.jpg            W = 2·H; also PNG, WebP, AVIF, TIFF
    [<split>/]masks/<name>.png             instance ids: 8 or 16 bit grey, palette, or one colour
                                           per instance; 0 or black = nothing
    [<split>/]annotations.json             instead of masks/: COCO instances (polygons or RLE),
                                           file_name below images/; a folder that pano export
                                           --to coco or pano annotate wrote will do as it is"""

DENSE_LAYOUT = (
    "\n    task=dense: semantic/NAME.png (8 bits, class k as k + 1, 0 = void), depth/NAME.png"
    "\n    (16 bits, millimetres) or .npy or .exr (metres), normal/NAME.png ((v/255)·2 − 1) or .npy"
    "\n    or .exr"
)


def open_dense(root: Path, split: str | None, asked: DenseAsked) -> Opened[DenseItem]:
    """The pictures of a folder with their maps (`panoforge.eval.benchmarks.dense_folder`)."""
    folder = root / split if split else root
    listing = list_pictures(folder / "images")
    if not listing.pictures:
        raise DataError(f"{folder}: expected images/*.jpg or *.png, found {found_in(folder)}")
    items, without, why = [], [], ""
    for stem, image in listing.pictures.items():
        try:
            truth = tuple(map_file(folder, task, stem) for task in asked.tasks)
        except DataError as error:
            without.append(("picture without its maps", stem))
            why = str(error)
            continue
        items.append(DenseItem(stem, (image,), truth, partial(_read_dense, image, folder, asked)))
    if not items:
        raise DataError(
            f"{folder}: no picture of images/ has a map in each of"
            f" {', '.join(f'{task}/' for task in asked.tasks)}; the last: {why}."
            " Add the maps, or leave a task out of dense.tasks"
        )
    return Opened(items, listing.left_out + LeftOut.of(without))


def _read_dense(image: Path, folder: Path, asked: DenseAsked) -> tuple[Rgb, DenseMaps]:
    rgb = read_panorama(image)
    maps = read_maps(folder, composed(image.stem), asked.tasks, asked.classes)
    for task in asked.tasks:
        found = maps.of(task)
        if found is not None:
            check_size(found, rgb, folder / task / image.stem)
    return rgb, maps


BENCHMARKS = (
    Benchmark(
        "folder",
        "A folder of panoramas with masks",
        "images",
        "your own.",
        "your own.",
        LAYOUT + DENSE_LAYOUT,
        open_folder,
        dense=open_dense,
    ),
)
