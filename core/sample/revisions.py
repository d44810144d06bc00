"""What a person should look at in machine-made labels, the worst first: `revise.json`.

`pano annotate` writes it beside its dataset, and the page of `pano serve` opens it. `severity`
orders the entries; it is a rank, no probability.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from panoforge.core.errors import DataError
from panoforge.core.models import Count, FrozenModel, Probability

REVISE_FILE = "revise.json"
MAX_BYTES = 256 << 20
MAX_ENTRIES = 100_000
DIGEST_HEX = 16
Why = Literal["uncovered", "label", "confidence", "comment", "over_limit"]


class Revision(FrozenModel):
    """One thing to look at.

    `item` is the picture or video, `frame` counts from 0, `id` is the object's in the written
    labels. `lon_deg` and `lat_deg` say where it is on that frame.
    """

    item: str
    frame: Count
    kind: Why
    id: Annotated[int, Field(ge=1, le=65535)] | None = None
    label: str = ""
    lon_deg: Annotated[float, Field(ge=-180, le=180)] | None = None
    lat_deg: Annotated[float, Field(ge=-90, le=90)] | None = None
    area_sr: float | None = None
    severity: Probability
    why: Annotated[str, Field(max_length=500)]

    @property
    def digest(self) -> str:
        """A name for the entry, of all that it says: the same words in a later list are it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:DIGEST_HEX]


class ReviseList(FrozenModel):
    """`revise.json`: the entries of all items, the worst first."""

    schema_version: Literal[1] = 1
    entries: Annotated[tuple[Revision, ...], Field(max_length=MAX_ENTRIES)] = ()


def worst_first(entries: Sequence[Revision]) -> list[Revision]:
    """By severity; among equals by item, frame and id."""
    return sorted(entries, key=rank)


def rank(one: Revision) -> tuple[float, str, int, int]:
    """What the worst has least of; equals by item, frame and id."""
    return -one.severity, one.item, one.frame, one.id or 0


def encode_revisions(entries: Sequence[Revision]) -> bytes:
    """`revise.json`; beyond the cap the mildest are left out."""
    found = ReviseList(entries=tuple(worst_first(entries)[:MAX_ENTRIES]))
    return found.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def decode_revisions(data: bytes) -> ReviseList:
    """Parse and validate `revise.json`. DataError names the first thing that does not fit."""
    if len(data) > MAX_BYTES:
        raise DataError(f"revise.json of {len(data)} bytes is over the cap of {MAX_BYTES}")
    try:
        return ReviseList.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise DataError(f"revise.json does not fit its schema: {where}: {first['msg']}") from None
