"""A JSON object with long lists, written as they come.

Memory stays small for millions of annotations.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.store import Store


class JsonLists:
    """`{**head, "name": [entries…], …}`, made by `json_lists`."""

    def __init__(self, names: tuple[str, ...], spools: Mapping[str, IO[bytes]]) -> None:
        self.counts = dict.fromkeys(names, 0)
        self._spools = spools

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Append `entry` to the list `name`."""
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        with storage_errors(tempfile.gettempdir()):
            self._spools[name].write((f",\n{text}" if self.counts[name] else text).encode())
        self.counts[name] += 1


@contextlib.contextmanager
def json_lists(
    store: Store, folder: str, file: str, names: tuple[str, ...], head: dict[str, Any]
) -> Iterator[JsonLists]:
    """Lists to be filled, as `<folder>/<file>` of the store.

    The file is there once the `with` block is left without an error. Entries are spooled to a
    nameless file per list in the temporary folder, and joined there.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(tempfile.gettempdir()):
            spools = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        yield JsonLists(names, spools)
        with store.draft(folder) as draft:
            for key, value in head.items():
                lead = "{" if key == next(iter(head)) else ""
                draft.file.write(
                    f"{lead}{json.dumps(key)}:{json.dumps(value, ensure_ascii=False)},\n".encode()
                )
            for position, (name, spool) in enumerate(spools.items()):
                lead = ",\n" if position else "" if head else "{"
                draft.file.write(f"{lead}{json.dumps(name)}:[\n".encode())
                spool.seek(0)
                shutil.copyfileobj(spool, draft.file, 1 << 20)
                draft.file.write(b"\n]")
            draft.file.write(b"}\n")
            draft.commit(file)
