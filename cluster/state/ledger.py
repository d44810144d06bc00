"""The ledger of a render run: every attempt at every scene, on any fsspec URL; it only grows.

    <ledger>/job.json               what the run is: the digest of its images, written once
    <ledger>/attempts/I-A-ID.json   a small record per attempt, by the node that made it
    <ledger>/segments/LEVEL-DIGEST.parquet   records that were compacted, in columns; DIGEST is
                                    that of the bytes
    <ledger>/lease/                 who drives the run (panoforge.core.storage.lease)

Nodes write, the one driver compacts. It puts a segment and then deletes the records in it. `FAN_IN`
segments of one level become one of the next, so there are never many objects to read: opening the
ledger of a million scenes costs seconds.

A reader lists loose records first and segments after, and drops what it sees twice. So it is right
at any moment of a compaction, and after a crash at any moment. A record or segment that is torn is
not believed: its scenes count as not done, and making them again finds their panoramas staged
(panoforge.cluster.render.commit).
"""

import hashlib
import io
import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from panoforge.cluster.state.policy import AttemptFault, Profile
from panoforge.core.errors import ConfigError, DataError
from panoforge.core.foreign.parquet import read_parquet
from panoforge.core.models import FrozenModel
from panoforge.core.names import RelativeName, SampleKey
from panoforge.core.storage.store import Store

_LOOSE = "attempts/"  # one record an object, until it is compacted
FAN_IN = 16
COMPACT_EVERY = 500
MAX_RECORD_BYTES = 1 << 20
MAX_SEGMENT_BYTES = 4 << 30
_SEGMENT = re.compile(r"segments/[0-9]{2}-[0-9a-f]{16}\.parquet")

# In the order in which they win if one attempt left several: a node that was given up as lost may
# still have finished.
Outcome = Literal["fault", "quarantined", "retry", "rejected", "done"]
OUTCOMES: tuple[Outcome, ...] = ("fault", "quarantined", "retry", "rejected", "done")

log = logging.getLogger(__name__)


class AttemptRecord(FrozenModel):
    """One line of the ledger.

    `done`, `rejected` and `fault` are ends of attempts; `quarantined` is the policy's verdict after
    `attempt`, and `retry` a person's word that the faults up to `attempt` are forgiven.

    `index` numbers the scene in its job, `attempt` counts from 1 per scene. `digests` are the
    SHA-256 of the label maps of `panoramas`, in the same order. `job_sha256` is the digest of the
    run's images, `image_sha256` that of this attempt's.
    """

    schema_version: Literal[1] = 1
    id: RelativeName
    index: Annotated[int, Field(ge=0, lt=2**31)]
    scene: RelativeName
    attempt: Annotated[int, Field(ge=0, lt=2**31)]
    outcome: Outcome
    fault: AttemptFault | None = None
    reason: str = ""
    profile: Profile = Profile.NORMAL
    panoramas: tuple[SampleKey, ...] = ()
    digests: tuple[str, ...] = ()
    staged_bytes: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rejected_poses: dict[str, int] = {}
    timings_s: dict[str, float] = {}
    job_sha256: str
    image_sha256: str = ""
    node: str = "?"
    started_unix_s: float
    seconds: float = 0.0
    cpus: float = 1.0
    gpus: float = 0.0
    peak_memory_mb: float | None = None
    exit: str = ""
    log: str = ""
    log_tail: str = ""


SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("index", pa.int64()),
        ("scene", pa.string()),
        ("attempt", pa.int32()),
        ("outcome", pa.string()),
        ("fault", pa.string()),
        ("reason", pa.string()),
        ("profile", pa.string()),
        ("panoramas", pa.list_(pa.string())),
        ("digests", pa.list_(pa.string())),
        ("staged_bytes", pa.int64()),
        ("rejected_poses", pa.string()),
        ("timings_s", pa.string()),
        ("job_sha256", pa.string()),
        ("image_sha256", pa.string()),
        ("node", pa.string()),
        ("started_unix_s", pa.float64()),
        ("seconds", pa.float64()),
        ("cpus", pa.float32()),
        ("gpus", pa.float32()),
        ("peak_memory_mb", pa.float32()),
        ("exit", pa.string()),
        ("log", pa.string()),
        ("log_tail", pa.string()),
    ]
)
_AS_JSON = ("rejected_poses", "timings_s")


RANDOM_PART = "0123456789ab"  # how long the end of a record's id is


