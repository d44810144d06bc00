"""COCO-format perspective images: one-frame clips.

    <folder>/annotations/instances_<split>.json    images, annotations (polygons, or RLE compressed
                                                   or not), categories
    <folder>/<split>/<file_name>                   the images; or <folder>/images/…, or <folder>/…

The annotations are read once, when the source is opened, and kept. What is no object with a mask
(crowds, boxes only) is left out and counted (`panoforge.core.foreign.coco`).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.coco import read_coco
from panoforge.core.foreign.files import found_in, inside
from panoforge.core.foreign.masks import MadeMasks
from panoforge.core.foreign.pictures import read_image
from panoforge.train.data.sources.draw import (
    Draw,
    Listed,
    choose,
    listing_sha256,
    make_clip,
    nothing_to_prompt,
)

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint


class Coco(Listed):
    """The images of one COCO annotation file that have objects."""

    def __init__(self, name: str, folder: Path, draw: Draw, split: str | None = None) -> None:
        self.folder, self.where = folder, _annotation_file(folder, split)
        coco = read_coco(self.where)
        self.images = coco.images
        self.root = _image_folder(folder, self.where, self.images[0].file_name)
        super().__init__(name, draw, len(self.images), coco.left_out)

    def item_key(self, item: int) -> str:
        """The file of an image, as messages name it."""
        return self.images[item].file_name

    def sha256(self) -> str:
        """Digest of which images with how many objects there are."""
        return listing_sha256(
            f"{image.id} {image.file_name} {len(image.objects)}" for image in self.images
        )

    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        """The clip at `position`: one image as several frames."""
        image = self.images[item]
        path = inside(self.root, image.file_name)
        rgb = read_image(path)
        height, width = rgb.shape[:2]
        image.check_size(height, width, path)
        masks = MadeMasks(range(len(image.objects)), lambda i: image.objects[i].mask(height, width))
        ids = choose(
            {i: float(mask.mean()) for i, mask in masks.items()}, masks.__getitem__, self.draw, rng
        )
        if not ids:
            raise nothing_to_prompt(image.file_name, self.draw)
        return make_clip(position, [rgb], {i: [masks[i]] for i in ids}, self.draw, rng)


def _annotation_file(folder: Path, split: str | None) -> Path:
    """The one annotation file meant. DataError where there is none, or several and no split."""
    found = sorted(folder.glob(f"annotations/instances_{split or '*'}.json"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{folder}/annotations has {[p.name for p in found]}: set split to the part after"
            " instances_"
        )
    there = [p.name for p in (folder / "annotations").glob("*.json")] or found_in(folder)
    raise DataError(
        f"{folder} is no COCO dataset: expected annotations/instances_{split or '<split>'}.json,"
        f" found {there}"
    )


def _image_folder(folder: Path, annotations: Path, first: str) -> Path:
    """Where the images lie, told by the first of them."""
    split = annotations.stem.removeprefix("instances_")
    candidates = [folder / split, folder / "images" / split, folder / "images", folder]
    for candidate in candidates:
        if inside(candidate, first).is_file():
            return candidate
    raise DataError(
        f"{annotations} lists {first}, which is in none of {[str(c) for c in candidates]}:"
        " put the pictures into one of them"
    )
