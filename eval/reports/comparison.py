"""A comparison of evaluations as text, JSON, CSV, LaTeX, Markdown or a page.

What `pano compare` prints:

    print(render(compare([Path("runs/a"), Path("runs/b")]), "latex"))

Scores and differences are percentages in every format, rounded to one decimal where people read
them; p-values are probabilities. The LaTeX table wants the package booktabs.
"""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from panoforge.core.errors import UsageError, nearest
from panoforge.core.numbers import counted
from panoforge.eval.reports.comparison_page import comparison_page
from panoforge.eval.reports.text_table import columns, latex_table
from panoforge.eval.scoring.compare import Comparison, Line
from panoforge.eval.scoring.metrics.stats import Interval

TableFormat = Literal["text", "json", "csv", "latex", "md", "html"]
HEADS = ("run", "method", "mIoU", "cos φ-weighted", "J&F", "AP", "difference", "p")

# What files of a format are called.
_SUFFIXES = {"tex": "latex", "txt": "text", "markdown": "md", "htm": "html"}


def format_of(text: str) -> TableFormat:
    """The format of that name; UsageError if there is none."""
    known = get_args(TableFormat)
    if text not in known:
        meant = nearest(_SUFFIXES.get(text.lower(), text), known)
        raise UsageError(f"--format {text}: expected one of {', '.join(known)}.{meant}")
    return cast(TableFormat, text)


def render(found: Comparison, form: TableFormat = "text") -> str:
    """A comparison in one of the formats, without a newline at its end."""
    writers = {
        "text": _text, "json": _json, "csv": _csv, "latex": _latex, "md": _markdown, "html": _page,
    }  # fmt: skip
    return writers[form](found)


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison for other programs, in percent."""
    return {
        "format": "panoforge-comparison",
        "schema_version": 2,
        "unit": "percent",
        "protocol_id": found.protocol_id,
        "panoramas": found.panoramas,
        "instances": found.instances,
        "lines": [_record(line) for line in found.lines],
        "notes": list(found.notes),
    }


def _record(line: Line) -> dict[str, Any]:
    """One line by column, each interval as three; None where there is nothing to say."""
    difference = line.versus.difference if line.versus else None
    return {
        "run": line.run,
        "method": line.method,
        **_spread("miou", line.miou),
        **_spread("miou_cos", line.miou_cos),
        **_spread("j_and_f", line.j_and_f),
        "ap": _percent(line.ap),
        **_spread("difference", difference),
        "p": line.p_value,
    }


def _spread(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = (
        (interval.value, interval.low, interval.high) if interval else (None, None, None)
    )
    return {name: _percent(value), f"{name}_low": _percent(low), f"{name}_high": _percent(high)}


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)


def _cells(line: Line) -> list[str]:
    """One line as people read it, under HEADS."""
    return [
        line.run,
        line.method,
        _interval(line.miou),
        _interval(line.miou_cos),
        _interval(line.j_and_f),
        "–" if line.ap is None else f"{100 * line.ap:.1f}",
        _interval(line.versus.difference, signed=True) if line.versus else "(reference)",
        "" if line.p_value is None else f"{line.p_value:.3g}",
    ]


def _interval(interval: Interval, *, signed: bool = False) -> str:
    """'67.8 [65.1, 70.2]' in percent."""
    form = "+.1f" if signed else ".1f"
    value = format(100 * interval.value, form)
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{format(100 * interval.low, form)}, {format(100 * interval.high, form)}]"


def _what(found: Comparison) -> str:
    return (
        f"{counted(found.instances, 'instance')} in {counted(found.panoramas, 'panorama')},"
        " protocol"
        f" {found.protocol_id}; percent; 95 % intervals by panorama, p by flipping panoramas,"
        " corrected (Holm)"
    )


def _text(found: Comparison) -> str:
    rows: list[Sequence[str]] = [HEADS, *map(_cells, found.lines)]
    return "\n".join([*columns(rows), _what(found), *found.notes])


def _json(found: Comparison) -> str:
    return json.dumps(as_json(found), ensure_ascii=False)


def _csv(found: Comparison) -> str:
    out = io.StringIO()
    records = [_record(line) for line in found.lines]
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def _markdown(found: Comparison) -> str:
    rows = [HEADS, ["---"] * len(HEADS), *map(_cells, found.lines)]
    table = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([*table, "", _what(found), *(f"\n{note}" for note in found.notes)])


def _latex(found: Comparison) -> str:
    alignment = "ll" + "r" * (len(HEADS) - 2)
    notes = [_what(found), *found.notes]
    return latex_table(HEADS, [_cells(line) for line in found.lines], alignment, notes)


def _page(found: Comparison) -> str:
    return comparison_page(HEADS, [_cells(line) for line in found.lines], _what(found), found.notes)
