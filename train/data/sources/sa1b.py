"""SA-1B: images with masks of everything, no classes; one-frame clips.

    <folder>[/sa_000000]/sa_<id>.jpg
    <folder>[/sa_000000]/sa_<id>.json    {"image": {width, height, …},
                                          "annotations": [{segmentation: RLE, area, …}]}

Images lie in the folder or in its folders (one per downloaded tar). Of an image's hundred masks
only those that are chosen are decoded. Format: segment-anything.com/dataset, as read by SAM2's
SA1BSegmentLoader.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.masks import fill_runs, run_area, run_counts
from panoforge.core.foreign.pictures import read_image
from panoforge.core.numbers import counted
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

_NAME = re.compile(r"sa_([0-9]{1,18})\.(jpg|json)")


class Sa1b(Listed):
    """The images of a folder of SA-1B.

    Holds two numbers per image, so that all eleven million fit.
    """

    def __init__(self, name: str, folder: Path, draw: Draw) -> None:
        self.folder = folder
        self.folders = (
            [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
        )
        pictures, left_out = list[tuple[int, int]](), NOTHING
        for number, inside in enumerate(self.folders):
            ids, others = _images(inside)
            pictures += [(number, id_) for id_ in ids]
            left_out += others if inside == folder else others.inside(inside.name)
        if not pictures:
            raise DataError(
                f"{folder} is no SA-1B: expected sa_<id>.jpg with sa_<id>.json, in it or in its"
                f" folders, found {found_in(folder)}"
            )
        self.table = np.array(pictures, np.int64)
        super().__init__(name, draw, len(pictures), left_out)

    def path(self, item: int) -> Path:
        """The image's path without its suffix."""
        number, id_ = self.table[item]
        return self.folders[number] / f"sa_{id_}"

    def item_key(self, item: int) -> str:
        """The file of an image, as messages name it."""
        return str(self.path(item).relative_to(self.folder)) + ".jpg"

    def sha256(self) -> str:
        """Digest of which images there are."""
        return listing_sha256(self.item_key(item) for item in range(self.items))

    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        """The clip at `position`: one image as several frames."""
        path = self.path(item)
        image = read_image(path.with_suffix(".jpg"))
        height, width = image.shape[:2]
        content, where = read_json(path.with_suffix(".json")), str(path.with_suffix(".json"))
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise DataError(f'{where}: expected {{"image": …, "annotations": [...]}} of SA-1B')
        runs = {
            i: run_counts(a.get("segmentation"), height, width, f"{where}, annotation {i}")
            for i, a in enumerate(annotations)
        }
        shares = {i: run_area(r) / (height * width) for i, r in runs.items()}
        ids = choose(shares, lambda i: fill_runs(runs[i], height, width), self.draw, rng)
        if not ids:
            raise nothing_to_prompt(self.item_key(item), self.draw)
        return make_clip(
            position, [image], {i: [fill_runs(runs[i], height, width)] for i in ids}, self.draw, rng
        )


def _images(folder: Path) -> tuple[list[int], LeftOut]:
    """The ids of the images of one folder, and what else lies there.

    DataError where an image has no annotations.
    """
    found: dict[str, set[int]] = {"jpg": set(), "json": set()}
    odd = []
    with os.scandir(folder) as entries:  # it knows what is a file without asking for each
        names = [e.name for e in entries if e.is_file() and not e.name.startswith(".")]
    for name in names:
        match = _NAME.fullmatch(name)
        if match and f"sa_{int(match[1])}.{match[2]}" == name:
            found[match[2]].add(int(match[1]))
        else:
            odd.append(name)
    alone = sorted(found["jpg"] - found["json"])
    if alone:
        raise DataError(
            f"{folder / f'sa_{alone[0]}.jpg'} has no sa_{alone[0]}.json beside it"
            f" ({counted(len(alone), 'such image')}): SA-1B's archives hold both, extract or"
            " download them again"
        )
    left_out = LeftOut.of(("file whose name is not SA-1B's", name) for name in sorted(odd))
    bare = sorted(found["json"] - found["jpg"])
    left_out += LeftOut.of(("annotations without a picture", f"sa_{id_}.json") for id_ in bare)
    return sorted(found["jpg"]), left_out
