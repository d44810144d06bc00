"""The tables of docs/numbers.md, from the rows that benches append to bench/RESULTS.md.

One table a bench: of every measurement and peer the newest row, misses too.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PLACE = "<!-- tables -->"
HEADS = ("date", "against", "ours", "theirs", "unit", "ratio", "asked for", "met")


class Row(NamedTuple):
    """One row of RESULTS."""

    date: str
    bench: str
    peer: str
    ours: str
    theirs: str
    unit: str
    ratio: str
    target: str
    met: str
    machine: str


def newest_rows(text: str) -> dict[str, list[Row]]:
    """The newest row of each measurement, by bench (its module), in the order of their rows."""
    found: dict[str, dict[str, Row]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if re.fullmatch(r"\d{4}-\d\d-\d\d", cells[0]) and len(cells) == len(Row._fields):
            row = Row(*cells)
            module = re.match(r"\w+", row.bench)
            assert module, row
            what = row.bench + re.sub(r" \d[\d.]*(?= |\)|,|$)", "", row.peer.split("(")[0])
            what = row.bench if is_list(row) else what
            found.setdefault(module[0], {})[what] = row
    return {module: list(rows.values()) for module, rows in found.items()}


def is_list(row: Row) -> bool:
    """Whether a row holds several figures in one cell, and no peer's."""
    return not row.theirs and not row.unit


def what_of(row: Row, module: str) -> str:
    """What a bench calls a measurement, beside its own name."""
    said = row.bench.removeprefix(module).strip(" ,()")
    return f"{said}: " if said else ""


def dated(row: Row) -> str:
    """The date of a row, in one piece."""
    return f'<span class="whole">{row.date}</span>'


def asked(row: Row) -> str:
    """What was asked for, and whether it was met."""
    wanted = f"asked for {row.target}, " if row.target else ""
    return f"{wanted}met: {row.met}" if row.met else "no race"


def claim(module: str) -> str:
    """What a bench says that it measures."""
    tree = ast.parse((ROOT / "bench" / f"{module}.py").read_text(encoding="utf-8"))
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def tables() -> str:
    """All of them, as Markdown."""
    parts = []
    results = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    for module, rows in newest_rows(results).items():
        options = sorted({row.bench.removeprefix(module).strip(" ()") for row in rows} - {""})
        flags = " --quick" if "--quick" in options else ""
        machines = "; ".join(sorted({row.machine for row in rows}))
        command = f"    python -m bench.{module}{flags}      # on {machines}"
        parts += [f"### {module}", claim(module), command]
        races = [row for row in rows if not is_list(row)]
        if races:
            lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
            lines += ["| " + " | ".join((dated(row), *row[2:9])) + " |" for row in races]
            parts.append("\n".join(lines))
        items = [
            f"- {row.date}, {what_of(row, module)}{row.peer} ({asked(row)})"
            for row in rows
            if is_list(row)
        ]
        if items:
            parts.append("\n".join(items))
    return "\n\n".join(parts)
