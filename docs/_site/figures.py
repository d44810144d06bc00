"""The figures of docs/why, drawn by the program: `python docs/_site/figures.py` (make style).

The way of a scan over the sphere, how often it sees each direction, where pixels lie, and the way
of a sample through the system.
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from panoforge.core.geometry.scan import ScanSpec, scan_views  # noqa: E402
from panoforge.core.geometry.sphere import (  # noqa: E402
    direction_to_lonlat,
    direction_to_view_pixel,
    pixel_to_direction,
    pixel_to_lonlat,
    view_pixel_to_direction,
)

WHY = ROOT / "docs" / "why"
LINE, MARK = "#3f51b5", "#c2185b"


def in_degrees(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of directions; cut where the line goes over the seam."""
    lon, lat = (np.degrees(one) for one in direction_to_lonlat(direction))
    cut = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    return np.insert(lon, cut, np.nan), np.insert(lat, cut, np.nan)


def draw_scan(path: Path) -> None:
    """The views in their order, and how many of them see each direction."""
    views = scan_views(ScanSpec(90.0, 0.5, 256))
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
    count = np.zeros((180, 360))
    v, u = np.mgrid[:180, :360]
    directions = pixel_to_direction(u, v, 360, 180)
    for view in views:
        count += direction_to_view_pixel(directions, view)[2]
    shown = axes[1].imshow(count, extent=(-180, 180, -90, 90), cmap="viridis")
    figure.colorbar(shown, ax=axes[1], label="views", ticks=range(10), shrink=0.7)
    side = np.linspace(-0.5, 255.5, 60)
    edge = np.concatenate(
        [
            np.stack([side, np.full(60, -0.5)], 1),
            np.stack([np.full(60, 255.5), side], 1),
            np.stack([side[::-1], np.full(60, 255.5)], 1),
            np.stack([np.full(60, -0.5), side[::-1]], 1),
        ]
    )
    for number in (0, 1, 2):
        outline = view_pixel_to_direction(edge[:, 0], edge[:, 1], views[number])
        axes[0].plot(*in_degrees(outline), lw=1, color=MARK, alpha=1 - 0.3 * number)
    middles = [(view.yaw_deg, view.pitch_deg) for view in views]
    for here, there in pairwise(middles):
        if abs(here[0] - there[0]) < 180:
            axes[0].annotate("", there, here, arrowprops={"arrowstyle": "->", "color": LINE})
    for number, (yaw, pitch) in enumerate(middles, start=1):
        axes[0].text(
            yaw,
            pitch,
            number,
            fontsize=8,
            ha="center",
            va="center",
            bbox={"fc": "white", "ec": LINE, "pad": 1.5},
        )
    for axis, title in zip(
        axes,
        (
            "the way of the scan; outlines of its first three views",
            "how many views see a direction",
        ),
        strict=True,
    ):
        axis.set(
            xlim=(-180, 180),
            ylim=(-90, 90),
            xticks=range(-180, 181, 90),
            yticks=range(-90, 91, 45),
            title=title,
            xlabel="longitude, °",
        )
        axis.set_aspect("equal")
    axes[0].set_ylabel("latitude, °")
    save(figure, path)


def draw_pixels(path: Path) -> None:
    """Where the pixels of a panorama of 8×4 look."""
    width, height = 8, 4
    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    v, u = np.mgrid[:height, :width]
    lon, lat = (np.degrees(one) for one in pixel_to_lonlat(u, v, width, height))
    axis.plot(lon.ravel(), lat.ravel(), "o", color=MARK, ms=4)
    for column, row in ((0, 0), (width - 1, 0), (width // 2, height // 2)):
        place = lon[row, column], lat[row, column]
        axis.annotate(f"({column}, {row})", place, (4, 6), textcoords="offset points", fontsize=9)
    axis.set(
        xlim=(-180, 180),
        ylim=(-90, 90),
        xlabel="longitude, °",
        ylabel="latitude, °",
        xticks=np.linspace(-180, 180, width + 1),
        yticks=np.linspace(-90, 90, height + 1),
        title="pixels (u, v) of a panorama of 8×4: centres lie at half-integers, columns wrap",
    )
    axis.grid(color=LINE, alpha=0.5)
    axis.set_aspect("equal")
    save(figure, path)


# A stage: its name, what does it, what lies on the disk after it.
WAY = (
    ("config", "pano init", "render.yaml"),
    ("plan", "pano plan", "seeds, poses"),
    ("render", "Blender, one\nscene a process", "rgb, ids, depth"),
    ("staged", "fsync, digests", "staged/KEY/"),
    ("shards", "pano pack", "tars + index"),
    ("clips", "scan, random yaw", "views in a row"),
    ("model", "pano train", "model.pt"),
    ("masks", "scan, merge", "ids on the sphere"),
    ("scores", "pano eval", "report.html"),
)


def draw_way(path: Path) -> None:
    """The way of a sample through the system: data flows one way."""
    figure, axis = plt.subplots(figsize=(12, 2.1), layout="constrained")
    for number, (stage, maker, kept) in enumerate(WAY):
        axis.text(
            number,
            0,
            stage,
            ha="center",
            va="center",
            weight="bold",
            bbox={"boxstyle": "round,pad=0.5", "fc": "#e8eaf6", "ec": LINE},
        )
        axis.text(number, 0.75, maker, ha="center", va="center", fontsize=8, color=LINE)
        axis.text(number, -0.75, kept, ha="center", va="center", fontsize=8, color=MARK)
        if number:
            arrow = {"arrowstyle": "->", "color": LINE, "shrinkA": 27, "shrinkB": 27}
            axis.annotate("", (number, 0), (number - 1, 0), arrowprops=arrow)
    axis.text(-0.5, 1.25, "what does it", fontsize=8, color=LINE)
    axis.text(-0.5, -1.35, "what there is then", fontsize=8, color=MARK)
    axis.set(xlim=(-0.55, len(WAY) - 0.45), ylim=(-1.5, 1.5))
    axis.axis("off")
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """As SVG without a date, so that the same program writes the same bytes."""
    with mpl.rc_context({"svg.hashsalt": "panoforge", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    plt.close(figure)


FIGURES = {"scan.svg": draw_scan, "pixels.svg": draw_pixels, "way.svg": draw_way}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        draw(WHY / name)
