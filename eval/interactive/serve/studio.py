"""The work of all tabs, behind the network: pictures opened, edits made, files read and written.

Each picture has a lock; whoever edits it holds that, so its journal has one writer, and others'
pictures wait for nothing. What is open is bounded in bytes: what was used longest ago is
closed. It is opened again from its journal when somebody wants it.
"""

import contextlib
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from panoforge.core.errors import UsageError, UserError
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.interactive.serve.document import Delta, Document, Hand, Stale
from panoforge.eval.interactive.serve.edits import delta_of, wanted_of
from panoforge.eval.interactive.serve.exchange import (
    KINDS,
    Written,
    export_file,
    import_file,
)
from panoforge.eval.interactive.serve.library import Library, Listed360, decode
from panoforge.eval.interactive.serve.messages import EditRequest, ImportRequest, LookRequest
from panoforge.eval.interactive.serve.objects import Heading, PageObject
from panoforge.eval.interactive.serve.predictors import Predictors
from panoforge.eval.interactive.serve.sessions import Sessions
from panoforge.eval.interactive.serve.summaries import read_summary, write_summary
from panoforge.eval.interactive.serve.tiles import Pyramid, cut_tiles
from panoforge.eval.interactive.serve.worker import Cancel, Worker

MAX_OPEN_BYTES = 1 << 30  # of tiles and masks of all open pictures


