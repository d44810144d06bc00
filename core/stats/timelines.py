"""The time-line of a video: one row for each id, a bar where it is seen, a thin line where not."""

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from panoforge.core.numbers import counted, number
from panoforge.core.report.page import Chart
from panoforge.core.report.pictures import MUTED, SERIES, chart_svg
from panoforge.core.stats.model import TimeLine

_NAME_LENGTH = 26
_SEEN, _STILL = SERIES[0], SERIES[5]


def timeline_chart(line: TimeLine) -> Chart:
    """When the ids of a video are seen: frames to the right, ids downwards."""

    def draw(ax: Axes) -> None:
        for place, row in enumerate(line.rows):
            bars = [(first, end - first) for first, end in row.seen]
            ax.plot([0, line.frames], [place, place], color=MUTED, linewidth=0.8, zorder=1)
            ax.broken_barh(
                bars, (place - 0.34, 0.68), color=_SEEN if row.moves else _STILL, zorder=2
            )
        ax.set_yticks(
            range(len(line.rows)), [f"{_shortened(row.name)}  {row.id}" for row in line.rows]
        )
        ax.set_ylim(len(line.rows) - 0.4, -0.6)
        ax.set_xlim(0, line.frames)
        ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("frame")

    shown = len(line.rows)
    which = (
        "all ids"
        if shown == line.ids
        else f"{shown} of {counted(line.ids, 'id')}: those that move, then those that come and go"
    )
    note = (
        f"{counted(line.frames, 'frame')} at {number(line.fps)} fps, {which}. Bars: seen; thin"
        " lines: hidden. Blue moves, grey is still."
    )
    label = f"When the ids of {line.video} are seen"
    return Chart(line.video, chart_svg(draw, (9.4, 0.8 + 0.21 * shown), label), note, wide=True)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
