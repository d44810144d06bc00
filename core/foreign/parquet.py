"""Read a Parquet file that a stranger may have written, within bounds of memory.

Parquet multiplies: a page's header claims its size, a run says "a billion times", a text that
stands once is repeated in every row. So nothing is decoded before it is known what it may take.
First the footer and the page headers are asked (`parquet_pages`). Then texts are read as
dictionaries, whose repetitions cost four bytes each, and their lengths are added up.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from panoforge.core.errors import DataError
from panoforge.core.foreign.parquet_pages import check_histograms, claimed_bytes
from panoforge.core.numbers import size as size_text

# What a file may ask for. Rows of ours take at least 14 bytes (an id, a time, a digest) and at most
# some kilobytes, where thousands of attempts end with the same log.
FLOOR_BYTES = 128 << 20
MAX_RATIO = 400
_MAX_FOOTER_ITEMS = 1 << 12  # row groups; at Arrow's limit, a million, they take half a gigabyte


def read_parquet(
    data: bytes, schema: pa.Schema, columns: Sequence[str] | None = None, *, what: str
) -> pa.Table:
    """The table of a Parquet file's bytes; its schema has the file's metadata.

    Args:
        data: the file.
        schema: what its columns must be, in this order.
        columns: which of them to read; None gives all.
        what: what such a file is, for messages.

    Returns:
        The columns in the order of `schema`, valid as Arrow understands it (UTF-8, offsets).

    Raises:
        DataError: it is no Parquet file, has other columns, or asks for more memory than
            `FLOOR_BYTES` and `MAX_RATIO` times its own size together.
    """
    try:
        return _table(data, schema, columns, what)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"not a Parquet file that can be read ({first})") from None


def _table(data: bytes, schema: pa.Schema, columns: Sequence[str] | None, what: str) -> pa.Table:
    limits = {
        "thrift_string_size_limit": max(len(data), 1),
        "thrift_container_size_limit": _MAX_FOOTER_ITEMS,
    }
    file = pq.ParquetFile(pa.BufferReader(data), **limits)
    if file.schema_arrow != schema:
        raise DataError(f"it has other columns than {what}")
    most = FLOOR_BYTES + MAX_RATIO * len(data)
    kept = list(range(len(file.schema)))
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in set(columns)])
        kept = [i for i in kept if file.schema.column(i).path.split(".")[0] in set(columns)]
    check_histograms(data, file.schema)
    _refuse_over(most, claimed_bytes(data, file.metadata, kept, most), len(data))
    texts = [
        column.path
        for column in map(file.schema.column, kept)
        if column.physical_type == "BYTE_ARRAY"
    ]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts, **limits)
    schema = schema.with_metadata(file.schema_arrow.metadata)
    groups, written_out = [schema.empty_table()], 0
    for g in range(file.num_row_groups):  # in one go, Arrow cannot join lists of dictionaries
        # One thread and no dataset layer: Arrow's pool can abort a process that exits at once.
        group = file.read_row_group(g, schema.names, use_threads=False)
        group.validate(full=True)
        written_out += sum(_text_bytes(group))
        _refuse_over(most, written_out, len(data))
        groups.append(group.cast(schema))
    return pa.concat_tables(groups)


def _refuse_over(most: int, asked: int, file_bytes: int) -> None:
    if asked > most:
        raise DataError(
            f"its {size_text(file_bytes)} ask for {size_text(asked)} of memory or more, expected at"
            f" most {size_text(most)}: no such file repeats itself so often"
        )


def _text_bytes(table: pa.Table) -> Iterator[int]:
    """The bytes that each dictionary takes when it is written out."""
    for column in table.columns:
        for chunk in column.chunks:
            yield from _written_out(chunk)


def _written_out(array: pa.Array) -> Iterator[int]:
    if pa.types.is_dictionary(array.type):
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        yield pc.sum(pc.take(lengths, array.indices)).as_py() or 0
    elif pa.types.is_list(array.type):
        yield from _written_out(array.values)
    elif pa.types.is_struct(array.type):
        for i in range(array.type.num_fields):
            yield from _written_out(array.field(i))