@dataclass
class Desk:
    """An open picture."""

    listed: Listed360
    pyramid: Pyramid
    document: Document
    notice: str = ""

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, nearly."""
        return self.pyramid.size_bytes + sum(
            len(mask.data) for mask in self.document.masks.values()
        )


class Studio:
    """Use as a context manager: the worker runs while it is open. Its methods may be called from
    any thread, and wait.
    """

    def __init__(
        self, library: Library, predictors: Predictors, max_open_bytes: int = MAX_OPEN_BYTES
    ) -> None:
        self.library, self.predictors, self.sessions = library, predictors, Sessions()
        self.worker = Worker()
        self._max_open_bytes = max_open_bytes
        self._desks: OrderedDict[str, Desk] = OrderedDict()
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()  # of the two above

    def __enter__(self) -> "Studio":
        self.worker.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.worker.__exit__(*args)

    # ---- pictures

    def listing(self, session: str) -> dict[str, Any]:
        """The pictures with their status, and all classes that are in use."""
        pictures, classes = [], set()
        for listed in self.library:
            summary = read_summary(listed.journal)
            classes |= set(summary.classes)
            pictures.append(
                {
                    "id": listed.id,
                    "name": listed.name,
                    "status": summary.status,
                    "objects": summary.objects,
                    "people": self.sessions.others(listed.id, session),
                }
            )
        return {
            "pictures": pictures,
            "classes": sorted(classes),
            "left_out": self.library.left_out,
            "predictor": self.predictors.words,
            "method": self.predictors.method,
        }

    def upload(self, data: bytes, name: str) -> str:
        """Take in a dropped picture; gives its id."""
        return self.library.upload(data, name).id

    def is_open(self, picture: str) -> bool:
        """Whether a picture is open; one that is not takes a second or so."""
        with self._guard:
            return picture in self._desks

    def pyramid(self, picture: str) -> Pyramid:
        """The tiles of a picture."""
        with self._guard:
            desk = self._desks.get(picture)
        if desk is None:
            with self._lock(picture):
                desk = self._desk(picture)
        return desk.pyramid

    def deflated_mask(self, picture: str, digest: str) -> bytes:
        """The runs of a mask, as the page inflates them; Stale if there is none."""
        with self._lock(picture):
            mask = self._desk(picture).document.masks.get(digest)
        if mask is None:
            raise Stale("there is no such mask on this picture (any more)")
        return mask.deflated()

    def _lock(self, picture: str) -> threading.RLock:
        self.library.get(picture)
        with self._guard:
            return self._locks.setdefault(picture, threading.RLock())

    def _desk(self, picture: str) -> Desk:
        """The open picture; its lock is held."""
        with self._guard:
            if picture in self._desks:
                self._desks.move_to_end(picture)
                return self._desks[picture]
        listed = self.library.get(picture)
        decoded = decode(listed.read(), listed.name)
        height, width = decoded.rgb.shape[:2]
        heading = Heading(picture=listed.name, sha256=decoded.sha256, width=width, height=height)
        with storage_errors(listed.folder):
            listed.folder.mkdir(parents=True, exist_ok=True)
        document = Document.open(listed.journal, heading)
        desk = Desk(listed, cut_tiles(decoded.rgb), document)
        if document.journal.torn:
            desk.notice = (
                f"the last change was cut off by a crash and is not here; the {document.version}"
                " before it are"
            )
        with self._guard:
            self._desks[picture] = desk
        self._close_some(picture)
        return desk

    def _close_some(self, keep: str) -> None:
        """Close what was used longest ago, until the rest fits."""
        with self._guard:
            total = sum(desk.size_bytes for desk in self._desks.values())
            for picture in list(self._desks):
                if total <= self._max_open_bytes:
                    return
                if picture != keep:
                    total -= self._desks.pop(picture).size_bytes

    def open_bytes(self) -> int:
        """What all open pictures take in memory, nearly."""
        with self._guard:
            return sum(desk.size_bytes for desk in self._desks.values())

    # ---- looking

    def look(self, asked: LookRequest) -> dict[str, Any]:
        """What is on a picture; little if the page has it already."""
        session = self.sessions.get(asked.session, asked.picture)
        with self._lock(asked.picture):
            desk = self._desk(asked.picture)
            if asked.version > desk.document.version:
                raise Stale("this page has seen a later version of the picture: load it again")
            found = self._state(desk, session.author)
        found["people"] = self.sessions.others(asked.picture, session.id)
        if asked.version and asked.version == found["version"]:
            found.pop("objects")
        return found

    def _state(self, desk: Desk, author: str) -> dict[str, Any]:
        document, id_ = desk.document, desk.listed.id
        undo, redo = document.can(author)
        done, of = self.predictors.progress.get(id_, (0, 0))
        return {
            "picture": id_,
            "name": desk.listed.name,
            "version": document.version,
            "status": document.status,
            "width": document.heading.width,
            "height": document.heading.height,
            "levels": desk.pyramid.levels,
            "can_undo": undo,
            "can_redo": redo,
            "notice": desk.notice,
            "ready": self.predictors.is_ready(id_),
            "progress": [done, of],
            "objects": [
                _shown(document, one)
                for one in sorted(document.objects.values(), key=lambda o: o.id)
            ],
        }

    # ---- changing

    def begin(self, asked: EditRequest) -> "Future[Mask] | None":
        """Check an edit; if a predictor is needed for it, queue that and give its future."""
        self.sessions.get(asked.session, asked.picture)
        with self._lock(asked.picture):
            document = self._desk(asked.picture).document
            if document.has_done(asked.request):
                return None
            self._check(document, asked)
            wanted = wanted_of(document, asked.edit)
        if wanted is None:
            return None
        answer = partial(
            self.predictors.answer, asked.picture, partial(self._pixels, asked.picture), wanted
        )
        return self.worker.submit(asked.session, asked.request, answer)

    def finish(self, asked: EditRequest, mask: Mask | None) -> dict[str, Any]:
        """Make an edit, with the predictor's mask if it took one; gives the new state."""
        session = self.sessions.get(asked.session, asked.picture)

        def predict(wanted: object) -> Mask:
            if mask is None:
                raise Stale("the object has changed meanwhile: look at it, and click again")
            return mask

        with self._lock(asked.picture):
            desk = self._desk(asked.picture)
            document = desk.document
            if not document.has_done(asked.request):
                self._check(document, asked)
                delta = delta_of(document, asked.edit, session.author, predict)
                self._commit(desk, asked, delta)
            return self._answer(desk, session.author, asked.request)

    def _answer(self, desk: Desk, author: str, request: str) -> dict[str, Any]:
        """The state after a change, and what it touched."""
        touched = desk.document.touched_by(request)
        return {**self._state(desk, author), "touched": list(touched)}

    def _check(self, document: Document, asked: EditRequest) -> None:
        edit = asked.edit
        one = getattr(edit, "object", None)
        touched = getattr(edit, "objects", () if one is None else (one,))
        document.check(asked.version, touched, asked.session)

    def _commit(self, desk: Desk, asked: EditRequest | ImportRequest, delta: Delta) -> None:
        session = self.sessions.get(asked.session)
        document = desk.document
        base = document.version if delta.undoes or delta.redoes else asked.version
        hand = Hand(session.author, session.who, session.id)
        document.commit(base, hand, asked.request, delta)
        desk.notice = ""
        with contextlib.suppress(UserError):  # it is made again from the journal
            write_summary(document)
        self._close_some(desk.listed.id)

    def take_in(self, asked: ImportRequest, data: bytes) -> dict[str, Any]:
        """The masks of a file as objects; gives the new state, and what was left out."""
        session = self.sessions.get(asked.session, asked.picture)
        with self._lock(asked.picture), tempfile.TemporaryDirectory() as folder:
            desk = self._desk(asked.picture)
            left_out = ""
            if not desk.document.has_done(asked.request):
                path = Path(folder) / "import"
                with storage_errors(path):
                    path.write_bytes(data)
                decoded = decode(desk.listed.read(), desk.listed.name)
                delta, left_out = import_file(
                    desk.document, path, asked.name, desk.listed.name, decoded.on_sphere
                )
                self._commit(desk, asked, delta)
            answer = self._answer(desk, session.author, asked.request)
        return {**answer, "left_out": left_out}

    def save(self, asked: LookRequest, kind: str) -> Written:
        """The objects of a picture as a file; Stale unless the page shows them as they are."""
        self.sessions.get(asked.session)
        if kind not in KINDS:
            raise UsageError(f"{kind[:40]!r} cannot be saved: expected one of {', '.join(KINDS)}")
        with self._lock(asked.picture):
            document = self._desk(asked.picture).document
            if asked.version != document.version:
                raise Stale(
                    "somebody has changed this picture a moment ago: look at it, then save again"
                )
            made_with = {"predictor": self.predictors.words}
            if self.predictors.method:
                made_with["method"] = self.predictors.method
            return export_file(kind, document, lambda: self._pixels(asked.picture)[0], made_with)

    # ---- predicting

    def get_ready(self, asked: LookRequest) -> None:
        """Get a picture ready for clicks in the background, and no longer the last one."""
        session = self.sessions.get(asked.session, asked.picture)
        self.library.get(asked.picture)
        self.worker.cancel(session.id, "ready")
        if self.predictors.is_ready(asked.picture):
            return

        def run(cancel: Cancel) -> None:
            self.predictors.get_ready(asked.picture, partial(self._pixels, asked.picture), cancel)

        self.worker.submit(session.id, "ready", run, urgent=False).add_done_callback(_seen)

    def _pixels(self, picture: str) -> tuple[Rgb, Labels | None]:
        listed = self.library.get(picture)
        decoded = decode(listed.read(), listed.name)
        labels = listed.labels() if listed.labels else None
        return decoded.rgb, None if labels is None else decoded.on_sphere(labels)


def _seen(future: "Future[Any]") -> None:
    """What getting ready meets is said by the first click."""
    if not future.cancelled():
        future.exception()


def _shown(document: Document, one: PageObject) -> dict[str, Any]:
    """An object as the page gets it."""
    packed = document.mask_of(one)
    found = one.model_dump(exclude={"clicks"})
    found["clicks"] = [[c.lon_deg, c.lat_deg, c.positive] for c in one.clicks]
    found["pixels"] = packed.pixels if packed else 0
    found["area_sr"] = packed.area_sr if packed else 0.0
    found["middle_deg"] = list(packed.middle_deg) if packed else None
    return found
