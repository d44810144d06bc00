"""From what is asked for to what changes: an edit of a sheet as a `Delta`.

Pure: nothing is written, and the sheet (a picture, or one frame of a video) is as it was.

What a predictor says comes in as a function; it is called at most once. Drawing on an object is
kept when it is clicked on later: the click's own mask is then added or, for a click that takes
away, removed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.geometry.shapes import fill_polygon, fill_stroke, sphere_parts
from panoforge.core.types import Mask
from panoforge.eval.interactive.serve.document import Delta
from panoforge.eval.interactive.serve.messages import (
    BoxEdit,
    BrushEdit,
    ClearEdit,
    ClickEdit,
    DeleteEdit,
    Edit,
    MergeEdit,
    PolygonEdit,
    ReviseEdit,
    SetEdit,
    SpherePoint,
    SplitEdit,
    StatusEdit,
    UndoEdit,
)
from panoforge.eval.interactive.serve.objects import Clicked, PageObject, Revised, colour_of
from panoforge.eval.interactive.serve.packed import PackedMask
from panoforge.eval.interactive.serve.sheets import Sheet

MAX_CLICKS, MAX_OBJECTS, MAX_PARTS = 64, 5000, 200
MAX_ID = 65_535  # the page draws ids of 16 bits


@dataclass(frozen=True)
class Wanted:
    """What a predictor is asked: clicks, or the region of a box."""

    clicks: tuple[Clicked, ...] = ()
    corners: tuple[SpherePoint, ...] = ()


Predict = Callable[[Wanted], Mask]


def wanted_of(sheet: Sheet, edit: Edit) -> Wanted | None:
    """What a predictor must be asked before the edit can be made; None if nothing.

    Raises:
        UsageError: it makes no sense.
        Stale: its object is gone.
    """
    if isinstance(edit, BoxEdit):
        editable(sheet, edit.object)
        return Wanted(corners=edit.corners)
    if not isinstance(edit, ClickEdit):
        return None
    one = editable(sheet, edit.object)
    click = Clicked(lon_deg=edit.lon_deg, lat_deg=edit.lat_deg, positive=edit.positive)
    if one is not None and one.mask and not one.clicks:  # it was drawn on: a mask of its own
        return Wanted((click.model_copy(update={"positive": True}),))
    clicks = (*(one.clicks if one else ()), click)
    if not any(c.positive for c in clicks):
        raise UsageError(
            "click on the object first; a click that takes away only makes sense after that"
        )
    if len(clicks) > MAX_CLICKS:
        raise UsageError(
            f"an object takes {MAX_CLICKS} clicks at most: start a new one, or undo some"
        )
    return Wanted(clicks)


def delta_of(sheet: Sheet, edit: Edit, author: str, predict: Predict) -> Delta:
    """What an edit changes.

    Args:
        sheet: the state that it is made on.
        edit: what is asked for.
        author: whose changes undo and redo are about.
        predict: gives the mask of clicks or of a box.

    Raises:
        UsageError: it makes no sense.
        Stale: its object is gone.
    """
    if isinstance(edit, ClickEdit | BoxEdit):
        return _predicted(sheet, edit, predict)
    if isinstance(edit, BrushEdit):
        return _brushed(sheet, edit)
    if isinstance(edit, PolygonEdit):
        return _polygon(sheet, edit)
    if isinstance(edit, SetEdit):
        return _set(sheet, edit)
    if isinstance(edit, DeleteEdit):
        return _deleted(sheet, edit)
    if isinstance(edit, MergeEdit):
        return _merged(sheet, edit)
    if isinstance(edit, SplitEdit):
        return _split(sheet, edit)
    if isinstance(edit, ClearEdit):
        raise UsageError("a picture has no frames to be cleared: delete the object")
    if isinstance(edit, StatusEdit):
        return Delta(f"mark as {edit.status}", status=edit.status)
    if isinstance(edit, ReviseEdit):
        revised = Revised(entry=edit.entry, verdict=edit.verdict)
        return Delta(f"entry {edit.verdict or 'open again'}", revised=(revised,))
    return _undone(sheet, edit, author)


def _predicted(sheet: Sheet, edit: ClickEdit | BoxEdit, predict: Predict) -> Delta:
    wanted = wanted_of(sheet, edit)
    assert wanted is not None
    one = editable(sheet, edit.object) or _new(sheet, edit.category)
    found, old = predict(wanted), _pixels(sheet, one)
    if not found.any() and not one.mask:
        raise UsageError(
            "nothing was found there, so no object was made: click on another part of it, draw a"
            " larger box, or paint it"
        )
    keeps_clicks = isinstance(edit, ClickEdit) and (one.clicks or not one.mask)
    if isinstance(edit, BoxEdit):
        mask = found | old
    elif keeps_clicks:
        mask = found
    else:
        mask = old | found if edit.positive else old & ~found
    return _masked(edit.kind, one, mask, wanted.clicks if keeps_clicks else ())


def _brushed(sheet: Sheet, edit: BrushEdit) -> Delta:
    one = editable(sheet, edit.object)
    if one is None and edit.erase:
        raise UsageError("choose the object that the eraser takes from")
    one = one or _new(sheet, edit.category)
    stroke = fill_stroke(
        np.radians(np.array(edit.points, np.float64)),
        float(np.radians(edit.radius_deg)),
        sheet.heading.width,
        sheet.heading.height,
    )
    old = _pixels(sheet, one)
    return _masked("erase" if edit.erase else "brush", one, _put(old, stroke, edit.erase))


def _polygon(sheet: Sheet, edit: PolygonEdit) -> Delta:
    one = editable(sheet, edit.object)
    if one is None and edit.mode != "add":
        raise UsageError("choose the object that is cut")
    if len(set(edit.points)) < 3:
        raise UsageError("a polygon has three different corners or more")
    one = one or _new(sheet, edit.category)
    inside = polygon_mask(edit.points, sheet.heading.width, sheet.heading.height)
    old = _pixels(sheet, one)
    if edit.mode != "cut":
        return _masked(f"polygon {edit.mode}", one, _put(old, inside, edit.mode == "erase"))
    if not (old & inside).any() or not (old & ~inside).any():
        raise UsageError("the polygon must leave a part of the object inside and a part outside")
    rest, part = PackedMask.of(old & ~inside), PackedMask.of(old & inside)
    return Delta(
        "cut",
        (
            one.model_copy(update={"mask": rest.digest, "clicks": ()}),
            _like(one, sheet.next_id(), part),
        ),
        masks=(rest, part),
    )


def polygon_mask(points: Sequence[SpherePoint], width: int, height: int) -> Mask:
    """The inside of a polygon whose corners are in degrees."""
    return fill_polygon(np.radians(np.array(points, np.float64)), width, height)


def _set(sheet: Sheet, edit: SetEdit) -> Delta:
    said = edit.model_dump(exclude={"kind", "objects"}, exclude_none=True)
    if not said:
        raise UsageError("nothing is said about the objects")
    kept = [sheet.get(id_) for id_ in dict.fromkeys(edit.objects)]
    for one in kept:
        if one.locked and set(said) - {"locked", "comment", "review"}:
            raise UsageError(f"{one.words} is locked: unlock it first (Q)")
    return Delta(f"set {', '.join(said)}", tuple(one.model_copy(update=said) for one in kept))


def _deleted(sheet: Sheet, edit: DeleteEdit) -> Delta:
    found = [editable(sheet, id_) for id_ in dict.fromkeys(edit.objects)]
    return Delta("delete", gone=tuple(one.id for one in found if one))


def _merged(sheet: Sheet, edit: MergeEdit) -> Delta:
    ids = list(dict.fromkeys(edit.objects))
    found = [one for id_ in ids if (one := editable(sheet, id_))]
    if len(found) < 2:
        raise UsageError("merging takes two objects or more")
    mask = _pixels(sheet, found[0])
    for one in found[1:]:
        mask |= _pixels(sheet, one)
    merged = _masked("merge", found[0], mask)
    return Delta("merge", merged.objects, tuple(one.id for one in found[1:]), masks=merged.masks)


def _split(sheet: Sheet, edit: SplitEdit) -> Delta:
    one = sheet.get(edit.object)
    editable(sheet, edit.object)
    parts, count = sphere_parts(_pixels(sheet, one))
    if count < 2:
        raise UsageError(
            f"{one.words} is of one connected part: draw a polygon around a part to cut it off"
        )
    if count > MAX_PARTS:
        raise UsageError(
            f"{one.words} is of {count} parts, over {MAX_PARTS}: erase the specks first"
        )
    masks = [PackedMask.of(parts == k) for k in range(1, count + 1)]
    first = one.model_copy(update={"mask": masks[0].digest, "clicks": ()})
    others = [_like(one, sheet.next_id() + k, mask) for k, mask in enumerate(masks[1:])]
    return Delta("split", (first, *others), masks=tuple(masks))


def _undone(sheet: Sheet, edit: UndoEdit, author: str) -> Delta:
    return sheet.undo(author) if edit.kind == "undo" else sheet.redo(author)


def editable(sheet: Sheet, id_: int | None) -> PageObject | None:
    """The object that is edited; None for a new one.

    Raises:
        Stale: it is gone.
        UsageError: it is locked, or there are too many.
    """
    if id_ is None:
        if len(sheet.objects) >= MAX_OBJECTS or sheet.next_id() >= MAX_ID - MAX_PARTS:
            raise UsageError(f"a picture holds {MAX_OBJECTS} objects at most")
        return None
    one = sheet.get(id_)
    if one.locked:
        raise UsageError(f"{one.words} is locked: unlock it first (Q)")
    return one


def _new(sheet: Sheet, category: str) -> PageObject:
    id_ = sheet.next_id()
    return PageObject(id=id_, category=category, colour=colour_of(id_))


def _like(one: PageObject, id_: int, mask: PackedMask) -> PageObject:
    """A new object of the same kind."""
    update = {"id": id_, "colour": colour_of(id_), "mask": mask.digest, "clicks": ()}
    return one.model_copy(update=update)


def _pixels(sheet: Sheet, one: PageObject) -> Mask:
    """The mask of an object, one's own copy; empty where it has none."""
    packed = sheet.mask_of(one)
    heading = sheet.heading
    return packed.mask() if packed else np.zeros((heading.height, heading.width), bool)


def _put(mask: Mask, shape: Mask, erase: bool) -> Mask:
    return mask & ~shape if erase else mask | shape


def _masked(what: str, one: PageObject, mask: Mask, clicks: tuple[Clicked, ...] = ()) -> Delta:
    packed = PackedMask.of(mask)
    return Delta(
        what,
        (one.model_copy(update={"mask": packed.digest, "clicks": clicks}),),
        masks=(packed,),
    )
