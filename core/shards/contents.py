"""What the files in a dataset's `shards/` really are: found by digest, whatever they are called."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from panoforge.core.errors import UserError
from panoforge.core.shards.layout import DIGEST_DIGITS, SHARDS
from panoforge.core.storage.store import Store

MAX_SHARD_BYTES = 64 << 30  # more is no shard: a sparse file of any size is made in an instant


@dataclass(frozen=True)
class Contents:
    """Digests and sizes of files, each read once. What is not a regular file has neither."""

    store: Store
    _digests: dict[str, str]

    @classmethod
    def of(cls, store: Store) -> "Contents":
        """The contents of a dataset, none of them read yet."""
        return cls(store, {})

    def size(self, name: str) -> int:
        """Bytes of a file; 0 where there is none, or something that is no file of this folder."""
        with contextlib.suppress(UserError):
            return self.store.get_size(name) or 0
        return 0

    def digest(self, name: str) -> str:
        """SHA-256 of a file; empty where it cannot be a shard."""
        if name not in self._digests:
            size = self.size(name)
            self._digests[name] = self._hash(name) if 0 < size <= MAX_SHARD_BYTES else ""
        return self._digests[name]

    def _hash(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.store.open(name) as file:
            while chunk := file.read(8 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def holds(self, name: str, shard: str, sha256: str | None) -> bool:
        """Whether file `name` has the content of `shard`.

        Its digest by the manifest, or the digits in its name. One wrong letter in a manifest must
        not cost a whole shard.
        """
        digest = self.digest(name)
        return bool(digest) and (digest == sha256 or digest.startswith(digits_of(shard)))

    def located(self, shards: Mapping[str, str | None]) -> dict[str, str]:
        """Where the content of each shard lies: shard → file. Digests are believed over names.

        Args:
            shards: names, and digests by the manifest (None: unknown).

        Returns:
            For each shard the file with its digest: its own, else another's. Where there is none,
            its own name.
        """
        found = {name: name for name in shards}
        lost = [name for name, sha256 in shards.items() if not self.holds(name, name, sha256)]
        if not lost:
            return found
        kept = set(shards) - set(lost)
        others = [name for name in shard_files(self.store) if name not in kept]
        for name in lost:
            for other in others:
                if self.holds(other, name, shards[name]):
                    found[name] = other
                    break
        return found


def shard_files(store: Store) -> list[str]:
    """Names of what may be shards."""
    return [name for name in store.names(SHARDS) if name.endswith(".tar")]


def digits_of(shard: str) -> str:
    """The digits of the digest that a shard's name ends with."""
    return shard.removesuffix(".tar")[-DIGEST_DIGITS:]
