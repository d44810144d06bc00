"""The sections of the statistics page: instances, categories, the sphere, cameras and cost."""

from panoforge.core.numbers import count, counted, duration, money, number, percent, size
from panoforge.core.report.page import (
    Banner,
    Bar,
    Block,
    Cell,
    Charts,
    Details,
    Table,
)
from panoforge.core.stats import charts
from panoforge.core.stats.model import CategoryCounts, Cost, DatasetStats, IndexStats, RunFacts


def instance_blocks(stats: DatasetStats) -> list[Block]:
    """How many instances and objects a panorama has, and how large they are."""
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


def category_blocks(index: IndexStats) -> list[Block]:
    """Which categories there are, and which are seen together."""
    drawn = [charts.category_chart(index.categories)]
    if len(index.co_occurrence.categories) > 1:
        drawn.append(charts.co_occurrence_chart(index.co_occurrence, index.panoramas))
    return [
        Charts(drawn),
        Details(
            f"All {counted(len(index.categories), 'category', 'categories')}",
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


def sphere_blocks(stats: DatasetStats) -> list[Block]:
    """Where on the sphere instances are, and what crosses the seam or holds a pole."""
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


def camera_blocks(stats: DatasetStats) -> list[Block]:
    """Where cameras stand, and how bright and how deep what they see is."""
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


def cost_blocks(cost: Cost | None, run: RunFacts | None) -> list[Block]:
    """What a panorama took, and what the run says of its scenes."""
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
