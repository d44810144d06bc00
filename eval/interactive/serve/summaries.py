"""What the list of pictures says of each, without opening it: a small file beside its journal.

It is made from the journal and holds nothing of its own. One that does not fit its journal's length
(a crash came between) is made anew.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from panoforge.core.errors import DataError, UserError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.models import FrozenModel
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.eval.interactive.serve.document import Document
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.objects import EntryVerdict, Heading, Status

NAME = "summary.json"


class PictureSummary(FrozenModel):
    """`journal_bytes` says which state of the journal it is of.

    `revised` is what came of entries of `revise.json`, by their digests.
    """

    journal_bytes: int = 0
    status: Status | Literal["damaged"] = "new"
    objects: int = 0
    classes: tuple[str, ...] = ()
    revised: dict[str, EntryVerdict] = {}


def summary_of(document: Document) -> PictureSummary:
    """What is said of a document."""
    classes = {one.category for one in document.objects.values() if one.category}
    return PictureSummary(
        journal_bytes=document.journal.length,
        status=document.status,
        objects=len(document.objects),
        classes=tuple(sorted(classes)),
        revised={key: one.verdict for key, one in document.revised.items() if one.verdict},
    )


def write_summary(document: Document) -> None:
    """Write it beside the journal."""
    path = document.journal.path.with_name(NAME)
    write_bytes_atomic(path, summary_of(document).model_dump_json().encode())


def read_summary(journal: Path) -> PictureSummary:
    """What is said of a picture by its journal's path; a damaged journal has the status so."""
    try:
        size = journal.stat().st_size
    except OSError:
        return PictureSummary()
    try:
        kept = PictureSummary.model_validate_json(read_bytes(journal.with_name(NAME)))
        if kept.journal_bytes == size:
            return kept
    except (DataError, OSError, ValidationError):
        pass
    try:
        _, lines = Journal.open(journal, mend=False)
        if not lines:
            return PictureSummary()
        document = Document.open(journal, Heading.model_validate_json(lines[0]), mend=False)
        if not document.journal.torn:
            write_summary(document)
        return summary_of(document)
    except (UserError, ValidationError):
        return PictureSummary(status="damaged")
