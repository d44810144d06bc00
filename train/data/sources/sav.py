"""SA-V: videos with masklets; clips of consecutive annotated frames.

    <folder>[/sav_000]/<id>_manual.json, <id>_auto.json
                                       masklet: [annotated frame][object] COCO RLE, video_height, …
    <folder>[/sav_000]/<id>.mp4           the video at 24 frames a second, or
    <folder>[/sav_000]/<id>/00000.jpg …   frames extracted from it (SAM2's own script)

Every fourth frame is annotated: entry k of `masklet` belongs to frame 4·k. Frames with an object
left unannotated (null) are passed over, as SAM2's JSONRawDataset does. A video is decoded only as
far as its clip needs. The val and test sets have another layout: `vos` reads them.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.masks import fill_runs, run_area, run_counts
from panoforge.core.foreign.pictures import read_image
from panoforge.core.foreign.videos import VideoReader, index_video
from panoforge.core.numbers import counted
from panoforge.core.types import Rgb, RunLengths
from panoforge.train.data.sources.draw import (
    Draw,
    Listed,
    choose,
    listing_sha256,
    make_clip,
    walk_with_objects,
)

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

ANNOTATED_EVERY = 4
MAX_SIDE_PX = 16384
MAX_FRAMES = 100_000


class Sav(Listed):
    """The videos of a folder of SA-V.

    With the masklets that people drew ("manual") or those found by SAM2 ("auto").
    """

    def __init__(self, name: str, folder: Path, draw: Draw, annotations: str = "manual") -> None:
        self.folder, self.ending = folder, f"_{annotations}.json"
        found = (
            [*folder.glob(f"*{self.ending}"), *folder.glob(f"*/*{self.ending}")]
            if folder.is_dir()
            else []
        )
        self.videos = sorted(p.with_name(p.name.removesuffix(self.ending)) for p in found)
        if not self.videos:
            raise DataError(
                f"{folder} is no SA-V training set: expected <id>{self.ending} beside <id>.mp4 or"
                f" the frames <id>/00000.jpg, in it or in its folders, found {found_in(folder)}"
            )
        for video in self.videos:
            if not video.with_name(video.name + ".mp4").is_file() and not video.is_dir():
                raise DataError(
                    f"{video}{self.ending} has neither {video.name}.mp4 nor a folder {video.name}/"
                    " of frames beside it: download or extract it again"
                )
        files = [p for pattern in ("*.mp4", "*/*.mp4") for p in folder.glob(pattern)]
        bare = sorted({p.with_suffix("") for p in files} - set(self.videos))
        left_out = LeftOut.of(
            (f"video without its {self.ending}", f"{p.relative_to(folder)}.mp4") for p in bare
        )
        super().__init__(name, draw, len(self.videos), left_out)

    def item_key(self, item: int) -> str:
        """The file of a video, as messages name it."""
        return str(self.videos[item].relative_to(self.folder))

    def sha256(self) -> str:
        """Digest of which videos there are, and whose masks are read."""
        return listing_sha256([self.ending, *(self.item_key(item) for item in range(self.items))])

    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        """The clip at `position`: consecutive frames of one video."""
        video = self.videos[item]
        where = f"{video}{self.ending}"
        masklet, (height, width) = _masklets(read_json(Path(where)), where)
        annotated = {
            k: objects
            for k, objects in enumerate(masklet)
            if objects is not None and None not in objects
        }
        numbers = list(annotated)
        if not annotated:
            raise DataError(
                f"{where}: no frame has all its objects annotated, so"
                " there is nothing to learn from: take the video out"
            )

        def runs(entry: int, object_: int) -> RunLengths:
            return run_counts(
                annotated[entry][object_], height, width, f"{where}, masklet[{entry}][{object_}]"
            )

        def choose_in(frame: int) -> list[int]:
            entry = numbers[frame]
            shares = {
                o: run_area(runs(entry, o)) / (height * width) for o in range(len(annotated[entry]))
            }
            return choose(
                shares, lambda o: fill_runs(runs(entry, o), height, width), self.draw, rng
            )

        path, ids = walk_with_objects(
            len(annotated), choose_in, self.draw, rng, self.item_key(item)
        )
        entries = [numbers[k] for k in path]
        images = read_frames(video, [ANNOTATED_EVERY * entry for entry in entries])
        for image in images:
            if image.shape[:2] != (height, width):
                raise DataError(
                    f"{where} says {width}×{height}, its video is"
                    f" {image.shape[1]}×{image.shape[0]}: get both again, from one release of the"
                    " dataset"
                )
        masks = {o: [fill_runs(runs(e, o), height, width) for e in entries] for o in ids}
        return make_clip(position, images, masks, self.draw, rng)


def _masklets(content: Any, where: str) -> tuple[list[list[Any] | None], tuple[int, int]]:
    """Masklet and (height, width) of an annotation file, checked."""
    found = content if isinstance(content, dict) else {}
    masklet: Any = found.get("masklet")
    height: Any = found.get("video_height")
    width: Any = found.get("video_width")
    if not isinstance(masklet, list) or not all(
        isinstance(side, (int, float)) and 0 < side <= MAX_SIDE_PX for side in (height, width)
    ):
        raise DataError(
            f"{where}: expected SA-V's masklet, video_height and video_width, found "
            f"{sorted(content)[:8] if isinstance(content, dict) else type(content).__name__}"
        )
    if not all(objects is None or isinstance(objects, list) for objects in masklet):
        raise DataError(
            f"{where}: expected masklet[frame][object], found {str(masklet[0])[:60]!r} for a frame"
        )
    lengths = {len(objects) for objects in masklet if objects is not None}
    if len(lengths) > 1 or len(masklet) * ANNOTATED_EVERY > MAX_FRAMES:
        raise DataError(
            f"{where}: expected the same objects in each of at most {MAX_FRAMES} frames, "
            f"found {sorted(lengths)} in {counted(len(masklet), 'entry', 'entries')}"
        )
    return masklet, (int(height), int(width))


def read_frames(video: Path, frames: Sequence[int]) -> list[Rgb]:
    """Frames of <video>/NNNNN.jpg or <video>.mp4, RGB.

    Numbers are at the video's own rate, in any order, and may repeat.
    """
    wanted = sorted(set(frames))
    if video.is_dir():
        images = {frame: read_image(video / f"{frame:05d}.jpg") for frame in wanted}
    else:
        images = _decode(video.with_name(video.name + ".mp4"), wanted)
    return [images[frame] for frame in frames]


def _decode(path: Path, wanted: Sequence[int]) -> dict[int, Rgb]:
    """Frames of an mp4."""
    index = index_video(path)
    if wanted[-1] >= len(index.times):
        raise DataError(
            f"{path} ends after {counted(len(index.times), 'frame')}, its annotations go on to"
            f" frame {wanted[-1]}: download it again"
        )
    with closing(VideoReader(path, index)) as reader:
        return {frame: reader.read(frame) for frame in wanted}
