"""Parquet files that ask for gigabytes: refused before they get them, by every reader of ours.

The bombs are read in a child process that cannot map more than a gigabyte.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from panoforge.cluster.state.ledger import SCHEMA as SEGMENT_SCHEMA
from panoforge.core.errors import DataError
from panoforge.core.foreign.parquet import read_parquet
from panoforge.core.foreign.parquet_pages import check_histograms, claimed_bytes
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA
from panoforge.eval.scoring.results import SCHEMA as ROWS_SCHEMA

NUMBER = pa.schema([("n", pa.int64())])
TEXT = pa.schema([("t", pa.string())])
PLAIN, DICTIONARY = b"\x00", b"\x04"  # types of pages, as Thrift writes 0 and 2


def parquet(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue().to_pybytes()


def filled(schema: pa.Schema, rows: int, name: str, repeated: str) -> pa.Table:
    """Zeros and empty texts, and one text again and again in the column `name`."""

    def column(field: pa.Field) -> pa.Array:
        kind = field.type
        if pa.types.is_list(kind):
            if pa.types.is_struct(kind.value_type):
                fields = [
                    column(kind.value_type.field(i)) for i in range(kind.value_type.num_fields)
                ]
                values = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
            else:
                values = column(pa.field(field.name, kind.value_type))
            return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), values)
        if pa.types.is_string(kind):
            return pa.repeat(repeated if field.name == name else "", rows)
        return pa.array(np.zeros(rows), pa.float64()).cast(kind)

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def written_repeated(schema: pa.Schema, name: str) -> bytes:
    """40,000 rows with a text of 100 kB each: 4 GB. Written as a file of dictionaries, so that
    making it takes nothing.
    """
    text = "a" * 100_000
    small = parquet(filled(schema, 1, name, text))
    assert len(small) < 30_000
    groups = filled(schema, 1000, name, text) if name == "suffix" else None
    if groups is not None:  # a nested column: 1000 rows at a time, 100 MB each
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for _ in range(8):
                writer.write_table(groups)
        return sink.getvalue().to_pybytes()
    table = filled(schema, 40_000, name, "")
    index = schema.get_field_index(name)
    texts = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(40_000), pa.float64()).cast(pa.int32()), [text]
    )
    table = table.set_column(index, pa.field(name, texts.type), texts)
    return parquet(table, store_schema=False)


def a_run_of_one_number() -> bytes:
    return parquet(
        pa.table({"n": pa.repeat(pa.scalar(0, pa.int64()), 20_000_000)}), row_group_size=20_000_000
    )


def prefixes() -> bytes:
    """Texts that each repeat the one before: as long as one likes in a byte."""
    table = pa.table({"t": ["a" * 60_000] * 1000})
    return parquet(table, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY"})


def a_page_that_claims(size: int, kind: bytes) -> bytes:
    """A file whose first page's header says that it decompresses to `size` bytes."""
    data = parquet(pa.table({"n": [1, 2, 3]}), use_dictionary=kind == DICTIONARY)
    assert data[4:7] == b"\x15" + kind + b"\x15"  # the page's type, then its size
    end = 7
    while data[end] >= 128:
        end += 1
    value, number = size << 1, b""
    while value >= 128:
        number, value = number + bytes([value & 127 | 128]), value >> 7
    return data[:7] + number + bytes([value]) + data[end + 1 :]


def a_footer_that_lies() -> bytes:
    """8003 rows, of which the footer says 8191."""
    data = parquet(pa.table({"n": np.arange(8003)}), use_dictionary=False)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:footer] + data[footer:].replace(b"\x86\x7d", b"\xfe\x7f")


def many_empty_groups() -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, NUMBER) as writer:
        for _ in range(5000):
            writer.write_table(pa.table({"n": pa.array([], pa.int64())}))
    return sink.getvalue().to_pybytes()


SMALL: dict[str, tuple[Callable[[], bytes], pa.Schema, str]] = {
    "a run of one number": (a_run_of_one_number, NUMBER, "ask for"),
    "a page that claims 2 GB": (lambda: a_page_that_claims(2**31 - 1, PLAIN), NUMBER, "ask for"),
    "a dictionary of 2 GB": (lambda: a_page_that_claims(2**31 - 1, DICTIONARY), NUMBER, "ask for"),
    "texts made of prefixes": (prefixes, TEXT, "encoding"),
    "a footer that lies": (a_footer_that_lies, NUMBER, "8191"),
    "many empty groups": (many_empty_groups, NUMBER, "read"),
    "bytes for texts": (lambda: parquet(pa.table({"t": [b"\xff"]})), TEXT, "other columns"),
}


@pytest.mark.parametrize("bomb", SMALL)
def test_what_asks_for_more_than_its_size_allows_is_refused(bomb):
    make, schema, why = SMALL[bomb]
    data = make()
    assert len(data) < 1 << 20
    start = time.process_time()
    with pytest.raises(DataError, match=why):
        read_parquet(data, schema, what="it")
    assert time.process_time() - start < 1


