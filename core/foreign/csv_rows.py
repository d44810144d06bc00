"""CSV tables as spreadsheets write them: a byte order mark, semicolons or tabs, decimal commas."""

import csv
import io
import re
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.numbers import counted

MAX_CSV_BYTES = 64 << 20
_DELIMITERS = ",;\t"
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+(?:[eE][-+]?\d+)?\s*")


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table with a header, by column; blank rows are skipped.

    The delimiter is the header's: comma, semicolon or tab. With another than the comma, cells like
    `1,5` are numbers with a decimal comma, and come as `1.5`.

    Raises:
        DataError: it is no text, has no header, or a row has other columns than the header.
    """
    text = decode_text(read_bytes(path, MAX_CSV_BYTES), path)
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)  # the comma where there is none
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise DataError(
            f"{path} is no valid csv: {error}. Expected a header and a row"
            " for each entry: save it again as csv"
        ) from None
    if not rows:
        raise DataError(f"{path} is empty: expected a header and rows")
    columns = [name.strip() for name in rows[0]]
    if len(set(columns)) < len(columns) or "" in columns:
        raise DataError(
            f"{path}: its header has a name twice or none: {str(columns)[:200]}; name each column"
            " once"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(columns):
            raise DataError(
                f"{path}: row {number} has {counted(len(row), 'cell')}, its header {len(columns)}"
                " (told apart"
                f" by {delimiter!r}): are decimal commas mixed with commas between cells?"
                " Write decimal points"
            )
    point = str if delimiter == "," else _with_point
    return [
        {name: point(cell) for name, cell in zip(columns, row, strict=False)} for row in rows[1:]
    ]


def decode_text(data: bytes, path: Path) -> str:
    """Text in UTF-8, or in UTF-16 where a byte order mark says so; the mark is dropped."""
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as CSV UTF-8"
        ) from None


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell
