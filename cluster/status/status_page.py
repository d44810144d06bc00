"""A run's status as one self-contained HTML page, in the look of all reports."""

import time
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from panoforge.cluster.status.status import RunStatus, read_status
from panoforge.core import __version__
from panoforge.core.numbers import count, counted, duration, money, number, percent, size
from panoforge.core.report.page import (
    Banner,
    Bar,
    Block,
    Cell,
    Chart,
    Charts,
    Facts,
    Report,
    Section,
    Table,
    Text,
    Tile,
    write_report,
)
from panoforge.core.report.pictures import MUTED, SERIES, chart_svg

PAGE = "status.html"
Kind = Literal["info", "warn", "bad", "good"]  # of a banner


def write_page(run: Path) -> Path:
    """Write `<run>/status.html`; gives its path."""
    write_report(run / PAGE, status_report(read_status(run)))
    return run / PAGE


def status_report(status: RunStatus) -> Report:
    """The page as data."""
    return Report(
        title="Render run",
        subtitle=status.run,
        made_by=f"panoforge {__version__}, {time.strftime('%F %T UTC', time.gmtime())}",
        banners=_banners(status),
        tiles=_tiles(status),
        sections=[
            section
            for make in (_progress, _failures, _time, _machines)
            if (section := make(status)).blocks
        ],
    )


def _banners(status: RunStatus) -> list[Banner]:
    t = status.tally
    failed, waiting = t.states.get("quarantined", 0), t.states.get("open", 0)
    texts: dict[str, tuple[Kind, str]] = {
        "running": ("info", f"Driver {status.driver}."),
        "draining": (
            "warn",
            "A stop was asked for: the scenes that run are finished, no others are begun.",
        ),
        "waiting for disk": (
            "warn",
            "The run's disk is nearly full: no scene is begun until there is room.",
        ),
        "waiting for packing": (
            "warn",
            "Packing is behind rendering: no scene is begun until it has caught up.",
        ),
        "silent": (
            "bad",
            (
                f"The driver gives no heartbeat: {status.driver}. If it is gone, give `pano"
                " render` again."
            ),
        ),
        "stopped": (
            "warn",
            (
                f"No driver is at work and {counted(waiting, 'scene is', 'scenes are')} left."
                " `pano render` goes"
                " on from here."
            ),
        ),
        "finished": ("good", "Every scene is settled."),
    }
    kind, text = texts[status.state]
    banners = [Banner(text, kind=kind, title=status.state.capitalize())]
    if failed:
        banners.append(
            Banner(
                f"{counted(failed, 'scene')} failed and will not be tried again by itself. See why"
                " below; `pano retry RUN --reason …` forgives them.",
                kind="bad",
                title="Failed scenes",
            )
        )
    return banners


def _tiles(status: RunStatus) -> list[Tile]:
    t = status.tally
    tiles = [
        Tile(
            "Scenes settled",
            percent(t.settled / t.total),
            note=f"{count(t.settled)} of {count(t.total)}",
        ),
        Tile(
            "Panoramas",
            count(t.panoramas),
            note=f"{size(t.staged_bytes)} staged"
            + (f", {count(status.published)} in shards" if status.published is not None else ""),
        ),
        Tile("Panoramas per hour", number(status.panoramas_per_hour), note="over the last scenes"),
        Tile(
            "Time left",
            duration(status.eta_s),
            note=f"{count(status.running)} running, {count(status.waiting)} waiting",
        ),
        Tile(
            "Core-hours",
            number(t.core_hours),
            note=f"{number(status.core_hours_at_end)} at the end",
        ),
    ]
    if status.money.so_far is not None:
        tiles.append(
            Tile(
                "Money", money(status.money.so_far), note=f"{money(status.money.at_end)} at the end"
            )
        )
    return tiles