CHILD = """
import json, resource, sys, time
from pathlib import Path
from panoforge.cluster.state.ledger import Ledger
from panoforge.core.errors import DataError
from panoforge.core.shards.index import read_table
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA
from panoforge.eval.scoring.results import read_rows

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # libraries map two of them
folder, told = Path(sys.argv[1]), {}
reads = {
    "samples": lambda: read_table((folder / "samples").read_bytes(), SAMPLE_SCHEMA),
    "nested": lambda: read_table((folder / "nested").read_bytes(), SAMPLE_SCHEMA),
    "instances": lambda: read_table((folder / "instances").read_bytes(), INSTANCE_SCHEMA),
    "segment": lambda: Ledger(str(folder / "ledger")).records(),
    "rows": lambda: read_rows(folder / "rows", "x"),
}
for name, read in reads.items():
    start = time.process_time()
    try:
        said = repr(read())
    except DataError as error:
        said = str(error)
    told[name] = [said, time.process_time() - start]
status = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
print(json.dumps({"told": told, "peak": peak}))
"""


def test_no_reader_of_ours_takes_a_gigabyte_or_five_seconds(tmp_path):
    bombs = {
        "samples": written_repeated(SAMPLE_SCHEMA, "source"),
        "nested": written_repeated(SAMPLE_SCHEMA, "suffix"),
        "instances": written_repeated(INSTANCE_SCHEMA, "name"),
        "segment": written_repeated(SEGMENT_SCHEMA, "log_tail"),
        "rows": written_repeated(ROWS_SCHEMA, "category"),
    }
    for name, data in bombs.items():
        assert len(data) < 400_000, name
        (tmp_path / name).write_bytes(data)
    segments = tmp_path / "ledger" / "segments"
    segments.mkdir(parents=True)
    digest = hashlib.sha256(bombs["segment"]).hexdigest()[:16]
    (segments / f"00-{digest}.parquet").write_bytes(bombs["segment"])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    told = {name: said for name, (said, _) in report["told"].items()}
    assert report["peak"] < 1 << 30
    assert max(seconds for _, seconds in report["told"].values()) < 5
    assert all("ask for" in told[name] for name in ("samples", "nested", "instances")), told
    assert told["segment"] == "[]" and "ask for" in done.stderr  # told in the log
    assert told["rows"] == "None"


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}])
def test_what_a_writer_writes_is_read_whole(options):
    """Values, nulls and lists in many pages and row groups, each page counted."""
    rng = np.random.default_rng(0)
    rows = 30_000
    table = pa.table(
        {
            "t": [None if i % 7 == 0 else f"text {i % 1000}" for i in range(rows)],
            "n": rng.integers(0, 2**62, rows),
            "l": [[f"{j}" for j in range(i % 3)] for i in range(rows)],
        }
    ).replace_schema_metadata({"mine": "kept"})
    for codec in ("zstd", "snappy", "none"):
        data = parquet(
            table, compression=codec, row_group_size=7000, data_page_size=4096, **options
        )
        read = read_parquet(data, table.schema, what="it")
        assert read.equals(table) and read.schema.metadata == {b"mine": b"kept"}
        assert read_parquet(data, table.schema, ["n"], what="it").equals(table.select(["n"]))
        footer = pq.ParquetFile(pa.BufferReader(data)).metadata
        claimed = claimed_bytes(data, footer, range(3), 1 << 40)
        assert claimed > sum(
            footer.row_group(g).column(c).total_uncompressed_size - 200
            for g in range(footer.num_row_groups)
            for c in range(3)
        )


def test_a_footer_that_ends_the_process_in_arrow_is_refused():
    """Found by the fuzzers: Arrow throws where it may not, and the process is aborted."""
    hostile = (Path(__file__).parent / "aborts_arrow.parquet").read_bytes()
    with pytest.raises(DataError):
        read_parquet(hostile, INSTANCE_SCHEMA, what="an index")


def test_histograms_have_as_many_levels_as_the_schema():
    nullable = parquet(pa.table({"t": ["a", None]}, schema=TEXT))
    schema = pq.ParquetFile(pa.BufferReader(nullable)).schema
    check_histograms(nullable, schema)
    required = pa.schema([pa.field("t", pa.string(), nullable=False)])
    other = pq.ParquetFile(pa.BufferReader(parquet(required.empty_table()))).schema
    with pytest.raises(DataError, match="column 0 has a histogram of 2 levels"):
        check_histograms(nullable, other)


@pytest.mark.parametrize(
    "footer",
    [
        bytes([0x45, 0x02, 0]),  # field 4, the row groups: a number
        bytes([0x49, 0x15, 0x02, 0]),  # a list of numbers
        bytes([0x49, 0x1C, 0x15, 0x02, 0, 0]),  # a group whose columns are a number
        bytes([0x49, 0x1C, 0x19, 0x1C, 0x35, 0x02, 0, 0, 0]),  # a column whose metadata are one
        bytes([0x49, 0x1C, 0x19, 0x1C, 0x3C, 0x05, 0x20, 0x02, 0, 0, 0, 0]),  # whose sizes are one
    ],
)
def test_a_footer_of_other_types_is_left_to_arrow(footer: bytes):
    """Found by the fuzzers: a number stood where a struct belongs."""
    schema = pq.ParquetFile(pa.BufferReader(parquet(pa.table({"t": ["a"]}, schema=TEXT)))).schema
    check_histograms(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1", schema)
