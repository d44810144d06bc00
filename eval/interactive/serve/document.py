"""The work on one picture: a journal, and the state that its changes add up to.

`Document.open` replays; `commit` writes a change to the disk first and takes it over then. Every
change has the next version. A change that was made looking at an older version is taken if no other
tab has touched its objects since, and refused (`Stale`) if one has. A request that comes twice,
because its answer was lost, is applied once.

Undo takes back the author's own last change, if what it touched is still as it left it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from panoforge.core.errors import DataError, UsageError, UserError
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.objects import Change, Heading, PageObject, Status
from panoforge.eval.interactive.serve.packed import PackedMask


class Stale(UserError):
    """What was asked for was meant for another state of the picture: look again."""


@dataclass(frozen=True)
class Hand:
    """Whose a change is: the person, what they are called, and the tab."""

    author: str
    who: str
    session: str


@dataclass(frozen=True)
class Delta:
    """What a change does: objects as they are from now on, objects that go, the new status."""

    what: str
    objects: tuple[PageObject, ...] = ()
    gone: tuple[int, ...] = ()
    status: Status | None = None
    masks: tuple[PackedMask, ...] = ()
    undoes: int | None = None
    redoes: int | None = None

    def touched(self) -> set[int]:
        """The ids of the objects that are not as before."""
        return {one.id for one in self.objects} | set(self.gone)


@dataclass(frozen=True)
class Done:
    """A change of the past: what it touched before and after it."""

    version: int
    author: str
    what: str
    before: dict[int, PageObject | None]
    after: dict[int, PageObject | None]
    status: tuple[Status, Status]


@dataclass
class Document:
    """`objects` by id in the order in which they were made; `masks` by digest."""

    journal: Journal
    heading: Heading
    version: int = 0
    status: Status = "new"
    objects: dict[int, PageObject] = field(default_factory=dict)
    masks: dict[str, PackedMask] = field(default_factory=dict)
    _changed: dict[int, Change] = field(default_factory=dict)
    _requests: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _undo: dict[str, list[Done]] = field(default_factory=dict)
    _redo: dict[str, list[Done]] = field(default_factory=dict)
    _last_id: int = 0

    @classmethod
    def open(cls, path: Path, heading: Heading, *, mend: bool = True) -> "Document":
        """The work on a picture; a new one where there is none yet. Without `mend` only to look at.

        Raises:
            DataError: the journal is damaged, or was made on another picture.
        """
        journal, lines = Journal.open(path, mend=mend)
        if not lines:
            return cls(journal, heading)
        try:
            kept = Heading.model_validate_json(lines[0])
            changes = [Change.model_validate_json(line) for line in lines[1:]]
        except ValidationError as error:
            raise DataError(
                f"{path} is no journal of this version ({error.errors()[0]['msg']})"
            ) from None
        if (kept.width, kept.height, kept.sha256) != (
            heading.width,
            heading.height,
            heading.sha256,
        ):
            raise DataError(
                f"{heading.picture} is not the picture that the work in {path.parent} was made on"
                f" ({kept.width}×{kept.height}, sha256 {kept.sha256[:8]}; this one is"
                f" {heading.width}×{heading.height}, {heading.sha256[:8]}): put that one back, or"
                " move the work away"
            )
        document = cls(journal, kept)
        for number, change in enumerate(changes, start=1):
            if change.version != number:
                raise DataError(f"{path}: change {change.version} stands in place {number}")
            document._take(change)
        return document

    def next_id(self) -> int:
        """An id that no object of this picture ever had."""
        return self._last_id + 1

    def get(self, id_: int) -> PageObject:
        """Stale if there is no such object (any more)."""
        if id_ not in self.objects:
            raise Stale(
                f"object {id_} is gone: somebody has deleted or merged it, or it was undone"
            )
        return self.objects[id_]

    def mask_of(self, one: PageObject) -> PackedMask | None:
        """The mask of an object; None as long as it has none."""
        return self.masks[one.mask] if one.mask else None

    def has_done(self, request: str) -> bool:
        """Whether this very request was applied already."""
        return request in self._requests

    def touched_by(self, request: str) -> tuple[int, ...]:
        """The objects that a request made, changed or removed."""
        return self._requests.get(request, ())

    def check(self, base: int, touched: Iterable[int], session: str) -> None:
        """Stale if another tab has changed one of the objects since version `base`."""
        if base > self.version:
            raise Stale(
                f"this page has seen version {base} of the picture, which has {self.version}: load"
                " it again"
            )
        for id_ in touched:
            last = self._changed.get(id_)
            if last is not None and last.version > base and last.session != session:
                gone = id_ not in self.objects
                raise Stale(
                    f"{last.who} has {'removed' if gone else 'changed'} object {id_}"
                    " meanwhile: your change was not applied, look at it as it is now"
                )

    def commit(self, base: int, by: Hand, request: str, delta: Delta) -> None:
        """Make a change: on the disk first.

        Args:
            base: the version that it was made looking at.
            by: whose change it is.
            request: its own id.
            delta: what it changes.

        Raises:
            Stale: its objects have changed since version `base`.
            StorageError: it could not be written; all is as it was.
        """
        self.check(base, delta.touched(), by.session)
        change = Change(
            version=self.version + 1,
            at_unix_s=time.time(),
            author=by.author,
            who=by.who,
            session=by.session,
            request=request,
            **{name: getattr(delta, name) for name in Delta.__dataclass_fields__},
        )
        if not self.journal.length:
            self.journal.append(self.heading.model_dump_json().encode())
        self.journal.append(change.model_dump_json(exclude_defaults=True).encode())
        self._take(change)

    def undo(self, author: str) -> Delta:
        """What takes the author's last change back."""
        return self._back(self._undo.get(author, []), "undo")

    def redo(self, author: str) -> Delta:
        """What makes the author's last undone change again."""
        return self._back(self._redo.get(author, []), "redo")

    def can(self, author: str) -> tuple[bool, bool]:
        """Whether the author has something to undo, and to redo."""
        return bool(self._undo.get(author)), bool(self._redo.get(author))

    def _back(self, stack: list[Done], word: str) -> Delta:
        if not stack:
            raise UsageError(f"there is nothing to {word}")
        done = stack[-1]
        left, wanted = (done.after, done.before) if word == "undo" else (done.before, done.after)
        for id_, state in left.items():
            if self.objects.get(id_) != state:
                raise Stale(
                    f"somebody has changed object {id_} since: to {word} “{done.what}” would lose"
                    " that"
                )
        from_, to = done.status if word == "redo" else done.status[::-1]
        return Delta(
            f"{word} {done.what}",
            tuple(state for state in wanted.values() if state is not None),
            tuple(id_ for id_, state in wanted.items() if state is None),
            None if from_ == to else to,
            undoes=done.version if word == "undo" else None,
            redoes=done.version if word == "redo" else None,
        )

    def _take(self, change: Change) -> None:
        self.masks |= {mask.digest: mask for mask in change.masks}
        after: dict[int, PageObject | None] = {one.id: one for one in change.objects}
        after |= dict.fromkeys(change.gone)
        for one in change.objects:
            if one.mask is not None and one.mask not in self.masks:
                raise DataError(f"{self.journal.path}: the mask of object {one.id} is missing")
        before = {id_: self.objects.get(id_) for id_ in after}
        status = self.status, change.status or ("open" if self.status == "new" else self.status)
        done = Done(change.version, change.author, change.what, before, after, status)
        brief = change.model_copy(update={"masks": (), "objects": ()})
        for id_, state in after.items():
            self._changed[id_] = brief
            if state is None:
                self.objects.pop(id_, None)
            else:
                self.objects[id_] = state
        self._last_id = max(self._last_id, *after) if after else self._last_id
        self.version, self.status = change.version, status[1]
        self._requests[change.request] = *(one.id for one in change.objects), *change.gone
        undo = self._undo.setdefault(change.author, [])
        redo = self._redo.setdefault(change.author, [])
        source = undo if change.undoes is not None else redo if change.redoes is not None else None
        if source is not None:
            if not source or source[-1].version != (change.undoes or change.redoes):
                raise DataError(f"{self.journal.path}: change {change.version} undoes what is none")
            (redo if source is undo else undo).append(source.pop())
        else:
            undo.append(done)
            redo.clear()
