"""The statistics page: `DatasetStats` and thumbnails → `panoforge.core.report.page.Report`."""

from panoforge.core import __version__
from panoforge.core.numbers import count, duration, money, number, percent, plural, size
from panoforge.core.report.page import (
    Banner,
    Bar,
    Block,
    Cell,
    Charts,
    Details,
    Facts,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    Table,
    Tile,
)
from panoforge.core.stats import charts
from panoforge.core.stats.model import CategoryCounts, Cost, DatasetStats, IndexStats, RunFacts
from panoforge.core.stats.pixels import IDS_LAYER, Thumbnails

# What others publish of theirs, with where it is written.
PUBLISHED: tuple[tuple[str, str, str, str, str, str, str], ...] = (
    (
        "SAP",
        "183,440 panoramas",
        "6.4 M masks",
        "4096×2048",
        "instances",
        "Infinigen, rendered",
        "arXiv 2603.12759, abstract; masks: AIWalker's summary of it",
    ),
    (
        "Leader360V",
        "over 10,000 videos",
        "–",
        "–",
        "198 categories",
        "real, labelled by models and people",
        "Leader360V's paper and class list",
    ),
    (
        "PanoVOS",
        "150 videos, about 14 K frames",
        "over 19 K masks",
        "–",
        "35 categories",
        "real",
        "arXiv 2604.07901 (PanoSAM2), §4.1",
    ),
    (
        "360VOTS (segmentation)",
        "290 sequences, about 242 K frames",
        "one target each",
        "3840×1920",
        "62 categories",
        "real",
        "arXiv 2604.07901 (PanoSAM2), §4.1; resolution: toolkit",
    ),
    ("PAVS10K", "67 videos, 10,465 frames", "–", "4K", "salient objects", "real", "its README"),
)


