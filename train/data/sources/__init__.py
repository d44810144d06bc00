"""Sources: datasets other than the panorama shards, all with the same small interface.

One file per dataset.

SAP mixes its panoramas with SA-1B images and SA-V videos. A `Source` offers clips at positions 0,
1, 2, … of its own line. A clip is a function of the source's seed and its position alone. Each
epoch shows every image or video once, in an order of its own. Clips are SAM2's `VideoDatapoint`, as
`panoforge.train.data.clips` gives for panoramas. Frames are squeezed to a square (what SAM2 does
with every picture), objects are chosen in the first frame, absent ones are kept as empty masks.

A source lists its folder when it is opened and refuses a layout that is not the dataset's, saying
what it found and what it expected. What is wrong with one image or video is a DataError that names
it, when its clip is asked for.
"""

from pathlib import Path
from typing import Any, Protocol

from panoforge.core.errors import UsageError
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.storage.atomic import storage_errors
from panoforge.train.config import TrainConfig
from panoforge.train.data.sources.coco import Coco
from panoforge.train.data.sources.draw import Draw, source_seed
from panoforge.train.data.sources.sa1b import Sa1b
from panoforge.train.data.sources.sav import Sav
from panoforge.train.data.sources.vos import Vos
from panoforge.train.settings.clips import SourceSettings


class Source(Protocol):
    """Clips by position."""

    name: str
    left_out: LeftOut  # of its folder: what is no item of it

    def __len__(self) -> int:
        """Clips of one epoch."""

    def key(self, position: int) -> str:
        """What the clip at `position` is cut from, for people."""

    def clip(self, position: int) -> Any:
        """The clip at `position`: what its task trains on. DataError names what is damaged."""

    def sha256(self) -> str:
        """Digest of what the source lists, in its order."""


def open_source(name: str, settings: SourceSettings, config: TrainConfig) -> Source:
    """The source that one entry of `mixture` describes (not the shards).

    DataError where its folder holds something else, StorageError where it cannot be read.
    """
    folder = settings.folder or Path()  # the config refuses an entry without one
    if not folder.is_dir():
        raise UsageError(
            f"mixture.{name}: {folder} is no folder: expected where the {settings.kind} dataset"
            f" lies. Give mixture.{name}.folder=DIR, or take the entry out of the mixture"
        )
    draw = Draw(
        source_seed(config.seed, name),
        config.clip,
        config.model.image_size,
        settings.min_area_share,
    )
    with storage_errors(folder):
        if settings.kind == "sa1b":
            return Sa1b(name, folder, draw)
        if settings.kind == "sav":
            return Sav(name, folder, draw, settings.annotations)
        if settings.kind == "vos":
            return Vos(
                name,
                folder,
                draw,
                settings.split,
                settings.frame_step,
                panoramas=bool(settings.panoramas),
            )
        return Coco(name, folder, draw, settings.split)
