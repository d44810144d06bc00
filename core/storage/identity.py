"""Results that never overwrite each other: a folder per identity, and `latest` beside them.

    folder = parent / folder_name("sam2-tiny-val", identity_sha256({"weights": …, "data": …}))
    …                                  # write the results there
    point_latest(folder)               # parent/latest → folder

Two results are of one identity if they were made of the same data, by the same rule, with the same
weights. Then the second may take the first one's place.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panoforge.core.storage.atomic import temporary_beside

LATEST = "latest"
_DIGITS = 10  # of the digest: a run holds some dozens of results, not billions
_MAX_WORDS = 80  # characters, so that the whole stays a file name everywhere


def identity_sha256(parts: Mapping[str, Any]) -> str:
    """The digest of what a result depends on, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def folder_name(words: str, identity: str) -> str:
    """`words` as a plain file name, with the first digits of the identity behind them."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", words)[:_MAX_WORDS].strip("-.")
    return f"{plain or 'results'}-{identity[:_DIGITS]}"


def point_latest(folder: Path) -> None:
    """Make `latest`, beside `folder`, a link to it, in one rename.

    Where the file system holds no links, or something else has that name, there is no `latest`: the
    results are there, and that is what counts.
    """
    link = folder.parent / LATEST
    temporary = temporary_beside(link)
    with contextlib.suppress(OSError):
        try:
            temporary.symlink_to(folder.name, target_is_directory=True)
            os.replace(temporary, link)
        finally:
            temporary.unlink(missing_ok=True)
