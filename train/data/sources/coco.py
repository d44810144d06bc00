"""COCO-format perspective images: one-frame clips.

    <folder>/annotations/instances_<split>.json    images, annotations (polygons, or RLE compressed or not), categories
    <folder>/<split>/<file_name>                   the images; or <folder>/images/…, or <folder>/…

The annotations are read once, when the source is opened, and kept. Crowds (`iscrowd`) are no
objects and are left out. Format: cocodataset.org/#format-data.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import fill_runs, found_in, read_image, read_json, run_counts
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

MAX_ANNOTATIONS_BYTES = 1 << 30  # train2017 has 450 MB


class Coco(Listed):
    """The images of one COCO annotation file that have objects."""

    def __init__(self, name: str, folder: Path, draw: Draw, split: str | None = None) -> None:
        self.folder, self.where = folder, _annotation_file(folder, split)
        content = read_json(self.where, MAX_ANNOTATIONS_BYTES)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key), list) for key in ("images", "annotations")
        ):
            raise DataError(
                f"{self.where}: expected COCO's images and annotations, found "
                f"{sorted(content)[:8] if isinstance(content, dict) else type(content).__name__}"
            )
        self.objects: dict[int, list[dict[str, Any]]] = {}
        try:
            for annotation in content["annotations"]:
                if not annotation.get("iscrowd"):
                    self.objects.setdefault(int(annotation["image_id"]), []).append(
                        {"id": int(annotation["id"]), "segmentation": annotation["segmentation"]}
                    )
            images = [(int(image["id"]), str(image["file_name"])) for image in content["images"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{self.where}: an image or annotation lacks or garbles {error}: it is not COCO's"
                " format"
            ) from None
        self.images = [image for image in images if image[0] in self.objects]
        if not self.images:
            raise DataError(
                f"{self.where}: none of its {len(content['images'])} images has an object that is"
                " not a crowd"
            )
        self.root = _image_folder(folder, self.where, self.images[0][1])
        super().__init__(name, draw, len(self.images))

    def item_key(self, item: int) -> str:
        return self.images[item][1]

    def sha256(self) -> str:
        return listing_sha256(f"{id_} {name} {len(self.objects[id_])}" for id_, name in self.images)

    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        image_id, name = self.images[item]
        image = read_image(inside(self.root, name))
        height, width = image.shape[:2]
        masks = {
            i: _mask(a["segmentation"], height, width, f"{self.where}, annotation {a['id']}")
            for i, a in enumerate(self.objects[image_id])
        }
        ids = choose(
            {i: float(mask.mean()) for i, mask in masks.items()}, masks.__getitem__, self.draw, rng
        )
        if not ids:
            raise nothing_to_prompt(name, self.draw)
        return make_clip(position, [image], {i: [masks[i]] for i in ids}, self.draw, rng)


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
        f"{annotations} lists {first}, which is in none of {[str(c) for c in candidates]}"
    )


def inside(root: Path, name: str) -> Path:
    """root/name. DataError where the name leads out of the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(
            f"file_name {name!r} leads out of {root}: an annotation file names images below its own"
            " folder only"
        )
    return root / name


def _mask(segmentation: Any, height: int, width: int, where: str) -> NDArray[np.bool_]:
    """The H×W mask of polygons (a list of [x0, y0, x1, y1, …]) or of an RLE."""
    if isinstance(segmentation, dict):
        return fill_runs(run_counts(segmentation, height, width, where), height, width)
    try:
        polygons = [np.asarray(p, np.float64) for p in segmentation]
        good = polygons and all(
            p.ndim == 1
            and p.size >= 6
            and p.size % 2 == 0
            and np.abs(p).max() <= 2 * (height + width)
            for p in polygons
        )  # NaN compares false
    except (TypeError, ValueError):
        good = False
    if not good:
        raise DataError(
            f"{where}: expected polygons of three or more points near its {width}×{height} image,"
            f" or an RLE, found {str(segmentation)[:60]!r}"
        )
    rles = coco_mask.frPyObjects([p.tolist() for p in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)
