"""SAP's table: one and three clicks, by size, at seam and poles, ours above what is published.

    as_lines(results)    what `pano eval` prints        as_latex(results)    sap_table.tex
    section(results)     for the report                 our_lines(results)   for results.json

Takes the content of a results.json that has columns of further clicks (`prompts.corrected`). A cell
is the mIoU of one click in percent, and of the last column of clicks in parentheses, as SAP prints
it. SAP does not say where small ends and large begins, so both of our bounds are columns. What SAP
itself scored is known from secondary sources alone; each row names its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from panoforge.core.numbers import counted
from panoforge.core.report.page import Section, Table
from panoforge.eval.reports.published import SAP_ROWS, SAP_SOURCES
from panoforge.eval.reports.text_table import columns, latex_table
from panoforge.eval.scoring.scores import (
    LARGE_PX,
    ON_SUBSET,
    SIZE,
    SIZES,
    SMALL_PX,
    SUBSET,
    VIEW_SIZE,
)

SAP_TABLE_FILE = "sap_table.tex"
# (way to group, group) of each column of scores; None is all instances
GROUPS: tuple[tuple[str, str] | None, ...] = (
    None,
    *((SIZE, size) for size in SIZES),
    *((VIEW_SIZE, size) for size in SIZES),
    (SUBSET, ON_SUBSET),
)
HEADS = (
    "method",
    "mIoU",
    *SIZES,
    *(f"{size}, view px" for size in SIZES),
    "seam or pole",
    "source",
)
SIZE_NOTE = (
    f"COCO's bounds {SMALL_PX**0.5:.0f}² and {LARGE_PX**0.5:.0f}² twice: as the solid angles that"
    " they have in a 1024² view of 90°, and in pixels of this evaluation's own views. Which bounds"
    " SAP took is unknown: its columns stand under the first"
)


@dataclass(frozen=True)
class SapLine:
    """One method.

    Scores in [0, 1] under each of GROUPS, None without such instances: `first` of the first click,
    `further` of the last column of clicks. `counts`: instances of each.
    """

    method: str
    first: tuple[float | None, ...]
    further: tuple[float | None, ...]
    counts: tuple[int, ...]
    clicks: int

    def record(self) -> dict[str, Any]:
        """For results.json."""
        names = ["all", *(f"{by}: {group}" for by, group in filter(None, GROUPS))]
        return {
            "method": self.method,
            "clicks": [1, self.clicks],
            "miou": {
                name: [first, further]
                for name, first, further in zip(names, self.first, self.further, strict=True)
            },
            "instances": dict(zip(names, self.counts, strict=True)),
        }

    def cells(self) -> list[str]:
        """Under HEADS."""
        pairs = zip(self.first, self.further, strict=True)
        return [self.method, *(_cell(*pair) for pair in pairs), "here"]


def our_lines(results: Mapping[str, Any]) -> list[SapLine]:
    """A line for each method that was scored."""
    last = results["corrected"][-1]
    methods = dict.fromkeys(s["method"] for s in results["scores"] if s["role"] == "model")
    return [
        SapLine(
            method,
            tuple(entry["miou"] for entry in _entries(results, method)),
            tuple(entry["miou"] for entry in _entries(last, method)),
            tuple(entry["instances"] for entry in _entries(results, method)),
            last["clicks"],
        )
        for method in methods
    ]


def _entries(part: Mapping[str, Any], method: str) -> list[Mapping[str, Any]]:
    """The model's scores under each of GROUPS."""
    own = [e for e in (*part["scores"], *part["groups"]) if e["method"] == method]
    found = {(e.get("by"), e.get("group")): e for e in own if e["role"] == "model"}
    nothing = {"miou": None, "instances": 0}
    return [found.get(key or (None, None), nothing) for key in GROUPS]


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """Cells under HEADS: ours, then those of both sources."""
    blank = [""] * (len(HEADS) - 1)
    theirs = [
        [label, whole, *sizes, "–", "–", "–", subset, source]
        for label, whole, sizes, subset, source in SAP_ROWS
    ]
    ours = [line.cells() for line in our_lines(results)]
    return [*ours, ["published, not reproduced here:", *blank], *theirs]


def what(results: Mapping[str, Any]) -> str:
    """How many instances the columns are of."""
    line = our_lines(results)[0]
    numbers = ", ".join(map(str, line.counts))
    return (
        f"mIoU of 1 click ({counted(line.clicks, 'click')}) in percent; instances by column:"
        f" {numbers}."
        f" {SIZE_NOTE}"
    )


def as_lines(results: Mapping[str, Any]) -> list[str]:
    """The table as text."""
    return [*columns([HEADS, *table(results)]), what(results), *SAP_SOURCES]


def as_latex(results: Mapping[str, Any]) -> str:
    """The table for a paper; wants booktabs."""
    notes = [what(results), *SAP_SOURCES]
    return latex_table(HEADS, table(results), "l" + "r" * (len(HEADS) - 2) + "l", notes)


def _cell(first: float | None, further: float | None) -> str:
    if first is None:
        return "–"
    return f"{100 * first:.1f}" + ("" if further is None else f" ({100 * further:.1f})")


def section(results: Mapping[str, Any]) -> Section:
    """The table in the report: ours above what is published."""
    return Section(
        "As SAP prints it",
        text=(
            f"Clicks after the first go where the answer so far is most wrong. {what(results)}. The"
            " rows of others are published and were not reproduced: none is comparable with ours"
            f" but on the same data. {'; '.join(SAP_SOURCES)}."
        ),
        blocks=[Table(*our_table(results)), Table(*published_table())],
    )


def our_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads, with the number of instances, and our rows, for the report."""
    lines = our_lines(results)
    heads = [f"{h}, {n}" for h, n in zip(HEADS[1:-1], lines[0].counts, strict=True)]
    return [HEADS[0], *heads], [line.cells()[:-1] for line in lines]


def published_table() -> tuple[list[str], list[list[str]]]:
    """Heads and rows of what is published, for the report."""
    rows = [[label, whole, *sizes, pole, source] for label, whole, sizes, pole, source in SAP_ROWS]
    return ["published", "mIoU", *SIZES, SUBSET, "source"], rows
