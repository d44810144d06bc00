"""What the page says to the server: one model per message, and nothing else is understood.

Every message that changes something carries the picture, the session and the version that the page
was looking at. It has a request id of its own, by which a repeated one is known.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from panoforge.core.errors import UsageError
from panoforge.core.models import FrozenModel
from panoforge.eval.interactive.serve.objects import (
    Colour,
    EntryDigest,
    EntryVerdict,
    Lat,
    Lon,
    Name,
    Review,
    Status,
)

MAX_POINTS, MAX_TOUCHED, MAX_CARRIED = 4000, 5000, 50
MIN_BRUSH_DEG, MAX_BRUSH_DEG = 0.01, 45.0
Message = TypeVar("Message", bound=FrozenModel)
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
PictureId = Annotated[str, Field(min_length=1, max_length=200)]
ObjectId = Annotated[int, Field(ge=1, le=10**9)]
SpherePoint = tuple[Lon, Lat]  # degrees
Points = Annotated[tuple[SpherePoint, ...], Field(min_length=1, max_length=MAX_POINTS)]
Ids = Annotated[tuple[ObjectId, ...], Field(min_length=1, max_length=MAX_TOUCHED)]
Version = Annotated[int, Field(ge=0, le=10**12)]
FrameNumber = Annotated[int, Field(ge=0, le=10**9)]


class ClickEdit(FrozenModel):
    """A click on the sphere; without an object it begins a new one."""

    kind: Literal["click"]
    object: ObjectId | None = None
    lon_deg: Lon
    lat_deg: Lat
    positive: bool = True
    category: Name = ""


class BoxEdit(FrozenModel):
    """A box around a thing, by its corners (great-circle sides); the predictor finds the thing."""

    kind: Literal["box"]
    object: ObjectId | None = None
    corners: Annotated[tuple[SpherePoint, ...], Field(min_length=4, max_length=4)]
    category: Name = ""


class BrushEdit(FrozenModel):
    """A stroke of a round brush, or of the eraser."""

    kind: Literal["brush"]
    object: ObjectId | None = None
    points: Points
    radius_deg: Annotated[float, Field(ge=MIN_BRUSH_DEG, le=MAX_BRUSH_DEG)]
    erase: bool = False
    category: Name = ""


class PolygonEdit(FrozenModel):
    """A polygon on the sphere: its inside is added, taken away, or made an object of its own."""

    kind: Literal["polygon"]
    object: ObjectId | None = None
    points: Annotated[tuple[SpherePoint, ...], Field(min_length=3, max_length=MAX_POINTS)]
    mode: Literal["add", "erase", "cut"] = "add"
    category: Name = ""


class SetEdit(FrozenModel):
    """Words and flags of objects; what is not said stays."""

    kind: Literal["set"]
    objects: Ids
    name: Name | None = None
    category: Name | None = None
    colour: Colour | None = None
    locked: bool | None = None
    review: Review | None = None
    comment: Annotated[str, Field(max_length=2000)] | None = None


class DeleteEdit(FrozenModel):
    """Objects go."""

    kind: Literal["delete"]
    objects: Ids


class MergeEdit(FrozenModel):
    """Objects become one: the first of them."""

    kind: Literal["merge"]
    objects: Annotated[tuple[ObjectId, ...], Field(min_length=2, max_length=MAX_TOUCHED)]


class SplitEdit(FrozenModel):
    """An object of several connected parts becomes one object for each."""

    kind: Literal["split"]
    object: ObjectId


class ClearEdit(FrozenModel):
    """Objects of a video leave frames.

    This one, those after or before it, or all on which they were propagated and not corrected.
    """

    kind: Literal["clear"]
    objects: Ids
    span: Literal["here", "after", "before", "propagated"] = "here"


class StatusEdit(FrozenModel):
    """What is to be done with the picture."""

    kind: Literal["status"]
    status: Status


class ReviseEdit(FrozenModel):
    """What came of an entry of `revise.json`; null: it is to be looked at again."""

    kind: Literal["revise"]
    entry: EntryDigest
    verdict: EntryVerdict | None


class UndoEdit(FrozenModel):
    """The author's last change back, or again."""

    kind: Literal["undo", "redo"]


Edit = Annotated[
    ClickEdit
    | BoxEdit
    | BrushEdit
    | PolygonEdit
    | SetEdit
    | DeleteEdit
    | MergeEdit
    | SplitEdit
    | ClearEdit
    | StatusEdit
    | ReviseEdit
    | UndoEdit,
    Field(discriminator="kind"),
]


class EditRequest(FrozenModel):
    """A change that is asked for; in a video it is made on a frame."""

    picture: PictureId
    session: Id
    version: Version
    request: Id
    frame: FrameNumber | None = None
    edit: Edit


class PropagateRequest(FrozenModel):
    """Objects of a video are to be followed from a frame: to its end, or over so many frames."""

    picture: PictureId
    session: Id
    version: Version
    request: Id
    frame: FrameNumber
    objects: Annotated[tuple[ObjectId, ...], Field(min_length=1, max_length=MAX_CARRIED)]
    direction: Literal["forward", "backward", "both"] = "forward"
    frames: Annotated[int, Field(ge=1, le=10**6)] | None = None


class ImportRequest(FrozenModel):
    """Masks of a file, which is the body."""

    picture: PictureId
    session: Id
    version: Version
    request: Id
    name: Annotated[str, Field(min_length=1, max_length=200)]
    frame: FrameNumber | None = None


class LookRequest(FrozenModel):
    """What is on the picture, or on a frame; `version` is the one that the page has."""

    picture: PictureId
    session: Id
    version: Version = 0
    frame: FrameNumber | None = None


class ReadyRequest(LookRequest):
    """Somebody is going to click on a picture, most likely on what lies `towards` lon, lat."""

    towards: SpherePoint | None = None


class CancelRequest(FrozenModel):
    """What is no longer wanted."""

    session: Id
    request: Id


class JoinRequest(FrozenModel):
    """A page says who works on it. `session` is the one that it had, after the server's restart."""

    author: Id
    who: Annotated[str, Field(min_length=1, max_length=60)]
    session: Id | None = None


def parse(model: type[Message], said: bytes | dict[str, Any]) -> Message:
    """JSON, or the fields of an address, as a message.

    Raises:
        UsageError: it is none; the message says in one line what is wrong with it.
    """
    adapter = TypeAdapter(model)
    try:
        if isinstance(said, bytes):
            return adapter.validate_json(said, strict=True)
        return adapter.validate_python(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = ascii(first["msg"])[1:-1][:200]
        if first["type"] == "json_invalid":
            raise UsageError(f"the body is not JSON: {why}") from None
        if where.endswith(("lon_deg", "lat_deg")):
            raise UsageError(
                "expected a longitude of −180 to 180 (0 is the middle of the picture, right is"
                f" positive) and a latitude of −90 to 90 (up is positive): {where}: {why}"
            ) from None
        raise UsageError(f"this is no {model.__name__}: {where[:100]}: {why}") from None
