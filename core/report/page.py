"""Reports: a page is data (`Report` → `Section` → blocks), and one template gives every report the
same look.

`render_report(report)` gives one self-contained HTML file: style sheet, pictures and charts are
inside, nothing is ever fetched (a content security policy in the page forbids it), and it follows
the reader's light or dark scheme. All text is escaped; only `chart_svg`'s SVG and `Html` go in as
they are. Pictures and charts come from `panoforge.core.report.pictures`.

    report = Report(
        title="Dataset statistics", subtitle="runs/demo/dataset", made_by="panoforge 0.1.0",
        banners=[Banner("Random weights: these scores say nothing about SAM2.", kind="warn",
        title="Demo")], tiles=[Tile("Panoramas", count(12)), Tile("mIoU", "71.3 %", note="cos
        φ-weighted: 70.9 %")], sections=[
            Section("Instances", text="One row per …", blocks=[
                Charts([Chart("Instances per panorama", chart_svg(draw), note="median 41")]),
                Table(["method", "mIoU"], [["scan", "71.3 %"], ["direct", Bar(0.54, "54.1 %")]],
                caption="…"), Gallery([Item("key-0001", note="41 instances",
                pictures=[Picture(jpeg_uri(rgb), "image"), …],
                              facts={"mIoU": "71.3 %"})]),
                Facts({"checkpoint": "sha256 …"}), Text("A paragraph."), Details("All rows",
                [Table(…)]),
            ]),
        ],
    ) write_report(Path("report.html"), report)

Numbers: `count(1234)` 1,234 · `percent(0.1234)` 12.3 % · `size(1.2e9)` 1.2 GB · `duration(75)` 1
min 15 s · `number(0.012345)` 0.0123 · `money(12.5)` $12.50 (these take None and NaN and show a
dash) · `plural(2, "scene")` 2 scenes. In a table, columns whose cells all start like numbers are
set right-aligned in tabular figures.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from panoforge.core.report.viewer import Sphere, scene_json, viewer_script, viewer_style
from panoforge.core.storage.atomic import write_bytes_atomic

NO_VALUE = "–"


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Banner:
    """Something that the reader must know before any number."""

    text: str
    kind: Literal["info", "warn", "bad", "good"] = "info"
    title: str = ""
    block: ClassVar[str] = "banner"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Html:
    """Markup that the caller vouches for."""

    html: Markup
    block: ClassVar[str] = "html"


@dataclass(frozen=True)
class Chart:
    """A chart under its title. `wide` takes the whole row."""

    title: str
    svg: Markup
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Charts side by side, two in a row where there is room."""

    charts: Sequence[Chart]
    block: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Bar:
    """A table cell: a bar of `fraction` of the cell's width, and its text."""

    fraction: float
    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | int | float | Bar | Markup | None


@dataclass(frozen=True)
class Table:
    """`rows` of cells under `columns`. `strong` names the rows (by position) to set in bold, e.g.
    the best one.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    strong: Sequence[int] = ()
    block: ClassVar[str] = "table"

    @property
    def numeric(self) -> list[bool]:
        """Per column, whether its cells read as numbers."""
        columns = ([row[index] for row in self.rows] for index in range(len(self.columns)))
        return [
            any(map(str, cells)) and all(_reads_as_number(cell) for cell in cells)
            for cells in columns
        ]


def _reads_as_number(cell: Cell) -> bool:
    return (
        cell is None
        or isinstance(cell, (int, float))
        or bool(re.match(r"[-−+$]?[\d.,]+(?![\d×])|–?$", str(cell)))
    )


@dataclass(frozen=True)
class Facts:
    """Names and values, as a definition list."""

    facts: Mapping[str, Cell]
    block: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery item; `uri` is a data URI
    (`panoforge.core.report.pictures.jpeg_uri`). Where the item has a sphere, a click on the picture
    opens that, with the layers named in `shown` switched on and filled ones at `opacity`.
    """

    uri: str
    label: str
    wide: bool = False
    shown: Sequence[str] = ()
    opacity: float = 0.5


@dataclass(frozen=True)
class Item:
    """One entry of a gallery: pictures side by side under a title. `sphere` is what a click on any
    of them opens, to look around in; without one a click opens the picture itself.
    """

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    facts: Mapping[str, Cell] = field(default_factory=dict)
    sphere: Sphere | None = None

    @property
    def scene(self) -> Markup:
        """The sphere as the page's script takes it."""
        return scene_json(self.sphere) if self.sphere else Markup()


@dataclass(frozen=True)
class Gallery:
    """Pictures; a click opens one in full. `columns` is how many pictures stand side by side on a
    wide screen.
    """

    items: Sequence[Item]
    columns: int = 3
    block: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Details:
    """Blocks folded away under a summary line."""

    summary: str
    blocks: Sequence["Block"]
    block: ClassVar[str] = "details"


Block = Banner | Text | Html | Charts | Table | Facts | Gallery | Details


@dataclass(frozen=True)
class Section:
    """A titled part of the page; it appears in the page's navigation."""

    title: str
    blocks: Sequence[Block]
    text: str = ""

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Report:
    """A page."""

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    tiles: Sequence[Tile] = ()
    banners: Sequence[Banner] = ()
    made_by: str = ""

    @property
    def has_spheres(self) -> bool:
        """Whether the page needs the 360° viewer in it."""
        return any(_has_spheres(section.blocks) for section in self.sections)


def _has_spheres(blocks: Sequence[Block]) -> bool:
    return any(
        any(item.sphere for item in block.items)
        if isinstance(block, Gallery)
        else isinstance(block, Details) and _has_spheres(block.blocks)
        for block in blocks
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_report(report: Report) -> str:
    """The page as HTML text."""
    return (
        _environment()
        .get_template("report.html")
        .render(report=report, viewer_style=viewer_style, viewer_script=viewer_script)
    )


def write_report(path: Path, report: Report) -> None:
    """Render `report` and commit it as `path`. StorageError when that place cannot be written."""
    write_bytes_atomic(path, render_report(report).encode())


def count(value: float | None) -> str:
    """1234 → '1,234'."""
    return NO_VALUE if value is None or not math.isfinite(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """At most `digits` significant digits, no exponent where it reads well: 0.012345 → '0.0123',
    12345 → '12,300', 7.0 → '7'.
    """
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}e}"
    text = f"{round(value, digits - 1 - exponent):,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.1234 → '12.3 %'."""
    return (
        NO_VALUE
        if fraction is None or not math.isfinite(fraction)
        else f"{100 * fraction:.{digits}f} %"
    )


def size(n_bytes: float | None) -> str:
    """Decimal units, as disks are sold: 1.2e9 → '1.2 GB'."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return NO_VALUE
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB", "PB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return (
        f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"
    )


def duration(seconds: float | None) -> str:
    """'45 ms', '12.3 s', '1 min 15 s', '2 h 05 min', '3 d 4 h'."""
    if seconds is None or not math.isfinite(seconds):
        return NO_VALUE
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def money(amount: float | None) -> str:
    """'$12.50'; below a dollar as many decimals (2 to 4) as it needs."""
    if amount is None or not math.isfinite(amount):
        return NO_VALUE
    cents, rest = f"{amount:,.2f}", f"{amount:.4f}"[-2:].rstrip("0")
    return f"${cents}" if amount >= 1 else f"${amount:.{2 + len(rest)}f}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """'1 scene', '2 scenes'; `many` for irregular words."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"
