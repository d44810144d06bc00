"""Reports: a page is data (`Report` → `Section` → blocks); one template gives all the same look.

`render_report(report)` gives one self-contained HTML file. Style sheet, pictures and charts are
inside. Nothing is ever fetched: a content security policy in the page forbids it. It follows the
reader's light or dark scheme. All text is escaped; only `chart_svg`'s SVG and `Html` go in as they
are. Pictures and charts come from `panoforge.core.report.pictures`.

    report = Report(
        title="Dataset statistics",
        subtitle="runs/demo/dataset",
        made_by="panoforge 0.2.0",
        banners=[Banner("Random weights: these scores say nothing.", kind="warn", title="Demo")],
        tiles=[Tile("Panoramas", count(12)), Tile("mIoU", "71.3 %", note="cos φ-weighted: 70.9 %")],
        sections=[
            Section(
                "Instances",
                text="One row per …",
                blocks=[
                    Charts([Chart("Instances per panorama", chart_svg(draw), note="median 41")]),
                    Table(["method", "mIoU"], [["scan", Bar(0.713, "71.3 %")]], caption="…"),
                    Gallery([Item("key-0001", pictures=[Picture(jpeg_uri(rgb), "image")])]),
                    Facts({"checkpoint": "sha256 …"}),
                    Details("All rows", [Table(…)]),
                ],
            ),
        ],
    )
    write_report(Path("report.html"), report)

Numbers are written by `panoforge.core.numbers`. In a table, columns whose cells all start
like numbers are set right-aligned in tabular figures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from panoforge.core.report.points import PointView, points_script, points_style
from panoforge.core.report.viewer import (
    Sphere,
    SphereVideo,
    scene_json,
    viewer_script,
    viewer_style,
)
from panoforge.core.storage.atomic import write_bytes_atomic


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
    """`rows` of cells under `columns`.

    `strong` names the rows (by position) to set in bold, e.g. the best one.
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
    """One picture of a gallery item.

    `uri` is a data URI (`panoforge.core.report.pictures.jpeg_uri`). Where the item has a sphere, a
    click on the picture opens that, with the layers named in `shown` switched on and filled ones at
    `opacity`.
    """

    uri: str
    label: str
    wide: bool = False
    shown: Sequence[str] = ()
    opacity: float = 0.5


@dataclass(frozen=True)
class Item:
    """One entry of a gallery: pictures side by side under a title.

    `sphere` is what a click on any of them opens, to look around in; without one a click opens the
    picture itself.
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

    @property
    def is_video(self) -> bool:
        """Whether what a click opens can be played."""
        return isinstance(self.sphere, SphereVideo)


@dataclass(frozen=True)
class Gallery:
    """Pictures; a click opens one in full.

    `columns` is how many pictures stand side by side on a wide screen.
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


Block = Banner | Text | Html | Charts | Table | Facts | Gallery | PointView | Details


@dataclass(frozen=True)
class Section:
    """A titled part of the page; it appears in the page's navigation."""

    title: str
    blocks: Sequence[Block]
    text: str = ""

    @property
    def anchor(self) -> str:
        """What a link to the section says behind its #."""
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
        return any(item.sphere for item in self._items())

    @property
    def has_points(self) -> bool:
        """Whether it needs what draws points in space."""
        return any(_has_points(section.blocks) for section in self.sections)

    @property
    def has_videos(self) -> bool:
        """Whether it needs what plays videos, too."""
        return any(item.is_video for item in self._items())

    def _items(self) -> Iterator[Item]:
        for section in self.sections:
            yield from _items_of(section.blocks)


def _items_of(blocks: Sequence[Block]) -> Iterator[Item]:
    for block in blocks:
        if isinstance(block, Gallery):
            yield from block.items
        elif isinstance(block, Details):
            yield from _items_of(block.blocks)


def _has_points(blocks: Sequence[Block]) -> bool:
    return any(
        isinstance(block, PointView) or (isinstance(block, Details) and _has_points(block.blocks))
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
        .render(
            report=report,
            viewer_style=viewer_style,
            viewer_script=viewer_script,
            points_style=points_style,
            points_script=points_script,
        )
    )


def write_report(path: Path, report: Report) -> None:
    """Render `report` and commit it as `path`. StorageError when that place cannot be written."""
    write_bytes_atomic(path, render_report(report).encode())
