"""The work of all tabs, behind the network: pictures opened, edits made, files read and written.

Each picture has a lock (`desks`); whoever edits it holds that, so its journal has one writer, and
others' pictures wait for nothing.
"""

import contextlib
import tempfile
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from panoforge.core.errors import UsageError, UserError
from panoforge.core.sample.revisions import REVISE_FILE, rank
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Mask
from panoforge.eval.interactive.serve.carriers import Carriers
from panoforge.eval.interactive.serve.desks import MAX_OPEN_BYTES, Desk, Desks
from panoforge.eval.interactive.serve.document import Delta, Hand, Key, Stale
from panoforge.eval.interactive.serve.edits import delta_of, wanted_of
from panoforge.eval.interactive.serve.exchange import (
    KINDS,
    Written,
    export_file,
    import_file,
)
from panoforge.eval.interactive.serve.exchange_video import export_video, import_video
from panoforge.eval.interactive.serve.library import Library, decode
from panoforge.eval.interactive.serve.messages import (
    EditRequest,
    ImportRequest,
    LookRequest,
    PropagateRequest,
    ReadyRequest,
    ReviseEdit,
)
from panoforge.eval.interactive.serve.objects import PageObject
from panoforge.eval.interactive.serve.predictors import Predictors
from panoforge.eval.interactive.serve.sessions import Sessions
from panoforge.eval.interactive.serve.sheets import FrameSheet, Sheet
from panoforge.eval.interactive.serve.summaries import read_summary, write_summary
from panoforge.eval.interactive.serve.tiles import Pyramid
from panoforge.eval.interactive.serve.video_edits import video_delta_of
from panoforge.eval.interactive.serve.worker import Cancel, Worker

MAX_SHOWN = 500  # entries of revise.json; what is done makes room for others


class Studio:
    """Use as a context manager: the worker runs while it is open.

    Its methods may be called from any thread, and wait.
    """

    def __init__(
        self, library: Library, predictors: Predictors, max_open_bytes: int = MAX_OPEN_BYTES
    ) -> None:
        self.library, self.predictors, self.sessions = library, predictors, Sessions()
        self.worker = Worker()
        self.desks = Desks(library, max_open_bytes)
        self.carriers = Carriers(self.desks, self.worker, predictors)

    def __enter__(self) -> "Studio":
        self.worker.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.carriers.cancel_all()
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
            "labelled": any(one.found for one in self.library),
            "predictor": self.predictors.words,
            "method": self.predictors.method,
            "following": self.predictors.following.words,
        }

    def to_revise(self) -> dict[str, Any]:
        """What is to be looked at of labels that were found: what is open first, the worst first.

        At most `MAX_SHOWN` entries, and how many there are, and are done.
        """
        found = []
        for listed in self.library:
            revised = read_summary(listed.journal).revised if listed.entries else {}
            found += [
                (revised.get(digest), digest, listed.id, entry)
                for digest, entry in listed.entries.items()
            ]
        found.sort(key=lambda one: (one[0] is not None, *rank(one[3])))
        return {
            "entries": [
                {**entry.model_dump(), "entry": digest, "picture": picture, "verdict": verdict}
                for verdict, digest, picture, entry in found[:MAX_SHOWN]
            ],
            "all": len(found),
            "done": sum(one[0] is not None for one in found),
        }

    def upload(self, data: bytes, name: str) -> str:
        """Take in a dropped picture; gives its id."""
        return self.library.upload(data, name).id

    def pyramid(self, picture: str, frame: int | None = None) -> Pyramid:
        """The tiles of a picture, or of a frame."""
        return self.desks.opened(picture).pyramid(frame)

    def deflated_mask(self, picture: str, digest: str) -> bytes:
        """The runs of a mask, as the page inflates them; Stale if there is none."""
        with self.desks.lock(picture):
            mask = self.desks.held(picture).document.masks.get(digest)
        if mask is None:
            raise Stale("there is no such mask on this picture (any more)")
        return mask.deflated()

    # ---- looking

    def look(self, asked: LookRequest) -> dict[str, Any]:
        """What is on a picture; little if the page has it already."""
        session = self.sessions.get(asked.session, asked.picture)
        with self.desks.lock(asked.picture):
            desk = self.desks.held(asked.picture)
            if asked.version > desk.document.version:
                raise Stale("this page has seen a later version of the picture: load it again")
            found = self._state(desk, session.author, asked.frame)
        found["people"] = self.sessions.others(asked.picture, session.id)
        if asked.version and asked.version == found["version"]:
            found.pop("objects")
        return found

    def _state(self, desk: Desk, author: str, frame: int | None) -> dict[str, Any]:
        document, id_, sheet = desk.document, desk.listed.id, desk.sheet(frame)
        undo, redo = document.can(author)
        frame = desk.frame_of(frame)
        key = _ready_key(id_, frame)
        done, of = self.predictors.progress.get(id_) or self.predictors.progress.get(key, (0, 0))
        video = None
        if desk.frames is not None:
            video = {"frame": frame, "frames": document.heading.frames, "fps": desk.frames.fps}
        return {
            "picture": id_,
            "name": desk.listed.name,
            "version": document.version,
            "status": document.status,
            "width": document.heading.width,
            "height": document.heading.height,
            "levels": desk.pyramid(frame).levels,
            "video": video,
            "can_undo": undo,
            "can_redo": redo,
            "notice": desk.notice,
            "ready": self.predictors.is_ready(key),
            "progress": [done, of],
            "objects": [
                _shown(sheet, one) for one in sorted(sheet.objects.values(), key=lambda o: o.id)
            ],
        }

    # ---- changing

    def begin(self, asked: EditRequest) -> "Future[Mask] | None":
        """Check an edit; if a predictor is needed for it, queue that and give its future."""
        self.sessions.get(asked.session, asked.picture)
        with self.desks.lock(asked.picture):
            desk = self.desks.held(asked.picture)
            if desk.document.has_done(asked.request):
                return None
            frame = desk.frame_of(asked.frame)
            self._check(desk, asked)
            wanted = wanted_of(desk.sheet(frame), asked.edit)
        if wanted is None:
            return None
        key, pixels = _ready_key(asked.picture, frame), partial(desk.pixels, frame)
        answer = partial(self.predictors.answer, key, pixels, wanted)
        return self.worker.submit(asked.session, asked.request, answer)

    def finish(self, asked: EditRequest, mask: Mask | None) -> dict[str, Any]:
        """Make an edit, with the predictor's mask if it took one; gives the new state."""
        session = self.sessions.get(asked.session, asked.picture)

        def predict(wanted: object) -> Mask:
            if mask is None:
                raise Stale("the object has changed meanwhile: look at it, and click again")
            return mask

        with self.desks.lock(asked.picture):
            desk = self.desks.held(asked.picture)
            frames: list[int] = []
            if not desk.document.has_done(asked.request):
                self._check(desk, asked)
                sheet = desk.sheet(asked.frame)
                make = video_delta_of if isinstance(sheet, FrameSheet) else delta_of
                delta = make(sheet, asked.edit, session.author, predict)  # type: ignore[arg-type]
                self._commit(desk, asked, delta)
                frames = [look.frame for look in delta.looks]
            at = [min(frames), max(frames)] if frames else None
            return {**self._answer(desk, session.author, asked), "at_frames": at}

    def _answer(
        self, desk: Desk, author: str, asked: EditRequest | ImportRequest | PropagateRequest
    ) -> dict[str, Any]:
        """The state after a change, and what it touched."""
        touched = desk.document.touched_by(asked.request)
        return {**self._state(desk, author, asked.frame), "touched": list(touched)}

    def _check(self, desk: Desk, asked: EditRequest) -> None:
        edit, frame = asked.edit, desk.frame_of(asked.frame)
        listed = desk.listed
        if isinstance(edit, ReviseEdit) and edit.entry not in listed.entries:
            raise UsageError(f"{listed.name} has no such entry in {REVISE_FILE}")
        one = getattr(edit, "object", None)
        touched: list[Key] = [*getattr(edit, "objects", ())]
        if one is not None:  # drawing on one frame bears what others do on another
            touched = [one] if frame is None else [(one, frame)]
        desk.document.check(asked.version, touched, asked.session)

    def _commit(self, desk: Desk, asked: EditRequest | ImportRequest, delta: Delta) -> None:
        document = desk.document
        base = document.version if delta.undoes or delta.redoes else asked.version
        document.commit(base, self._hand(asked.session), asked.request, delta)
        desk.notice = ""
        with contextlib.suppress(UserError):  # it is made again from the journal
            write_summary(document)
        self.desks.close_some(desk.listed.id)

    def _hand(self, session: str) -> Hand:
        present = self.sessions.get(session)
        return Hand(present.author, present.who, present.id)

    def take_in(self, asked: ImportRequest, data: bytes) -> dict[str, Any]:
        """The masks of a file as objects; gives the new state, and remarks on the file."""
        session = self.sessions.get(asked.session, asked.picture)
        with self.desks.lock(asked.picture), tempfile.TemporaryDirectory() as folder:
            desk = self.desks.held(asked.picture)
            remarks = ""
            if not desk.document.has_done(asked.request):
                path = Path(folder) / "import"
                with storage_errors(path):
                    path.write_bytes(data)
                sheet = desk.sheet(asked.frame)
                if isinstance(sheet, FrameSheet):
                    delta, remarks = import_video(sheet, desk.frame_names, path, asked.name)
                else:
                    decoded = decode(desk.listed.read(), desk.listed.name)
                    delta, remarks = import_file(sheet, path, asked.name, decoded.on_sphere)
                self._commit(desk, asked, delta)
            answer = self._answer(desk, session.author, asked)
        return {**answer, "remarks": remarks}

    def save(self, asked: LookRequest, kind: str) -> Written:
        """The objects of a picture as a file; Stale unless the page shows them as they are."""
        self.sessions.get(asked.session)
        if kind not in KINDS:
            raise UsageError(f"{kind[:40]!r} cannot be saved: expected one of {', '.join(KINDS)}")
        made_with = {"predictor": self.predictors.words}
        if self.predictors.method:
            made_with["method"] = self.predictors.method
        with self.desks.lock(asked.picture):
            desk = self.desks.held(asked.picture)
            if asked.version != desk.document.version:
                raise Stale(
                    "somebody has changed this picture a moment ago: look at it, then save again"
                )
            frame = desk.frame_of(asked.frame)
            if frame is None or kind == "overlay.jpg":
                rgb = lambda: desk.pixels(frame)[0]  # noqa: E731
                return export_file(kind, desk.sheet(frame), rgb, made_with)
            kept = desk.document.as_it_is()  # the others may go on while frames are written
        return export_video(kind, kept, desk.frame_names, made_with)

    # ---- predicting

    def get_ready(self, asked: ReadyRequest) -> None:
        """Get a picture ready for clicks in the background, and no longer the last one."""
        session = self.sessions.get(asked.session, asked.picture)
        desk = self.desks.opened(asked.picture)
        frame = desk.frame_of(asked.frame)
        key = _ready_key(asked.picture, frame)
        self.worker.cancel(session.id, "ready")
        if self.predictors.is_ready(key) and asked.towards is None:
            return

        def run(cancel: Cancel) -> None:
            answering = self.predictors.get_ready(key, partial(desk.pixels, frame), cancel)
            cancel.check()
            if asked.towards is not None:
                answering.towards(*asked.towards)

        self.worker.submit(session.id, "ready", run, urgent=False).add_done_callback(_seen)

    def cancel(self, session: str, request: str) -> int:
        """Take back what is computed for a request; gives how much that was."""
        self.sessions.get(session)
        return self.carriers.cancel(session, request) + self.worker.cancel(session, request)

    def propagate(self, asked: PropagateRequest) -> dict[str, Any]:
        """Follow objects from a frame; gives the new state, and how far it came."""
        session = self.sessions.get(asked.session, asked.picture)
        carried = self.carriers.carry(asked, self._hand(asked.session))
        with self.desks.lock(asked.picture):
            state = self._state(self.desks.held(asked.picture), session.author, asked.frame)
        return {
            **state,
            "touched": list(asked.objects),
            "frames_done": carried.frames,
            "looks": carried.looks,
            "lost": {str(id_): frame for id_, frame in carried.lost.items()},
            "cancelled": carried.cancelled,
        }


def _seen(future: "Future[Any]") -> None:
    """What getting ready meets is said by the first click."""
    if not future.cancelled():
        future.exception()


def _ready_key(picture: str, frame: int | None) -> str:
    """What a predictor is got ready for."""
    return picture if frame is None else f"{picture}@{frame}"


def _shown(sheet: Sheet, one: PageObject) -> dict[str, Any]:
    """An object as the page gets it; in a video with the frames that it is on."""
    packed = sheet.mask_of(one)
    found = one.model_dump(exclude={"clicks"})
    found["clicks"] = [[c.lon_deg, c.lat_deg, c.positive] for c in one.clicks]
    found["pixels"] = packed.pixels if packed else 0
    found["area_sr"] = packed.area_sr if packed else 0.0
    found["middle_deg"] = list(packed.middle_deg) if packed else None
    if isinstance(sheet, FrameSheet):
        found["spans"], found["keys"] = sheet.document.spans(one.id)
    return found