def new_id(index: int, attempt: int) -> str:
    """A fresh record id; records sort by scene and attempt."""
    return f"{attempt_prefix(index, attempt)}{uuid.uuid4().hex[: len(RANDOM_PART)]}"


def attempt_prefix(index: int, attempt: int) -> str:
    """How the ids of an attempt's records begin, and the names of its folders."""
    return f"{index:08d}-{attempt:03d}-"


def to_table(records: Iterable[AttemptRecord]) -> pa.Table:
    """Records as columns."""
    rows = []
    for record in records:
        row = record.model_dump(mode="json", exclude={"schema_version"})
        rows.append({**row, **{name: json.dumps(row[name]) for name in _AS_JSON}})
    return pa.Table.from_pylist(rows, SCHEMA)


def to_records(table: pa.Table) -> list[AttemptRecord]:
    """Whole rows as records. DataError for a row that is none."""
    try:
        rows = (
            {**row, **{name: json.loads(row[name]) for name in _AS_JSON}}
            for row in table.to_pylist()
        )
        return [AttemptRecord.model_validate(row) for row in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"a record of the ledger does not fit its schema: {error}") from None


class Ledger:
    """The ledger at `url`.

    Any number may write and read; one driver, the holder of the lease, compacts.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.url = url

    # ---- what the run is

    def declare(self, job_sha256: str, about: dict) -> None:
        """Say what this run is, or check that it is the same as was said before.

        A dataset must not mix two.
        """
        data = (
            json.dumps({"schema_version": 1, "job_sha256": job_sha256, **about}, indent=1).encode()
            + b"\n"
        )
        if not self.store.put_new("job.json", data):
            self.check(job_sha256)

    def check(self, job_sha256: str) -> None:
        """ConfigError if this ledger is of another job."""
        known = self.job()
        if known is not None and known != job_sha256:
            raise ConfigError(
                f"{self.url} is the ledger of another render config ({known[:12]}, this one is"
                f" {job_sha256[:12]}), and one dataset must not mix them. Choose another folder"
                " (run=…), or delete that one"
            )

    def job(self) -> str | None:
        """Digest of the run's images; None for a ledger that has not begun."""
        data = self.store.get("job.json")
        try:
            return None if data is None else str(json.loads(data)["job_sha256"])
        except (ValueError, KeyError, TypeError):
            return None

    # ---- writing

    def write(self, record: AttemptRecord) -> None:
        """Commit one record. Records are never changed afterwards."""
        self.store.put(_loose_name(record.id), record.model_dump_json().encode())

    def compact(self, records: Sequence[AttemptRecord]) -> None:
        """Put records (that are written) into a segment and delete them.

        Then merge segments that have become many.
        """
        if not records:
            return
        self._put_segment(0, to_table(records), replaces=())
        for record in records:
            self.store.delete(_loose_name(record.id))
        self._merge()

    def compact_all(self) -> None:
        """Compact every loose record, such as a killed driver left."""
        for folder in ("attempts", "segments", "lease"):
            self.store.sweep(folder)
        self.compact(list(self._loose()))

    def _put_segment(self, level: int, table: pa.Table, replaces: Sequence[str]) -> None:
        table = table.sort_by([("index", "ascending"), ("attempt", "ascending")])
        table = table.replace_schema_metadata({"replaces": json.dumps(list(replaces))})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=1 << 17)
        data = buffer.getvalue()
        self.store.put(f"segments/{level:02d}-{_digest(data)}.parquet", data)

    def _merge(self) -> None:
        by_level: dict[int, list[str]] = {}
        for name in self._segment_names():
            by_level.setdefault(_level(name), []).append(name)
        for level, names in sorted(by_level.items()):
            if len(names) >= FAN_IN:
                tables = self._segments(names)
                if len(tables) == len(names):  # a torn one stays, to be seen
                    self._put_segment(
                        level + 1, _unique(pa.concat_tables(tables.values())), replaces=names
                    )
                    for name in names:
                        self.store.delete(name)

    # ---- reading

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All records as one table, each once, in no particular order; `columns` None gives all."""
        loose = to_table(self._loose())
        for _ in range(20):
            names = self._segment_names()
            needed = None if columns is None else sorted({*columns, "id"})
            segments = self._segments(names, needed)
            if set(segments) == set(names) or self._segment_names() == names:
                break  # otherwise the driver merged under our hands: look again
        tables = list(segments.values())
        if tables:
            stored = pa.concat_tables(tables)
            loose = (
                loose.filter(pc.invert(pc.is_in(loose["id"], stored["id"].combine_chunks())))
                if loose.num_rows
                else loose
            )
            stored = _unique(stored)
            loose = pa.concat_tables([stored, loose.select(stored.column_names)])
        return loose if columns is None else loose.select(list(columns))

    def records(self) -> list[AttemptRecord]:
        """All records, in the order of scenes and attempts."""
        return sorted(
            to_records(self.table()),
            key=lambda record: (record.index, record.attempt, OUTCOMES.index(record.outcome)),
        )

    def of_scene(self, scene: str) -> list[AttemptRecord]:
        """The records of one scene, in order."""
        table = self.table()
        rows = to_records(table.filter(pc.equal(table["scene"], scene)))
        return sorted(rows, key=lambda record: (record.attempt, OUTCOMES.index(record.outcome)))

    def of_attempt(self, index: int, attempt: int) -> AttemptRecord | None:
        """The record of an attempt that has just ended, while it is not compacted."""
        prefix = _LOOSE + attempt_prefix(index, attempt)
        names = [name for name in self.store.names("attempts") if name.startswith(prefix)]
        return next(iter(self._read_loose(names)), None)

    def is_empty(self) -> bool:
        """Nothing recorded, or everything lost."""
        return not self._segment_names() and not self.store.names("attempts")

    def _segment_names(self) -> list[str]:
        return [name for name in self.store.names("segments") if _SEGMENT.fullmatch(name)]

    def _loose(self) -> Iterator[AttemptRecord]:
        return self._read_loose(self.store.names("attempts"))

    def _read_loose(self, names: Iterable[str]) -> Iterator[AttemptRecord]:
        for name in names:
            try:
                data = self.store.get(name, MAX_RECORD_BYTES)
                if data is None:  # compacted since the listing: it will be seen in a segment
                    continue
                yield AttemptRecord.model_validate_json(data)
            except (ValidationError, DataError):
                log.warning(
                    "%s/%s is torn or no record: its scene counts as not done", self.url, name
                )

    def _segments(
        self, names: Sequence[str], columns: Sequence[str] | None = None
    ) -> dict[str, pa.Table]:
        found: dict[str, pa.Table] = {}
        replaced: set[str] = set()
        for name in names:
            data = self.store.get(name, MAX_SEGMENT_BYTES)
            if data is None:
                continue
            if _digest(data) != name[-len("0123456789abcdef.parquet") : -len(".parquet")]:
                log.warning(
                    "%s/%s does not have the digest in its name: it is not believed", self.url, name
                )
                continue
            try:
                found[name], replaces = _segment(data, columns)
            except (DataError, ValueError, TypeError, RecursionError) as error:
                why = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("%s/%s is no segment (%s): not believed", self.url, name, why)
                continue
            replaced |= replaces
        return {name: table for name, table in found.items() if name not in replaced}


def _segment(data: bytes, columns: Sequence[str] | None) -> tuple[pa.Table, set[str]]:
    """The columns of a segment, and the names of the segments that it replaces.

    DataError where it cannot be read, ValueError for places that are empty and must not be.
    """
    table = read_parquet(data, SCHEMA, columns, what="a segment")
    replaces = json.loads((table.schema.metadata or {}).get(b"replaces", b"[]"))
    table = table.replace_schema_metadata(None)
    for name in {"id", "index", "scene", "attempt", "outcome"} & set(table.column_names):
        if table[name].null_count:
            raise ValueError(f"column {name} has empty places")
    if "index" in table.column_names and table.num_rows and pc.min(table["index"]).as_py() < 0:
        raise ValueError("a scene has a negative number")
    return table, set(replaces)


def _unique(table: pa.Table) -> pa.Table:
    """Each id once; a crash between putting a segment and deleting what it holds leaves doubles."""
    if pc.count_distinct(table["id"]).as_py() == table.num_rows:
        return table
    _, first = np.unique(
        np.asarray(table["id"].to_numpy(zero_copy_only=False), dtype=str), return_index=True
    )
    return table.take(pa.array(np.sort(first)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _level(name: str) -> int:
    return int(name.rpartition("/")[2][:2])


def _loose_name(record_id: str) -> str:
    return f"{_LOOSE}{record_id}.json"


def open_ledger(url: str) -> Ledger:
    """The ledger of an existing run. DataError when there is none."""
    ledger = Ledger(url)
    if ledger.job() is None:
        raise DataError(
            f"{url} is not the ledger of a run: expected job.json there. Give the folder that `pano"
            " render` writes to"
        )
    return ledger
