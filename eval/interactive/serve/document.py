"""The work on one picture: a journal, and the state that its changes add up to.

`Document.open` replays; `commit` writes a change to the disk first and takes it over then. Every
change has the next version. A change that was made looking at an older version is taken if no other
tab has touched its objects since, and refused (`Stale`) if one has. A request that comes twice,
because its answer was lost, is applied once.

Undo takes back the author's own last change, if what it touched is still as it left it.

What a change touches are objects, by id, and in videos looks, by object and frame: two people may
work on one object on different frames. Entries of `revise.json` are touched by their digests.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from panoforge.core.errors import DataError, UsageError, UserError
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.objects import (
    Change,
    FrameLook,
    Heading,
    PageObject,
    Revised,
    Status,
)
from panoforge.eval.interactive.serve.packed import PackedMask

Key = int | tuple[int, int] | str  # an object, its look on a frame, an entry of revise.json
State = PageObject | FrameLook | Revised | None


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
    """What a change does: objects as they are from now on, objects that go, the new status.

    Looks without a mask go.
    """

    what: str
    objects: tuple[PageObject, ...] = ()
    gone: tuple[int, ...] = ()
    looks: tuple[FrameLook, ...] = ()
    revised: tuple[Revised, ...] = ()
    status: Status | None = None
    masks: tuple[PackedMask, ...] = ()
    undoes: int | None = None
    redoes: int | None = None
    continues: int | None = None

    def touched(self) -> set[Key]:
        """The objects and looks that are not as before."""
        return set(_after(self))


@dataclass(frozen=True)
class Done:
    """A change of the past: what it touched before and after it."""

    version: int
    author: str
    what: str
    before: dict[Key, State]
    after: dict[Key, State]
    status: tuple[Status, Status]

    def then(self, later: "Done") -> "Done":
        """The two as one."""
        return Done(
            later.version,
            self.author,
            self.what,
            later.before | self.before,
            self.after | later.after,
            (self.status[0], later.status[1]),
        )


@dataclass
class Document:
    """`objects` by id in the order in which they were made.

    `looks` by object and frame; `masks` by digest; `revised` by the digest of the entry.
    """

    journal: Journal
    heading: Heading
    version: int = 0
    status: Status = "new"
    objects: dict[int, PageObject] = field(default_factory=dict)
    looks: dict[int, dict[int, FrameLook]] = field(default_factory=dict)
    masks: dict[str, PackedMask] = field(default_factory=dict)
    revised: dict[str, Revised] = field(default_factory=dict)
    _changed: dict[Key, Change] = field(default_factory=dict)
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
        same = ("width", "height", "sha256", "frames")
        if any(getattr(kept, name) != getattr(heading, name) for name in same):
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

    def mask_of(self, one: PageObject | FrameLook) -> PackedMask | None:
        """The mask of an object; None as long as it has none."""
        return self.masks[one.mask] if one.mask else None

    def look(self, id_: int, frame: int) -> FrameLook | None:
        """An object on a frame; None where it is not."""
        return self.looks.get(id_, {}).get(frame)

    def has_done(self, request: str) -> bool:
        """Whether this very request was applied already."""
        return request in self._requests

    def touched_by(self, request: str) -> tuple[int, ...]:
        """The objects that a request made, changed or removed."""
        return self._requests.get(request, ())

    def keyed(self, frame: int) -> set[int]:
        """The objects that somebody has made or corrected on a frame."""
        there = ((id_, looks.get(frame)) for id_, looks in list(self.looks.items()))
        return {id_ for id_, look in there if look is not None and look.key}

    def spans(self, id_: int) -> tuple[list[tuple[int, int]], list[int]]:
        """The frames that an object is on, as (first, last), and those where a hand made it."""
        looks = self.looks.get(id_, {})
        spans: list[tuple[int, int]] = []
        for frame in sorted(looks):
            if spans and spans[-1][1] == frame - 1:
                spans[-1] = spans[-1][0], frame
            else:
                spans.append((frame, frame))
        return spans, sorted(frame for frame, look in looks.items() if look.key)

    def as_it_is(self) -> "Document":
        """A copy to be read while others go on."""
        looks = {id_: dict(found) for id_, found in self.looks.items()}
        return replace(self, objects=dict(self.objects), looks=looks, masks=dict(self.masks))

    def check(self, base: int, touched: Iterable[Key], session: str) -> None:
        """Stale if another tab has changed one of the objects since version `base`."""
        if base > self.version:
            raise Stale(
                f"this page has seen version {base} of the picture, which has {self.version}: load"
                " it again"
            )
        for key in touched:
            last = self._changed.get(key)
            if last is not None and last.version > base and last.session != session:
                gone = self._state(key) is None
                raise Stale(
                    f"{last.who} has {'removed' if gone else 'changed'} {_called(key)}"
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
        for key, state in left.items():
            if self._state(key) != state:
                raise Stale(
                    f"somebody has changed {_called(key)} since: to {word} “{done.what}” would lose"
                    " that"
                )
        from_, to = done.status if word == "redo" else done.status[::-1]
        absent = [key for key, state in wanted.items() if state is None]
        return Delta(
            f"{word} {done.what}",
            tuple(state for state in wanted.values() if isinstance(state, PageObject)),
            tuple(key for key in absent if isinstance(key, int)),
            (
                *(state for state in wanted.values() if isinstance(state, FrameLook)),
                *(FrameLook(object=k[0], frame=k[1]) for k in absent if isinstance(k, tuple)),
            ),
            (
                *(state for state in wanted.values() if isinstance(state, Revised)),
                *(Revised(entry=key) for key in absent if isinstance(key, str)),
            ),
            None if from_ == to else to,
            undoes=done.version if word == "undo" else None,
            redoes=done.version if word == "redo" else None,
        )

    def _state(self, key: Key) -> State:
        if isinstance(key, str):
            return self.revised.get(key)
        return self.look(*key) if isinstance(key, tuple) else self.objects.get(key)

    def _put(self, key: Key, state: State) -> None:
        if isinstance(key, tuple):
            looks = self.looks.setdefault(key[0], {})
            if isinstance(state, FrameLook):
                looks[key[1]] = state
            else:
                looks.pop(key[1], None)
        elif isinstance(key, str):
            if isinstance(state, Revised):
                self.revised[key] = state
            else:
                self.revised.pop(key, None)
        elif isinstance(state, PageObject):
            self.objects[key] = state
        else:
            self.objects.pop(key, None)

    def _take(self, change: Change) -> None:
        self.masks |= {mask.digest: mask for mask in change.masks}
        after = _after(change)
        shown: list[PageObject | FrameLook] = [*change.objects, *change.looks]
        if any(one.mask is not None and one.mask not in self.masks for one in shown):
            raise DataError(f"{self.journal.path}: a mask of change {change.version} is missing")
        before = {key: self._state(key) for key in after}
        status = self.status, change.status or ("open" if self.status == "new" else self.status)
        done = Done(change.version, change.author, change.what, before, after, status)
        brief = change.model_copy(update={"masks": (), "objects": (), "looks": ()})
        for key, state in after.items():
            self._changed[key] = brief
            self._put(key, state)
            if not isinstance(key, str):
                self._last_id = max(self._last_id, key[0] if isinstance(key, tuple) else key)
        self.version, self.status = change.version, status[1]
        touched = (*(one.id for one in change.objects), *change.gone)
        self._requests[change.request] = tuple(
            dict.fromkeys((*touched, *(look.object for look in change.looks)))
        )
        self._remember(change, done)

    def _remember(self, change: Change, done: Done) -> None:
        """What the author can undo and redo from now on."""
        undo = self._undo.setdefault(change.author, [])
        redo = self._redo.setdefault(change.author, [])
        source = undo if change.undoes is not None else redo if change.redoes is not None else None
        if source is not None:
            if not source or source[-1].version != (change.undoes or change.redoes):
                raise DataError(f"{self.journal.path}: change {change.version} undoes what is none")
            (redo if source is undo else undo).append(source.pop())
            return
        if undo and change.continues == undo[-1].version:
            done = undo.pop().then(done)
        undo.append(done)
        redo.clear()


def _after(change: Change | Delta) -> dict[Key, State]:
    """What is as a change says, by key."""
    after: dict[Key, State] = {one.id: one for one in change.objects}
    after |= dict.fromkeys(change.gone)
    after |= {one.entry: one if one.verdict else None for one in change.revised}
    return after | {(k.object, k.frame): k if k.mask else None for k in change.looks}


def _called(key: Key) -> str:
    if isinstance(key, str):
        return "the verdict on this entry"
    return f"object {key[0]} on frame {key[1]}" if isinstance(key, tuple) else f"object {key}"
