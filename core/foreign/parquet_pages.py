"""What a Parquet file claims to hold, from its footer and the headers of its pages alone.

The footer says where the pages of a column chunk begin and how many values they have. Each page has
a header of its own (Thrift's compact protocol): its size after decompression, its number of values.
A decoder allocates what they say, so they are added up, and must agree with each other.

Formats: https://github.com/apache/parquet-format (`PageHeader` in parquet.thrift) and Thrift's
thrift-compact-protocol.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted

# A value as its reader holds it: the number or the reference to a text, and two levels.
_VALUE_BYTES = 16
_PAGE_BYTES = 4096  # for each page, however empty: a million of them take their time
_MAX_HEADER_BYTES = 1 << 20  # statistics hold the least and the largest text
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)  # PageType
_BODY = {_DATA: 5, _INDEX: 6, _DICTIONARY: 7, _DATA_V2: 8}  # the field of a type's own header
# Encoding: PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, RLE_DICTIONARY. The others (deltas) make
# values longer than the page that they stand in, and no writer uses them unasked.
_ENCODINGS = {0, 2, 3, 4, 8}


@dataclass(frozen=True)
class Page:
    """One page's header."""

    kind: int
    values: int
    uncompressed_bytes: int
    encoding: int
    next: int  # where the next header begins


def check_histograms(data: bytes, schema: Any) -> None:
    """Refuse histograms of levels that Arrow ends the process for, instead of raising.

    Each column chunk may say how often each repetition and definition level stands in it. Arrow
    throws where their number is another than the schema's, at a place that may not throw.

    Args:
        data: the file.
        schema: its `pyarrow.parquet.ParquetSchema`.

    Raises:
        DataError: a histogram has another length than its column has levels, or the footer is
            none.
    """
    length = int.from_bytes(data[-8:-4], "little")
    footer = _Compact(memoryview(data)[max(0, len(data) - 8 - length) : -8], lists=True).struct()
    for group in _structs(footer.get(4)):
        for i, chunk in enumerate(_structs(group.get(1))):
            sizes = _struct(_struct(chunk.get(3)).get(16))
            column = schema.column(i) if i < len(schema) else None
            for field, level in ((2, "max_repetition_level"), (3, "max_definition_level")):
                found = sizes.get(field)
                if not isinstance(found, list) or not found:
                    continue  # Arrow's own reader refuses what is no list
                if column is None or len(found) != getattr(column, level) + 1:
                    raise DataError(
                        f"column {i} has a histogram of {counted(len(found), 'level')}, another"
                        " number than its schema says"
                    )


def _struct(found: Any) -> dict[int, Any]:
    return found if isinstance(found, dict) else {}


def _structs(found: Any) -> list[dict[int, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def claimed_bytes(data: bytes, footer: Any, columns: Sequence[int], most: int) -> int:
    """The memory that decoding asks for at most, repeated texts counted once.

    Counting ends where it is over `most`.

    Args:
        data: the file.
        footer: its `pyarrow.parquet.FileMetaData`.
        columns: the leaves that are read.
        most: what is refused anyway.

    Raises:
        DataError: headers lie outside of the file, or footer and pages contradict each other.
    """
    total = 0
    for g in range(footer.num_row_groups):
        group = footer.row_group(g)
        for c in columns:
            flat = footer.schema.column(c).max_repetition_level == 0
            chunk = group.column(c)
            if chunk.num_values < 0 or (flat and chunk.num_values != group.num_rows):
                raise DataError(
                    f"row group {g}: {counted(group.num_rows, 'row')} with"
                    f" {counted(chunk.num_values, 'value')} of"
                    f" {chunk.path_in_schema}"
                )
            for page in _pages(data, chunk):
                total += _PAGE_BYTES + page.uncompressed_bytes + _VALUE_BYTES * page.values
                if total > most:
                    return total
    return total


def _pages(data: bytes, chunk: Any) -> Iterator[Page]:
    """The pages that a reader of this chunk meets, as Arrow walks them.

    From the dictionary, where there is one, until the footer's number of values has been seen.
    """
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    seen, end = 0, at + chunk.total_compressed_size
    while seen < chunk.num_values and at < end:
        page = _page(data, at)
        if page.kind in (_DATA, _DATA_V2):
            seen += page.values
        if page.encoding not in _ENCODINGS:
            raise DataError(
                f"column {chunk.path_in_schema} has encoding {page.encoding}, expected plain or"
                " dictionary pages: a short page of another kind stands for any number of bytes"
            )
        yield page
        at = page.next
    if seen != chunk.num_values:
        raise DataError(
            f"column {chunk.path_in_schema}: pages of {counted(seen, 'value')}, the footer says"
            f" {chunk.num_values}"
        )


def _page(data: bytes, at: int) -> Page:
    if not 0 <= at < len(data):
        raise DataError(f"a page begins at byte {at} of {len(data)}")
    compact = _Compact(memoryview(data)[at : at + _MAX_HEADER_BYTES])
    header = compact.struct()
    kind = _size(header, 1, at)
    body = header.get(_BODY.get(kind, 0), {})
    if kind not in _BODY or not isinstance(body, dict):
        raise DataError(f"no page begins at byte {at}")
    return Page(
        kind,
        values=0 if kind == _INDEX else _size(body, 1, at),
        uncompressed_bytes=_size(header, 2, at),
        encoding=0 if kind == _INDEX else _size(body, 4 if kind == _DATA_V2 else 2, at),
        next=at + compact.at + _size(header, 3, at),
    )


def _size(fields: dict[int, Any], number: int, at: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise DataError(f"no page begins at byte {at}")
    return value


class _Compact:
    """Thrift's compact protocol, as far as Parquet uses it: no maps, and lists in footers only."""

    def __init__(self, data: memoryview, *, lists: bool = False) -> None:
        self.data, self.at, self._lists = data, 0, lists

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Field numbers and values: numbers, None for what is skipped, dicts for structs."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields:
                raise DataError("a page's header says one thing twice")
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # a bool is its own type
            return None
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10) and self._lists:
            return self._list(depth)
        if kind == 12 and depth < 8:
            return self.struct(depth + 1)
        raise DataError("a header or the footer holds what none has")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._varint()
        if length > len(self.data) - self.at:  # each takes a byte at least
            raise DataError("a footer's list has no end")
        kind = head & 15
        if kind in (1, 2):  # in a list a bool has a byte of its own
            return [self._byte() for _ in range(length)]
        return [self._value(kind, depth) for _ in range(length)]

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise DataError("a page's header has no end")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise DataError("a page's header holds a number that has no end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise DataError("a page's header has no end")
        self.at += length
