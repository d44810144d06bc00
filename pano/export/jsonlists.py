"""A JSON object with long lists, written as they come: memory stays small for millions of annotations."""

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TextIO

from pano.storage import storage_errors, temporary_beside, write_atomic


class JsonLists:
    """Writes `{**head, "name": [entries…], …}` to `path`. Entries are spooled to a file per list and joined on leaving the
    `with` block without an error; only then does `path` exist."""

    def __init__(self, path: Path, names: tuple[str, ...], head: dict[str, Any]) -> None:
        self.path, self.names, self.head = path, names, head
        self.counts = dict.fromkeys(names, 0)
        self._files: dict[str, TextIO] = {}
        self._spools = {name: temporary_beside(path.with_name(f"{path.name}-{name}")) for name in names}

    def __enter__(self) -> Self:
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for name, spool in self._spools.items():
                self._files[name] = open(spool, "x", encoding="utf-8")
        return self

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Append `entry` to the list `name`."""
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        with storage_errors(self.path):
            self._files[name].write(f",\n{text}" if self.counts[name] else text)
        self.counts[name] += 1

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with storage_errors(self.path):
                for file in self._files.values():
                    file.close()
            if kind is None:
                write_atomic(self.path, self._join)
        finally:
            for spool in self._spools.values():
                spool.unlink(missing_ok=True)

    def _join(self, out: BinaryIO) -> None:
        head = "".join(f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False)},\n" for key, value in self.head.items())
        out.write(("{" + head).encode())
        for position, (name, spool) in enumerate(self._spools.items()):
            out.write((",\n" if position else "").encode() + json.dumps(name).encode() + b":[\n")
            with open(spool, "rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
            out.write(b"\n]")
        out.write(b"}\n")
