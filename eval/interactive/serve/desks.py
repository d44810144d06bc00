"""The open pictures and videos: their documents, and how they are looked at, as tiles.

What is open is bounded in bytes: what was used longest ago is closed. It is opened again from its
journal when somebody wants it.

Of a video only the tiles of the frames that were looked at last are kept. Cutting those of a frame
takes a lock of its own, so whoever edits does not wait for somebody who scrubs.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from panoforge.core.errors import UsageError
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Labels, Rgb
from panoforge.eval.interactive.frames import Frames
from panoforge.eval.interactive.serve.document import Document, Hand
from panoforge.eval.interactive.serve.labelled import ORIGIN
from panoforge.eval.interactive.serve.library import Library, Listed360, decode
from panoforge.eval.interactive.serve.objects import Heading
from panoforge.eval.interactive.serve.sheets import FrameSheet, Sheet
from panoforge.eval.interactive.serve.tiles import Pyramid, cut_tiles

MAX_OPEN_BYTES = 1 << 30  # of tiles and masks of all open pictures
MAX_FRAME_TILES_BYTES = 64 * 10**6
MACHINE = Hand("pano-annotate", ORIGIN, "pano-annotate")  # whose the labels are that were found


@dataclass
class FrameTiles:
    """The tiles of a video's frames, the last ones that were asked for. Safe for threads."""

    frames: Frames
    _kept: OrderedDict[int, Pyramid] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pyramid(self, frame: int) -> Pyramid:
        """The tiles of a frame. DataError if it cannot be read."""
        with self._lock:
            if frame not in self._kept:
                self._kept[frame] = cut_tiles(self.frames.rgb(frame))
                while len(self._kept) > 1 and self.size_bytes > MAX_FRAME_TILES_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(frame)
            return self._kept[frame]

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return sum(pyramid.size_bytes for pyramid in list(self._kept.values()))


@dataclass
class Desk:
    """An open picture (`tiles` of it alone) or video (`tiles` of its frames)."""

    listed: Listed360
    tiles: Pyramid | FrameTiles
    document: Document
    notice: str = ""

    @property
    def frames(self) -> Frames | None:
        """The frames of a video."""
        return self.tiles.frames if isinstance(self.tiles, FrameTiles) else None

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, nearly."""
        masks = sum(len(mask.data) for mask in list(self.document.masks.values()))
        return self.tiles.size_bytes + masks

    @property
    def frame_names(self) -> list[str]:
        """What files call the frames of a video."""
        return list(self.frames.names) if self.frames is not None else []

    def frame_of(self, frame: int | None) -> int | None:
        """The frame that is meant; the first of a video where none is said.

        UsageError if there is none.
        """
        count = self.document.heading.frames
        if count is None:
            return None
        if frame is not None and frame >= count:
            raise UsageError(f"there is no frame {frame}: {self.listed.name} has {count}")
        return frame or 0

    def sheet(self, frame: int | None) -> Sheet:
        """What edits are made on."""
        number = self.frame_of(frame)
        if number is None or self.frames is None:
            return self.document
        return FrameSheet(self.document, number, self.frames.names[number])

    def pyramid(self, frame: int | None) -> Pyramid:
        """The tiles of the picture, or of a frame."""
        if isinstance(self.tiles, Pyramid):
            return self.tiles
        return self.tiles.pyramid(self.frame_of(frame) or 0)

    def pixels(self, frame: int | None) -> tuple[Rgb, Labels | None]:
        """The panorama, and its true labels if it has some."""
        if self.frames is not None:
            number = self.frame_of(frame) or 0
            return self.frames.rgb(number), self.frames.labels(number)
        decoded = decode(self.listed.read(), self.listed.name)
        labels = self.listed.labels() if self.listed.labels else None
        return decoded.rgb, None if labels is None else decoded.on_sphere(labels)

    def close(self) -> None:
        """Let a video's file go."""
        if self.frames is not None:
            self.frames.close()


def open_desk(listed: Listed360) -> Desk:
    """Open a picture or a video, and replay the work on it; it begins with labels that were found.

    Raises:
        DataError: it cannot be read, or the work is of another one.
    """
    tiles: Pyramid | FrameTiles
    notices: list[str] = []
    if listed.video is not None:
        frames = listed.video()
        (width, height), sha256, count = frames.size, frames.sha256, len(frames.names)
        tiles = FrameTiles(frames)
    else:
        decoded = decode(listed.read(), listed.name)
        height, width = decoded.rgb.shape[:2]
        sha256, count = decoded.sha256, None
        if listed.found is not None:  # the work is on these labels, not on the picture alone
            sha256 = listed.found.frames().sha256
        tiles = cut_tiles(decoded.rgb)
        notices.append(decoded.notice)
    heading = Heading(picture=listed.name, sha256=sha256, width=width, height=height, frames=count)
    with storage_errors(listed.folder):
        listed.folder.mkdir(parents=True, exist_ok=True)
    document = Document.open(listed.journal, heading)
    if listed.found is not None and not document.version:
        document.commit(0, MACHINE, MACHINE.session, listed.found.first_change())
    if document.journal.torn:
        notices.append(
            f"the last change was cut off by a crash and is not here; the {document.version}"
            " before it are"
        )
    return Desk(listed, tiles, document, ". ".join(filter(None, notices)))


class Desks:
    """All open pictures, and a lock for each that there is. Safe for threads."""

    def __init__(self, library: Library, max_bytes: int = MAX_OPEN_BYTES) -> None:
        self.max_bytes = max_bytes
        self._library = library
        self._open: OrderedDict[str, Desk] = OrderedDict()
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()  # of the two above

    def __len__(self) -> int:
        with self._guard:
            return len(self._open)

    def is_open(self, picture: str) -> bool:
        """Whether a picture is open; one that is not takes a second or so."""
        with self._guard:
            return picture in self._open

    def lock(self, picture: str) -> threading.RLock:
        """The lock of a picture. UsageError if there is no such picture."""
        self._library.get(picture)
        with self._guard:
            return self._locks.setdefault(picture, threading.RLock())

    def held(self, picture: str) -> Desk:
        """The open picture; its lock is held."""
        with self._guard:
            if picture in self._open:
                self._open.move_to_end(picture)
                return self._open[picture]
        desk = open_desk(self._library.get(picture))
        with self._guard:
            self._open[picture] = desk
        self.close_some(picture)
        return desk

    def opened(self, picture: str) -> Desk:
        """The open picture, for what needs no lock on it."""
        with self._guard:
            desk = self._open.get(picture)
        if desk is None:
            with self.lock(picture):
                desk = self.held(picture)
        return desk

    def close_some(self, keep: str) -> None:
        """Close what was used longest ago, until the rest fits."""
        with self._guard:
            total = sum(desk.size_bytes for desk in self._open.values())
            for picture in list(self._open):
                if total <= self.max_bytes:
                    return
                if picture != keep:
                    closed = self._open.pop(picture)
                    total -= closed.size_bytes
                    closed.close()
