"""A picture's journal read by a test: the work as it was at a version, each mask by its pixels."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.eval.interactive.serve.document import Document
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.objects import Heading
from panoforge.eval.interactive.serve.sheets import FrameSheet

WORDS = ("id", "name", "category", "review", "colour", "locked", "comment")


def pixels_hash(mask: np.ndarray) -> str:
    """What tells a mask, bool H×W, from every other of its size."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:24]


def runs_hash(runs: list[int]) -> str:
    """The same of run lengths, nothing first."""
    return pixels_hash(np.repeat(np.arange(len(runs)) % 2 == 1, runs))


def replayed(journal: Path, version: int) -> Document:
    """The work as it was at a version: the journal's first lines, replayed."""
    lines = journal.read_bytes().split(b"\n")[: version + 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        heading = Heading.model_validate_json(Journal.open(path)[1][0])
        document = Document.open(path, heading)
    assert document.version == version, f"{journal}: {document.version}, {version} were saved"
    return document


def objects_of(document: Document, frame: int | None) -> list[dict[str, Any]]:
    """What is on a picture, or on a frame: the words of each object, and its mask's pixels."""
    sheet = document if frame is None else FrameSheet(document, frame, "")
    found = []
    for one in sorted(sheet.objects.values(), key=lambda o: o.id):
        packed = sheet.mask_of(one)
        mask = pixels_hash(packed.mask()) if packed else None
        found.append({**{word: getattr(one, word) for word in WORDS}, "mask": mask})
    return found
