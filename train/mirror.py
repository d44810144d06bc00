"""Checkpoints in a bucket as well: for nodes that share no folder, and folders that do not last.

A `Mirror` keeps what `panoforge.train.checkpoints` commits in a folder also under a URL, in the
same order: file, digest, `latest`. So what `latest` names there is whole. All ranks of a run go on
from what it names there, whatever their own folder has. A name made up by the first writer
(`run-id`, here and there) keeps two runs out of one place.
"""

import shutil
import uuid
from pathlib import Path

from panoforge.core.errors import ConfigError, DataError
from panoforge.core.storage.atomic import storage_errors, write_atomic, write_bytes_atomic
from panoforge.core.storage.store import Store, StoreLike
from panoforge.train.checkpoints import LATEST, committed, is_name, latest_name
from panoforge.train.model.checkpoint_export import sidecar

RUN_ID = "run-id"
_SMALL = 1000  # bytes of a name or a digest, at most


class Mirror:
    """The checkpoints of one run: a folder, and a place that has them too."""

    def __init__(self, folder: Path, place: StoreLike) -> None:
        self.folder, self.store = folder, Store.at(place)

    def claim(self) -> None:
        """Make the place this run's. ConfigError if it is another's."""
        own = self.folder / RUN_ID
        with storage_errors(own):
            here = own.read_bytes() if own.exists() else None
        there = self.store.get(RUN_ID, _SMALL)
        if there is None:
            there = here or uuid.uuid4().hex.encode()
            self.store.put(RUN_ID, there)
        if (here or there) != there or (here is None and committed(self.folder)):
            raise ConfigError(
                f"{self.store} holds the checkpoints of another run than {self.folder}: a run's"
                " checkpoints are never overwritten. Set checkpoints_to to another place"
            )
        write_bytes_atomic(own, there)

    def fetch(self) -> str | None:
        """Bring what `latest` names there into the folder, and name it here; gives its name."""
        said = self.store.get(LATEST, _SMALL)
        if said is None:
            return None
        name = said.decode("ascii", "replace").strip()
        if not is_name(name):
            raise DataError(
                f"{self.store}/{LATEST} names {name[:100]!r}, which is no checkpoint of ours:"
                " delete that file to begin anew, or name another checkpoints_to"
            )
        path = self.folder / name
        digest = self.store.read(sidecar(path).name)
        if not sidecar(path).exists() or sidecar(path).read_bytes() != digest:
            with self.store.open(name) as source:
                write_atomic(path, lambda file: shutil.copyfileobj(source, file, 8 << 20))
            write_bytes_atomic(sidecar(path), digest)
        if latest_name(self.folder) != name:
            write_bytes_atomic(self.folder / LATEST, f"{name}\n".encode())
        return name

    def send(self, path: Path) -> None:
        """Have a committed checkpoint there too, and only those that are kept here."""
        self.send_file(path)
        self.store.put(LATEST, f"{path.name}\n".encode())
        kept = {file.name for old in committed(self.folder) for file in (old, sidecar(old))}
        for name in self.store.names(""):
            if name.startswith("step-") and name not in kept:
                self.store.delete(name)

    def send_file(self, path: Path) -> None:
        """Have a file and its digest there too."""
        with storage_errors(path), open(path, "rb") as file, self.store.draft("") as draft:
            shutil.copyfileobj(file, draft.file, 8 << 20)
            draft.commit(path.name)
        with storage_errors(path):
            self.store.put(sidecar(path).name, sidecar(path).read_bytes())
