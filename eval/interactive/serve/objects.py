"""What is on a picture: its objects, and the records of the changes that made them.

An object never holds pixels, only the digest of its mask. A `Change` says which objects are now as
they are and which are gone; it carries the masks that are new. So replaying needs no model, no
geometry and no order of clicks, and undoing is a change like any other.

In a video an object has no mask of its own but a `FrameLook` on every frame that shows it. What is
changed on one frame is one look: a thousand frames do not make an edit longer.
"""

from typing import Annotated, Literal

from pydantic import Field

from panoforge.core.models import FrozenModel
from panoforge.core.storage.lease import UnixSeconds
from panoforge.eval.interactive.serve.packed import PackedMask

Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
Name = Annotated[str, Field(max_length=120)]
Review = Literal["own", "proposed", "accepted", "rejected"]
Status = Literal["new", "open", "done", "skipped"]
EntryVerdict = Literal["accepted", "fixed"]
EntryDigest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Lon = Annotated[float, Field(ge=-180, le=180)]
Lat = Annotated[float, Field(ge=-90, le=90)]
COLOURS = (
    "#ff3d71",
    "#2a9dff",
    "#ffb020",
    "#a66bff",
    "#00d3c7",
    "#ff7a2f",
    "#c6e02a",
    "#ff6bd6",
    "#7a5cff",
    "#3ddc84",
    "#ff9e9e",
    "#b8860b",
    "#6fe7ff",
    "#e040fb",
    "#9acd32",
    "#ffd1a3",
)  # vivid: masks stand out


class Clicked(FrozenModel):
    """A click that a mask was computed from, degrees."""

    lon_deg: Lon
    lat_deg: Lat
    positive: bool = True


class PageObject(FrozenModel):
    """One object.

    `review` is `own` for what was made here, else what became of a machine's label. `clicks` made
    its mask, unless it was drawn on afterwards; then they are gone.
    """

    id: int
    name: Name = ""
    category: Name = ""
    colour: Colour
    locked: bool = False
    review: Review = "own"
    comment: Annotated[str, Field(max_length=2000)] = ""
    origin: Name = ""
    clicks: tuple[Clicked, ...] = ()
    mask: str | None = None

    @property
    def words(self) -> str:
        """What messages call it."""
        if self.name or not self.category:
            return self.name or f"object {self.id}"
        return f"{self.category} (object {self.id})"


class FrameLook(FrozenModel):
    """An object on one frame of a video.

    `key`: somebody made or corrected it here; other looks are propagated. Without a mask it is not
    on the frame (any more).
    """

    object: int
    frame: int
    mask: str | None = None
    key: bool = False
    clicks: tuple[Clicked, ...] = ()


class Revised(FrozenModel):
    """What came of an entry of `revise.json`: its label is right, or was put right.

    Without a verdict it is to be looked at (again).
    """

    entry: EntryDigest
    verdict: EntryVerdict | None = None


class Change(FrozenModel):
    """One line of a picture's journal: `who` did it as `author` in the tab `session`.

    `undoes` and `redoes` are versions, and so is `continues`: what it goes on from, to be undone
    with it.
    """

    version: int
    at_unix_s: UnixSeconds
    author: str
    who: str
    session: str
    request: str
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


class Heading(FrozenModel):
    """The first line of a picture's journal.

    Which picture the work was made on, or which video: then it has `frames`.
    """

    format: Literal["panoforge annotation journal 1"] = "panoforge annotation journal 1"
    picture: str
    sha256: str
    width: int
    height: int
    frames: int | None = None


def colour_of(id_: int) -> str:
    """The colour that an object has unless another is chosen."""
    return COLOURS[(id_ - 1) % len(COLOURS)]
