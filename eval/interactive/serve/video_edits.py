"""Edits of a video: drawing is of one frame, words and locks are of the object on all of them."""

from panoforge.core.errors import UsageError
from panoforge.eval.interactive.serve.document import Delta, Document
from panoforge.eval.interactive.serve.edits import Predict, delta_of, editable
from panoforge.eval.interactive.serve.messages import (
    ClearEdit,
    DeleteEdit,
    Edit,
    MergeEdit,
    ReviseEdit,
    SetEdit,
    StatusEdit,
    UndoEdit,
)
from panoforge.eval.interactive.serve.objects import FrameLook
from panoforge.eval.interactive.serve.sheets import FrameSheet, joined, without


def video_delta_of(sheet: FrameSheet, edit: Edit, author: str, predict: Predict) -> Delta:
    """What an edit on a frame changes.

    Args:
        sheet: the frame that it is made on.
        edit: what is asked for.
        author: whose changes undo and redo are about.
        predict: gives the mask of clicks or of a box on that frame.

    Raises:
        UsageError: it makes no sense.
        Stale: its object is gone.
    """
    document = sheet.document
    if isinstance(edit, SetEdit | StatusEdit | ReviseEdit | UndoEdit):
        return delta_of(document, edit, author, predict)
    if isinstance(edit, DeleteEdit):
        delta = delta_of(document, edit, author, predict)
        return Delta(delta.what, gone=delta.gone, looks=without(document, delta.gone))
    if isinstance(edit, MergeEdit):
        return _merged(document, edit)
    if isinstance(edit, ClearEdit):
        return _cleared(document, edit, sheet.frame)
    return sheet.laid_back(delta_of(sheet, edit, author, predict))


def _merged(document: Document, edit: MergeEdit) -> Delta:
    ids = list(dict.fromkeys(edit.objects))
    for id_ in ids:
        editable(document, id_)
    if len(ids) < 2:
        raise UsageError("merging takes two objects or more")
    looks, masks = joined(document, ids)
    others = without(document, ids[1:])
    return Delta("merge", gone=tuple(ids[1:]), looks=(*looks, *others), masks=tuple(masks))


def _cleared(document: Document, edit: ClearEdit, frame: int) -> Delta:
    leaves = {
        "here": lambda look: look.frame == frame,
        "after": lambda look: look.frame > frame,
        "before": lambda look: look.frame < frame,
        "propagated": lambda look: not look.key,
    }[edit.span]
    looks = []
    for id_ in dict.fromkeys(edit.objects):
        editable(document, id_)
        found = sorted(document.looks.get(id_, {}).items())
        looks += [FrameLook(object=id_, frame=k) for k, look in found if leaves(look)]
    if not looks:
        raise UsageError("the object is on none of these frames")
    return Delta(f"clear {edit.span}", looks=tuple(looks))