def _progress(status: RunStatus) -> Section:
    t = status.tally
    names = {
        "done": "done",
        "open": "to do (running ones included)",
        "rejected": "rejected",
        "quarantined": "failed",
    }
    rows: list[list[Cell]] = [
        [
            label,
            count(t.states.get(name, 0)),
            Bar(t.states.get(name, 0) / t.total, percent(t.states.get(name, 0) / t.total)),
        ]
        for name, label in names.items()
    ]
    blocks: list[Block] = [Table(["scenes", "number", "share"], rows)]
    if len(t.hourly) > 1:
        blocks.append(Charts([_hourly_chart(status)]))
    if status.running:
        oldest = list(status.live.get("oldest", ()))[:10]
        blocks.append(
            Table(
                ["longest in flight", "attempt", "since it was handed out"],
                [[task["scene"], task["attempt"], duration(task["seconds"])] for task in oldest],
            )
        )
    return Section("Progress", blocks)


def _hourly_chart(status: RunStatus) -> Chart:
    begin = status.tally.hourly[0][0]
    hours = [(at - begin) / 3600 for at, _ in status.tally.hourly]

    def draw(ax: Axes) -> None:
        ax.bar(
            hours,
            [number_ for _, number_ in status.tally.hourly],
            width=0.9,
            align="edge",
            color=SERIES[0],
        )
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.set_xlabel("hours since the first scene")
        ax.set_ylabel("scenes done")
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    # Narrow enough for its letters to be read on a phone, where the whole width is 450 pixels.
    return Chart("Scenes per hour", chart_svg(draw, (8.4, 2.4), label="Scenes per hour"), wide=True)


def _failures(status: RunStatus) -> Section:
    t = status.tally
    blocks: list[Block] = []
    if t.reasons:
        top = max(t.reasons.values())
        blocks.append(
            Table(
                ["why scenes were rejected or failed", "scenes"],
                [[reason, Bar(n / top, count(n))] for reason, n in list(t.reasons.items())[:30]],
            )
        )
    if t.faults:
        top = max(t.faults.values())
        rows: list[list[Cell]] = [[name, Bar(n / top, count(n))] for name, n in t.faults.items()]
        share = percent(t.wasted_core_hours / t.core_hours if t.core_hours else None)
        caption = (
            f"{share} of the core-hours went into them; {counted(t.degraded, 'scene')} made in the"
            " degraded profile."
        )
        blocks.append(Table(["attempts that ended in a fault", "number"], rows, caption=caption))
    return Section("What went wrong", blocks)


def _time(status: RunStatus) -> Section:
    t = status.tally
    if t.seconds_median is None:
        return Section("Time and memory", [])
    facts = {
        "median scene": duration(t.seconds_median),
        "95 % of scenes within": duration(t.seconds_p95),
        "largest memory of a scene": size(
            None if t.peak_memory_mb is None else 1e6 * t.peak_memory_mb
        ),
        "attempts": count(t.attempts),
        "GPU-hours": number(t.gpu_hours),
    }
    top = max((seconds for _, seconds in t.slowest), default=0.0) or 1.0  # all may be 0
    slowest = Table(
        ["slowest scenes", "time"],
        [[scene, Bar(seconds / top, duration(seconds))] for scene, seconds in t.slowest],
    )
    return Section("Time and memory", [Facts(facts), slowest])


def _machines(status: RunStatus) -> Section:
    t = status.tally
    rows: list[list[Cell]] = [
        [
            node.node.partition("/")[0],
            node.node.partition("/")[2][:12],
            count(node.done),
            count(node.faults),
            number(node.core_hours),
        ]
        for node in t.nodes[:100]
    ]
    if not rows:
        return Section("Nodes", [])
    blocks: list[Block] = [
        Table(["host", "Ray node", "scenes done", "failed attempts", "core-hours"], rows)
    ]
    if aside := status.live.get("set_aside"):
        blocks.append(
            Text(
                "Set aside, because too many scenes failed there in a row:"
                f" {', '.join(node[:12] for node in aside)}."
            )
        )
    return Section("Nodes", blocks)
