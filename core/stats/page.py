"""The statistics page: `DatasetStats` and thumbnails → `panoforge.core.report.page.Report`."""

from collections.abc import Sequence

from panoforge.core import __version__
from panoforge.core.numbers import count, counted, duration, money, number, percent, size
from panoforge.core.report.page import (
    Banner,
    Block,
    Cell,
    Facts,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    Table,
    Tile,
)
from panoforge.core.stats.blocks import (
    camera_blocks,
    category_blocks,
    cost_blocks,
    instance_blocks,
    sphere_blocks,
)
from panoforge.core.stats.model import DatasetStats
from panoforge.core.stats.pixels import IDS_LAYER, Thumbnails
from panoforge.core.stats.played import PlayedVideo
from panoforge.core.stats.published import published_table
from panoforge.core.stats.video_blocks import video_blocks, video_text


def build_report(
    stats: DatasetStats,
    thumbnails: list[Thumbnails],
    made_at: str,
    played: Sequence[PlayedVideo] = (),
) -> Report:
    """The page, without side effects; `played`: the videos that can be played on it."""
    index = stats.index
    sections = [
        Section(
            "Gallery",
            [_gallery(thumbnails)],
            text=_gallery_text(len(thumbnails), index.panoramas, stats.videos is not None),
        ),
        Section(
            "Instances",
            instance_blocks(stats),
            text=(
                "One row of the index per visible instance. Areas are in pixels and in steradians"
                " (the whole sphere is 12.57 sr): pixels near the poles are smaller than they look."
            ),
        ),
        Section("Categories", category_blocks(index)),
        Section("The sphere", sphere_blocks(stats)),
        Section("Cameras and light", camera_blocks(stats)),
        Section("Time and cost", cost_blocks(stats.cost, stats.run)),
        Section(
            "Beside published datasets",
            [published_table(stats)],
            text="The others' numbers are as their papers and toolkits give them.",
        ),
        Section("Provenance", _provenance_blocks(stats)),
    ]
    if stats.videos:
        text = video_text(stats.videos, played)
        sections.insert(1, Section("Videos", video_blocks(stats.videos, played), text=text))
    return Report(
        title="Dataset statistics",
        subtitle=stats.dataset,
        banners=_banners(stats),
        tiles=_tiles(stats),
        sections=sections,
        made_by=f"panoforge {__version__} · pano stats · {made_at}",
    )


def _tiles(stats: DatasetStats) -> list[Tile]:
    index = stats.index
    sizes = (
        ", ".join(index.image_sizes)
        if len(index.image_sizes) <= 2
        else counted(len(index.image_sizes), "size")
    )
    tiles = [
        Tile("Panoramas", count(index.panoramas), sizes),
        Tile("Scenes", count(index.scenes), f"from {counted(len(index.sources), 'source')}"),
        Tile(
            "Instances",
            count(index.instances),
            f"{counted(index.objects, 'object')}, the rest structure",
        ),
        Tile(
            "Instances per panorama",
            number(index.instances_per_panorama.summary.median),
            f"median; {number(index.objects_per_panorama.summary.median)} of objects",
        ),
        Tile(
            "Categories",
            count(len(index.categories)),
            f"{count(sum(not row.structure for row in index.categories))} of objects",
        ),
        Tile(
            "Sphere covered by objects",
            percent(stats.pixels.objects),
            f"structure {percent(stats.pixels.structure)}",
        ),
        Tile(
            "On disk",
            size(index.bytes),
            f"{size(index.bytes / index.panoramas)} a panorama, {counted(index.shards, 'shard')}",
        ),
    ]
    if stats.videos:
        frames, seconds = stats.videos.frames.summary, stats.videos.seconds.summary
        long = f"medians: {counted(frames.median, 'frame')}, {number(seconds.median)} s"
        tiles.insert(1, Tile("Videos", count(stats.videos.videos), long))
    if stats.cost:
        tiles.append(
            Tile(
                "Core time per panorama",
                duration(stats.cost.core_seconds_per_panorama),
                f"{money(stats.cost.price_per_1000)} per 1,000",
            )
        )
    return tiles


def _banners(stats: DatasetStats) -> list[Banner]:
    banners = []
    if stats.index.panoramas < 100:
        banners.append(
            Banner(
                f"{counted(stats.index.panoramas, 'panorama')} only: read the shapes of these"
                " distributions with care.",
                title="Small dataset.",
            )
        )
    if len(stats.index.config_sha256) > 1:
        banners.append(
            Banner(
                f"Panoramas of {counted(len(stats.index.config_sha256), 'configuration')} are"
                " mixed here.",
                "warn",
                "Mixed.",
            )
        )
    if stats.duplicates.pairs:
        pairs = ", ".join(f"{a} and {b}" for a, b in stats.duplicates.examples[:3])
        alike = counted(
            stats.duplicates.pairs, "pair of panoramas looks", "pairs of panoramas look"
        )
        banners.append(
            Banner(
                f"{alike} alike: {pairs}{', …' if stats.duplicates.pairs > 3 else ''}.",
                "warn",
                "Look-alikes.",
            )
        )
    return banners


def _gallery(thumbnails: list[Thumbnails]) -> Gallery:
    shown = (IDS_LAYER,)
    return Gallery(
        [
            Item(
                t.key,
                [
                    Picture(t.rgb, "image"),
                    Picture(t.ids, "instance ids", shown=shown, opacity=1.0),
                    Picture(t.overlay, "overlay", shown=shown),
                ],
                t.note,
                sphere=t.sphere,
            )
            for t in thumbnails
        ]
    )


def _gallery_text(shown: int, panoramas: int, videos: bool) -> str:
    which = (
        "All panoramas."
        if shown == panoramas
        else f"{count(shown)} of {count(panoramas)}, evenly spread over the scenes."
    ) + (" Of a video it is the frame in its middle." if videos else "")
    return (
        f"{which} One colour per id; dark is nothing. A click opens the panorama to look around in:"
        " drag, scroll or use the arrow keys; point at a thing to read what it is."
    )


def _provenance_blocks(stats: DatasetStats) -> list[Block]:
    index = stats.index
    splits: list[list[Cell]] = [
        [name, count(s.panoramas), count(s.scenes), count(s.instances), size(s.bytes)]
        for name, s in index.splits.items()
    ]
    facts: dict[str, Cell] = {
        "scene sources": _listing(index.sources),
        "config sha256": _listing(index.config_sha256),
        **{f"{name} version": _listing(found) for name, found in stats.versions.items()},
        **{name: _listing(found) for name, found in stats.hardware.items()},
    }
    blocks: list[Block] = [
        Table(["split (by scene)", "panoramas", "scenes", "instances", "bytes"], splits),
        Facts(facts),
    ]
    if index.notes:
        notes: list[list[Cell]] = [[note, count(n)] for note, n in index.notes.items()]
        blocks.append(Table(["what differs from the plain source", "panoramas"], notes))
    return blocks


def _listing(counted: dict[str, int], limit: int = 6) -> str:
    """'a', or 'a (12), b (3)' where there are several."""
    if len(counted) == 1:
        return next(iter(counted))
    shown = [f"{name} ({count(n)})" for name, n in list(counted.items())[:limit]]
    return ", ".join(shown) + (f" and {len(counted) - limit} more" if len(counted) > limit else "")
