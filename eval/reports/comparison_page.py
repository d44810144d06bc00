"""A comparison of evaluations as a page of its own: `pano compare … --format html > table.html`."""

from collections.abc import Sequence

from panoforge.core import __version__
from panoforge.core.report.page import Banner, Report, Section, Table, render_report


def comparison_page(
    heads: Sequence[str], rows: Sequence[Sequence[str]], what: str, notes: Sequence[str]
) -> str:
    """The page as HTML text.

    Args:
        heads: What the columns are called.
        rows: A row for each line, cells as people read them; the first is the reference.
        what: What was compared, and how.
        notes: What a reader must know before any number.
    """
    return render_report(
        Report(
            title="Comparison",
            subtitle=" · ".join(dict.fromkeys(row[0] for row in rows)),
            made_by=f"panoforge {__version__}",
            banners=[Banner(note, kind="warn") for note in notes],
            sections=[Section("Scores", [Table(list(heads), list(rows))], text=what)],
        )
    ).rstrip("\n")