def build_report(stats: DatasetStats, thumbnails: list[Thumbnails], made_at: str) -> Report:
    """The page, without side effects."""
    index = stats.index
    sections = [
        Section(
            "Gallery", [_gallery(thumbnails)], text=_gallery_text(len(thumbnails), index.panoramas)
        ),
        Section(
            "Instances",
            _instance_blocks(stats),
            text=(
                "One row of the index per visible instance. Areas are in pixels and in steradians"
                " (the whole sphere is 12.57 sr): pixels near the poles are smaller than they look."
            ),
        ),
        Section("Categories", _category_blocks(index)),
        Section("The sphere", _sphere_blocks(stats)),
        Section("Cameras and light", _camera_blocks(stats)),
        Section("Time and cost", _cost_blocks(stats.cost, stats.run)),
        Section(
            "Beside published datasets",
            [_published(stats)],
            text="The others' numbers are as their papers and toolkits give them.",
        ),
        Section("Provenance", _provenance_blocks(stats)),
    ]
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
        else f"{len(index.image_sizes)} sizes"
    )
    tiles = [
        Tile("Panoramas", count(index.panoramas), sizes),
        Tile("Scenes", count(index.scenes), f"from {plural(len(index.sources), 'source')}"),
        Tile(
            "Instances",
            count(index.instances),
            f"{count(index.objects)} objects, the rest structure",
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
            f"{size(index.bytes / index.panoramas)} a panorama, {plural(index.shards, 'shard')}",
        ),
    ]
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
                f"{plural(stats.index.panoramas, 'panorama')} only: read the shapes of these"
                " distributions with care.",
                title="Small dataset.",
            )
        )
    if len(stats.index.config_sha256) > 1:
        banners.append(
            Banner(
                f"Panoramas of {len(stats.index.config_sha256)} configurations are mixed here.",
                "warn",
                "Mixed.",
            )
        )
    if stats.duplicates.pairs:
        pairs = ", ".join(f"{a} and {b}" for a, b in stats.duplicates.examples[:3])
        banners.append(
            Banner(
                f"{count(stats.duplicates.pairs)} pairs of panoramas look alike: {pairs}"
                f"{', …' if stats.duplicates.pairs > 3 else ''}.",
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


def _gallery_text(shown: int, panoramas: int) -> str:
    which = (
        "All panoramas."
        if shown == panoramas
        else f"{count(shown)} of {count(panoramas)}, evenly spread over the scenes."
    )
    return (
        f"{which} One colour per id; dark is nothing. A click opens the panorama to look around in:"
        " drag, scroll or use the arrow keys; point at a thing to read what it is."
    )


def _instance_blocks(stats: DatasetStats) -> list[Block]:
    index = stats.index
    return [
        Charts(
            [
                charts.distribution_chart(
                    "Instances per panorama", index.instances_per_panorama, "instances"
                ),
                charts.distribution_chart(
                    "Objects per panorama",
                    index.objects_per_panorama,
                    "objects (structure left out)",
                ),
                charts.distribution_chart(
                    "Area in pixels", index.area_px, "pixels (log)", "instances"
                ),
                charts.distribution_chart(
                    "Area in steradians", index.area_sr, "steradians (log)", "instances"
                ),
            ]
        )
    ]


def _category_blocks(index: IndexStats) -> list[Block]:
    drawn = [charts.category_chart(index.categories)]
    if len(index.co_occurrence.categories) > 1:
        drawn.append(charts.co_occurrence_chart(index.co_occurrence, index.panoramas))
    return [
        Charts(drawn),
        Details(
            f"All {len(index.categories)} categories",
            [_category_table(index.categories, index.panoramas)],
        ),
    ]


def _category_table(categories: tuple[CategoryCounts, ...], panoramas: int) -> Table:
    rows: list[list[Cell]] = [
        [
            charts.readable(row.name),
            count(row.instances),
            Bar(row.panoramas / panoramas, percent(row.panoramas / panoramas)),
            number(row.median_sr, 2),
            percent(row.share, 2),
            "structure" if row.structure else "object",
        ]
        for row in categories
    ]
    return Table(
        [
            "category",
            "instances",
            "panoramas that show it",
            "median area (sr)",
            "share of the sphere",
            "kind",
        ],
        rows,
    )


def _sphere_blocks(stats: DatasetStats) -> list[Block]:
    index, pixels = stats.index, stats.pixels
    rows: list[list[Cell]] = [
        [
            "on the seam (in the first and the last column)",
            count(index.flags.get("seam", 0)),
            _share_bar(index.seam_panoramas, index.panoramas),
        ],
        [
            "on a pole (in the first or the last row)",
            count(index.flags.get("pole", 0)),
            _share_bar(index.pole_panoramas, index.panoramas),
        ],
    ]
    return [
        Charts([charts.occupancy_chart(pixels), charts.latitude_chart(pixels)]),
        Table(["where panoramas are hard", "instances", "panoramas with such an object"], rows),
    ]


def _share_bar(part: int, whole: int) -> Bar:
    return Bar(part / whole, f"{count(part)} ({percent(part / whole, 0)})")


def _camera_blocks(stats: DatasetStats) -> list[Block]:
    index, pixels = stats.index, stats.pixels
    drawn = [
        charts.distribution_chart(
            "Camera height", index.camera_height_m, "metres above the floor's zero"
        )
    ]
    if index.clearance_m:
        drawn.append(
            charts.distribution_chart(
                "Clearance", index.clearance_m, "metres to the nearest surface"
            )
        )
    if pixels.depth_m:
        drawn.append(charts.depth_chart(pixels.depth_m, pixels.depth_median_m, pixels.sky))
    drawn.append(charts.luma_chart(pixels))
    return [Charts(drawn)]


def _cost_blocks(cost: Cost | None, run: RunFacts | None) -> list[Block]:
    blocks: list[Block] = []
    if cost:
        total = max(cost.core_seconds_per_panorama, 1e-12)
        rows: list[list[Cell]] = [
            [
                stage.name,
                duration(stage.mean_s),
                duration(stage.median_s),
                duration(stage.p95_s),
                Bar(stage.mean_s / total, percent(stage.mean_s / total)),
            ]
            for stage in cost.stages
        ]
        rows.append(["all", duration(cost.core_seconds_per_panorama), "", "", ""])
        blocks.append(
            Table(
                ["stage", "mean", "median", "95 %", "share"],
                rows,
                strong=[len(rows) - 1],
                caption=(
                    "Core-seconds per panorama, as the workers measured them. At"
                    f" {money(cost.price_per_core_hour)} a core-hour"
                    + (
                        f" and {money(cost.price_per_gpu_hour)} a GPU-hour"
                        f" ({duration(cost.gpu_seconds_per_panorama)} of a GPU each)"
                        if cost.gpu_seconds_per_panorama
                        else ""
                    )
                    + f", 1,000 panoramas cost {money(cost.price_per_1000)}"
                    + (
                        f"; peak memory of a worker {size(cost.peak_memory_mb * 1e6)}."
                        if cost.peak_memory_mb
                        else "."
                    )
                ),
            )
        )
    if run:
        scenes = sum(run.scenes.values())
        ended: list[list[Cell]] = [
            [state, _share_bar(n, max(1, scenes))] for state, n in run.scenes.items()
        ]
        blocks.append(Table(["scenes", "how they ended"], ended))
        if run.reasons:
            reasons: list[list[Cell]] = [[reason, count(n)] for reason, n in run.reasons.items()]
            blocks.append(Table(["reason for rejection or failure", "scenes"], reasons))
    return blocks or [Banner("Neither the samples nor a run record hold timings.")]


def _published(stats: DatasetStats) -> Table:
    index = stats.index
    ours = [
        "this dataset",
        f"{count(index.panoramas)} panoramas",
        f"{count(index.instances)} masks",
        ", ".join(index.image_sizes),
        f"{count(len(index.categories))} categories",
        ", ".join(index.sources),
        "this page",
    ]
    return Table(
        ["dataset", "size", "masks", "resolution", "labels", "made from", "source"],
        [ours, *PUBLISHED],
        strong=[0],
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
