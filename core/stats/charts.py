"""The charts of the statistics page: each takes a part of `DatasetStats` and gives a `Chart`."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from panoforge.core.numbers import count, counted, number, percent
from panoforge.core.report.page import Chart
from panoforge.core.report.pictures import HEAT, INK, MUTED, SERIES, chart_svg
from panoforge.core.stats.model import (
    CategoryCounts,
    CoOccurrence,
    Distribution,
    Histogram,
    PixelStats,
)

WHOLE_UNITS = ("instances", "objects", "frames", "things")


def readable(name: str) -> str:
    """A category's name for people."""
    return name.replace("_", " ")


def distribution_chart(
    title: str, values: Distribution, x: str, y: str = "panoramas", *, colour: str = SERIES[0]
) -> Chart:
    """A histogram with its median marked; log bins get a log axis."""
    edges, log = values.histogram.edges, _is_log(values.histogram)

    def draw(ax: Axes) -> None:
        ax.stairs(values.histogram.counts, edges, fill=True, color=colour)
        ax.axvline(values.summary.median, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if values.histogram.unit in WHOLE_UNITS:
            ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if log:
            log_axis(ax)

    s = values.summary
    note = (
        f"median {number(s.median)}, mean {number(s.mean)}, 5–95 %: {number(s.p05)} –"
        f" {number(s.p95)}"
    )
    return Chart(title, chart_svg(draw, label=title), note)


def _is_log(histogram: Histogram) -> bool:
    edges = histogram.edges
    return len(edges) > 3 and edges[0] > 0 and edges[2] - edges[1] > 1.2 * (edges[1] - edges[0])


def log_axis(ax: Axes) -> None:
    """A log x axis with plain numbers."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.xaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:.6f}".rstrip("0")
        )
    )
    ax.xaxis.set_minor_formatter(NullFormatter())


def category_chart(categories: tuple[CategoryCounts, ...], limit: int = 24) -> Chart:
    """Instances per category, most frequent first, on a log axis; structure in grey."""
    shown = [row for row in categories if row.instances][:limit]

    def draw(ax: Axes) -> None:
        places = np.arange(len(shown))
        colours = [SERIES[5] if row.structure else SERIES[0] for row in shown]
        ax.barh(
            places, [row.instances - 0.5 for row in shown], left=0.5, color=colours, height=0.72
        )
        for place, row in zip(places, shown, strict=True):
            ax.text(
                row.instances * 1.06,
                place,
                count(row.instances),
                va="center",
                fontsize=8,
                color=MUTED,
            )
        ax.set_yticks(places, [readable(row.name) for row in shown])
        ax.invert_yaxis()
        ax.set_xlim(0.5, 3 * max(row.instances for row in shown))
        log_axis(ax)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", visible=True)
        ax.set_xlabel("instances (log)")

    rest = (
        f"; the other {len(categories) - len(shown)} are in the table"
        if len(categories) > len(shown)
        else ""
    )
    known = counted(len(categories), "category", "categories")
    note = f"{known}{rest}. Grey: walls, floors and other structure."
    return Chart(
        "Instances per category",
        chart_svg(draw, (5.6, 0.9 + 0.19 * len(shown)), "Instances per category"),
        note,
    )


def co_occurrence_chart(table: CoOccurrence, panoramas: int) -> Chart:
    """Share of panoramas in which two categories are both seen."""
    size, names = len(table.categories), [readable(name) for name in table.categories]
    share = np.array(table.panoramas, float).reshape(size, size) / panoramas

    def draw(ax: Axes) -> None:
        ax.imshow(share, vmin=0, vmax=1, interpolation="nearest", cmap=HEAT)
        ax.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(size), names)
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        for row in range(size):
            for column in range(size):
                ink = "#ffffff" if share[row, column] > 0.6 else INK
                ax.text(
                    column,
                    row,
                    f"{100 * share[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=ink,
                )

    return Chart(
        "Categories seen together",
        chart_svg(draw, (5.6, 1.2 + 0.28 * size), "Co-occurrence of categories"),
        "% of panoramas that show both; on the diagonal, that show the category",
    )


def latitude_chart(pixels: PixelStats) -> Chart:
    """What covers each band of latitude, by solid angle."""
    centres = 0.5 * (
        np.array(pixels.latitude.edges_deg[:-1]) + np.array(pixels.latitude.edges_deg[1:])
    )
    objects, structure = (
        100 * np.array(pixels.latitude.objects),
        100 * np.array(pixels.latitude.structure),
    )

    def draw(ax: Axes) -> None:
        ax.stackplot(
            centres,
            objects,
            structure,
            colors=[SERIES[0], SERIES[5]],
            labels=["objects", "structure"],
            alpha=0.9,
        )
        ax.set_xlim(-90, 90)
        ax.set_ylim(0, 100)
        ax.set_xticks(range(-90, 91, 30), [f"{d}°" for d in range(-90, 91, 30)])
        ax.set_xlabel("latitude (up is +90°)")
        ax.set_ylabel("% of the band")
        ax.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.2)

    note = (
        f"of the whole sphere: objects {percent(pixels.objects)}, structure"
        f" {percent(pixels.structure)}, nothing {percent(pixels.nothing)}"
    )
    return Chart(
        "What is where, by latitude", chart_svg(draw, (9.4, 2.9), label="Latitude"), note, wide=True
    )


def occupancy_chart(pixels: PixelStats) -> Chart:
    """How often an object is seen at each direction."""
    share = 100 * np.array(pixels.object_share)

    def draw(ax: Axes) -> None:
        image = ax.imshow(
            share,
            extent=(-180, 180, -90, 90),
            vmin=0,
            vmax=max(1.0, float(share.max())),
            interpolation="nearest",
            cmap=HEAT,
        )
        ax.set_xticks(range(-180, 181, 45), [f"{d}°" for d in range(-180, 181, 45)])
        ax.set_yticks(range(-90, 91, 45), [f"{d}°" for d in range(-90, 91, 45)])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.92, pad=0.02, aspect=24)
        bar.outline.set_visible(False)
        bar.set_label("% of panoramas")

    return Chart(
        "Where objects are seen",
        chart_svg(draw, (9.4, 4.3), "Occupancy"),
        "longitude from the heading of each camera, latitude; structure left out",
        wide=True,
    )


def depth_chart(histogram: Histogram, median_m: float | None, sky: float | None) -> Chart:
    """Distance of what is seen, by solid angle."""
    note = f"median {number(median_m)} m, sky {percent(sky)} of the sphere"
    return Chart(
        "Distance",
        chart_svg(
            _histogram_drawer(
                histogram,
                "distance along the ray (m)",
                "% of the sphere",
                log=True,
                scale=100 / (4 * np.pi),
            ),
            label="Distance",
        ),
        note,
    )


def luma_chart(pixels: PixelStats) -> Chart:
    """Brightness of the pictures, by solid angle."""
    note = (
        f"mean {number(pixels.luma_mean)}; darker than 8: {percent(pixels.dark)}, brighter than"
        f" 250: {percent(pixels.clipped)}"
    )
    return Chart(
        "Luminance",
        chart_svg(
            _histogram_drawer(pixels.luma, "8-bit luma", "% of the sphere", scale=100),
            label="Luminance",
        ),
        note,
    )


def _histogram_drawer(
    histogram: Histogram, x: str, y: str, *, scale: float, log: bool = False
) -> Callable[[Axes], None]:
    counts = np.array(histogram.counts)
    filled = np.flatnonzero(counts > 1e-6 * counts.sum())

    def draw(ax: Axes) -> None:
        ax.stairs(scale * counts, histogram.edges, fill=True, color=SERIES[0])
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        if log and filled.size:
            log_axis(ax)
            ax.set_xlim(
                min(0.5, histogram.edges[filled[0]]), max(12.0, histogram.edges[filled[-1] + 1])
            )

    return draw
