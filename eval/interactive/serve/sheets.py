"""What an edit is made on: a picture, or one frame of a video.

Edits know objects that have masks. A `FrameSheet` shows the objects of a video as they are on one
frame; what an edit makes of them is laid back as looks of that frame. Names, colours and locks are
of the whole object. So deleting, merging and words act on all frames, drawing on the one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from panoforge.core.types import Mask
from panoforge.eval.interactive.serve.document import Delta, Document
from panoforge.eval.interactive.serve.objects import FrameLook, Heading, PageObject
from panoforge.eval.interactive.serve.packed import PackedMask


class Sheet(Protocol):
    """What edits and exports ask of a document, or of a frame."""

    @property
    def heading(self) -> Heading:
        """What it is a sheet of."""
        ...

    @property
    def objects(self) -> Mapping[int, PageObject]:
        """By id, with their masks."""
        ...

    def next_id(self) -> int:
        """An id that no object ever had."""
        ...

    def get(self, id_: int) -> PageObject:
        """Stale if there is no such object."""
        ...

    def mask_of(self, one: PageObject) -> PackedMask | None:
        """The mask of an object."""
        ...

    def undo(self, author: str) -> Delta:
        """What takes the author's last change back."""
        ...

    def redo(self, author: str) -> Delta:
        """What makes it again."""
        ...


@dataclass(frozen=True)
class FrameSheet:
    """One frame of a document whose heading has frames; `name` is what files call the frame."""

    document: Document
    frame: int
    name: str = ""

    @cached_property
    def heading(self) -> Heading:
        """The video's, named as the frame."""
        heading = self.document.heading
        return heading.model_copy(update={"picture": self.name or heading.picture})

    @cached_property
    def objects(self) -> dict[int, PageObject]:
        """All objects of the video, with the masks that they have here."""
        return {id_: self._here(one) for id_, one in self.document.objects.items()}

    def next_id(self) -> int:
        """An id that no object of the video ever had."""
        return self.document.next_id()

    def get(self, id_: int) -> PageObject:
        """The object as it is here."""
        return self._here(self.document.get(id_))

    def mask_of(self, one: PageObject) -> PackedMask | None:
        """Its mask here."""
        return self.document.mask_of(one)

    def undo(self, author: str) -> Delta:
        """Of the video."""
        return self.document.undo(author)

    def redo(self, author: str) -> Delta:
        """Of the video."""
        return self.document.redo(author)

    def _here(self, one: PageObject) -> PageObject:
        look = self.document.look(one.id, self.frame)
        if look is None:
            return one
        return one.model_copy(update={"mask": look.mask, "clicks": look.clicks})

    def laid_back(self, delta: Delta) -> Delta:
        """A change of this sheet as a change of the video: masks become looks of this frame."""
        objects, looks = [], list(delta.looks)
        for one in delta.objects:
            whole = one.model_copy(update={"mask": None, "clicks": ()})
            if self.document.objects.get(one.id) != whole:
                objects.append(whole)
            look = FrameLook(
                object=one.id, frame=self.frame, mask=one.mask, key=True, clicks=one.clicks
            )
            old = self.document.look(one.id, self.frame)
            if one.mask and (old is None or (old.mask, old.clicks) != (look.mask, look.clicks)):
                looks.append(look)
        return replace(delta, objects=tuple(objects), looks=tuple(looks))


def without(document: Document, ids: Iterable[int]) -> tuple[FrameLook, ...]:
    """All looks of objects, gone."""
    return tuple(
        FrameLook(object=id_, frame=frame)
        for id_ in ids
        for frame in sorted(document.looks.get(id_, {}))
    )


def joined(document: Document, ids: list[int]) -> tuple[list[FrameLook], list[PackedMask]]:
    """Looks of the first object that show all of them, frame by frame, and their masks."""
    frames = sorted({frame for id_ in ids for frame in document.looks.get(id_, {})})
    looks, masks = [], []
    for frame in frames:
        there = [look for id_ in ids if (look := document.look(id_, frame))]
        if len(there) == 1:
            packed = document.mask_of(there[0])
        else:
            packed = PackedMask.of(_union(document, there))
        assert packed is not None
        masks.append(packed)
        key = any(look.key for look in there)
        looks.append(FrameLook(object=ids[0], frame=frame, mask=packed.digest, key=key))
    return looks, masks


def _union(document: Document, looks: list[FrameLook]) -> Mask:
    mask = np.zeros((document.heading.height, document.heading.width), bool)
    for look in looks:
        if packed := document.mask_of(look):
            mask |= packed.mask()
    return mask
