"""The section of the statistics page on videos."""

from collections.abc import Sequence

from panoforge.core.numbers import count, counted, number, percent
from panoforge.core.report.page import (
    Bar,
    Block,
    Cell,
    Chart,
    Charts,
    Facts,
    Gallery,
    Item,
    Picture,
    Table,
)
from panoforge.core.stats import charts
from panoforge.core.stats.model import Absences, VideoStats
from panoforge.core.stats.pixels import IDS_LAYER
from panoforge.core.stats.played import PlayedVideo
from panoforge.core.stats.timelines import timeline_chart


def video_blocks(stats: VideoStats, played: Sequence[PlayedVideo]) -> list[Block]:
    """Videos that play, how long they are, how they move, and when ids are gone."""
    facts: dict[str, Cell] = {
        "frames a second": ", ".join(
            f"{rate} ({counted(n, 'video')})" for rate, n in stats.fps.items()
        ),
        "things that move": f"{count(stats.moving)} of {counted(stats.ids, 'id')}"
        + (f", {count(stats.deforming)} of them change their shape" if stats.deforming else ""),
    }
    blocks: list[Block] = [_gallery(played)] if played else []
    blocks += [
        Facts(facts),
        Charts(_charts(stats)),
        _absence_table(stats.absences),
        Charts([timeline_chart(line) for line in stats.timelines]),
    ]
    return blocks


def video_text(stats: VideoStats, played: Sequence[PlayedVideo]) -> str:
    """The lead of the section."""
    plays = (
        f" {count(len(played))} of {counted(stats.videos, 'video')} can be played here, with a"
        " click: Space plays and pauses, the arrow keys go a frame on or back, Home and End to the"
        " ends; in the panorama the arrow keys look around, and comma and full stop step."
        if played
        else ""
    )
    return (
        "A video is consecutive panoramas whose ids last: an id is one thing in all frames, also"
        f" when it is gone for a while.{plays}"
    )


def _gallery(played: Sequence[PlayedVideo]) -> Gallery:
    shown = (IDS_LAYER,)
    return Gallery(
        [
            Item(
                video.key,
                [
                    Picture(video.rgb, "play"),
                    Picture(video.overlay, "play with ids", shown=shown),
                ],
                video.note,
                sphere=video.sphere,
            )
            for video in played
        ],
        columns=2,
    )


def _charts(stats: VideoStats) -> list[Chart]:
    drawn = [
        charts.distribution_chart("Length in frames", stats.frames, "frames", "videos"),
        charts.distribution_chart("Length in seconds", stats.seconds, "seconds", "videos"),
        charts.distribution_chart(
            "Things that move in a video", stats.moving_per_video, "things", "videos"
        ),
    ]
    steps = "pairs of frames"
    more = (
        ("The camera turns", stats.camera_turn_deg, "degrees a frame", steps),
        ("The camera moves", stats.camera_step_m, "metres a frame", steps),
        (
            "Moving things, across the panorama",
            stats.thing_deg,
            "degrees a frame, of their middles",
            "things in two frames",
        ),
        ("Absences", stats.absences.frames, "frames until an id is seen again", "absences"),
    )
    drawn += [
        charts.distribution_chart(title, values, x, y) for title, values, x, y in more if values
    ]
    return drawn


def _absence_table(absences: Absences) -> Table:
    all_ids = max(1, absences.ids)

    def share(ids: int) -> Bar:
        return Bar(ids / all_ids, f"{count(ids)} ({percent(ids / all_ids, 0)})")

    gone = absences.seconds
    long = (
        f"{counted(gone.summary.n, 'absence')}, median {number(gone.summary.median)} s, longest"
        f" {number(gone.summary.max)} s"
        if gone
        else "no absences"
    )
    rows: list[list[Cell]] = [
        ["seen in all frames", share(absences.always_seen)],
        ["gone and seen again", share(absences.with_absence)],
        ["not seen in the first frame", share(absences.late)],
        ["not seen in the last frame", share(absences.lost)],
    ]
    return Table(
        ["what becomes of an id", "ids"],
        rows,
        caption=f"Of {counted(absences.ids, 'id')} of all videos; {long}.",
    )
