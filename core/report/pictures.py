"""Pictures for people: id maps in colour, overlays, thumbnails, data URIs, and charts of one look.

Takes arrays (rgb uint8 H×W×3 in RGB order, label maps uint16 H×W) and drawing functions; gives
arrays, `data:` URIs and inline SVG that `panoforge.core.report.page` puts into a page. Nothing here
reads files or knows of datasets.

    colour_ids(labels)                    H×W×3: one stable colour per id everywhere, 0 is dark
    overlay_ids(rgb, labels)              the ids laid over the picture, with their outlines
    shrink_rgb(rgb, 480), shrink_ids(…)   to a width: area average of colour, nearest pixel of ids
    jpeg_uri(rgb), png_uri(rgb)           `data:image/…` for <img src>
    chart_svg(draw, size_in=(5.6, 2.8))   `draw(ax)` on a matplotlib Axes → Markup of an <svg> that
                                          follows light and dark
    chart_png(draw, size_in, dpi)         the same in the light colours as PNG bytes, for a README

Charts are drawn in the light colours below (`SERIES`, `INK`, …). In the SVG each of them is then
replaced by the CSS variable of the page's style sheet, so one drawing serves both colour schemes.
Use these constants (and the colour map `HEAT`) for every colour of a chart. Figures are made
without pyplot: no global state, safe in threads.
"""

import base64
import io
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from panoforge.core.types import Rgb

INK, MUTED, GRID = "#1c2128", "#5c6673", "#e2e6eb"
SERIES = ("#2a78d6", "#d9730d", "#1a9c6e", "#8a5fd0", "#c8406b", "#7c8796")
_CSS_OF = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(SERIES, start=1)
}
NOTHING_RGB = (24, 27, 32)  # the colour of id 0
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "panoforge",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names are text: `$\bad{$` is no formula
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "axes.prop_cycle": cycler(color=SERIES),
    "patch.linewidth": 0,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}
# For maps of shares: from nothing (the page shows through, light or dark) to full blue.
HEAT = LinearSegmentedColormap.from_list(
    "heat", [SERIES[0] + "08", SERIES[0] + "80", SERIES[0] + "ff"]
)


@lru_cache(maxsize=1)
def id_colours() -> Rgb:
    """The colour of every possible id, uint8 (65536, 3), read-only.

    Hue, lightness and chroma follow an additive low-discrepancy sequence (Roberts 2018, R3), so any
    first n ids are well apart. They are read as OKLCH (Ottosson 2020), where equal steps look
    equal.
    """
    step = 1.2207440846057596 ** -np.arange(1, 4)  # the root of x⁴ = x + 1
    hue, lightness, chroma = np.mod(np.arange(65536)[:, None] * step + 0.5, 1).T
    hue, lightness, chroma = 2 * np.pi * hue, 0.5 + 0.35 * lightness, 0.04 + 0.12 * chroma
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ],
            axis=1,
        )
        ** 3
    )
    linear = np.clip(
        lms
        @ np.array(
            [
                [4.0767416621, -3.3077115913, 0.2309699292],
                [-1.2684380046, 2.6097574011, -0.3413193965],
                [-0.0041960863, -0.7034186147, 1.7076147010],
            ]
        ).T,
        0,
        1,
    )
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours = np.rint(srgb * 255).astype(np.uint8)
    colours[0] = NOTHING_RGB
    colours.flags.writeable = False
    return colours


def colour_ids(labels: NDArray[np.integer]) -> Rgb:
    """H×W ids → H×W×3 colours."""
    return id_colours()[labels]


def id_outlines(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """H×W mask of the pixels whose right or lower neighbour has another id.

    Columns wrap: the seam is no outline.
    """
    edge = labels != np.roll(labels, -1, axis=1)
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def overlay_ids(
    rgb: Rgb, labels: NDArray[np.integer], opacity: float = 0.5, outline: bool = True
) -> Rgb:
    """The colours of `labels` laid over `rgb` (same H×W) where an id is.

    With light outlines between ids.
    """
    if rgb.shape[:2] != labels.shape:
        raise ValueError(
            f"overlay needs rgb and labels of one size, got {rgb.shape[:2]} and {labels.shape}"
        )
    mixed = cv2.addWeighted(rgb, 1 - opacity, colour_ids(labels), opacity, 0)
    out = np.where((labels > 0)[..., None], mixed, rgb)
    if outline:
        edge = id_outlines(labels)
        out[edge] = (out[edge].astype(np.uint16) + 2 * 250) // 3
    return out


def shrink_rgb(rgb: Rgb, width: int) -> Rgb:
    """`rgb` at most `width` pixels wide, aspect kept, averaged over areas (no aliasing)."""
    height, have = rgb.shape[:2]
    if have <= width:
        return rgb
    return cv2.resize(
        rgb, (width, max(1, round(height * width / have))), interpolation=cv2.INTER_AREA
    )


def shrink_ids(labels: NDArray[np.uint16], width: int) -> NDArray[np.uint16]:
    """`labels` at most `width` pixels wide, by nearest pixel: ids are never mixed."""
    height, have = labels.shape
    if have <= width:
        return labels
    return cv2.resize(
        labels, (width, max(1, round(height * width / have))), interpolation=cv2.INTER_NEAREST_EXACT
    )


def jpeg_uri(rgb: Rgb, quality: int = 82) -> str:
    """`data:image/jpeg` URI: for photographs and overlays."""
    return _image_uri(
        rgb, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1], "image/jpeg"
    )


def png_uri(rgb: Rgb) -> str:
    """`data:image/png` URI: for coloured ids and masks, whose edges JPEG would smear."""
    return _image_uri(rgb, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9], "image/png")


def _image_uri(image: Rgb, suffix: str, options: list[int], mime: str) -> str:
    if image.dtype != np.uint8:
        raise ValueError(f"pictures are uint8, got {image.dtype} {image.shape}")
    ok, data = cv2.imencode(
        suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image, options
    )
    if not ok:
        raise ValueError(f"OpenCV could not encode {image.dtype} {image.shape} as {suffix}")
    return f"data:{mime};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def chart_svg(
    draw: Callable[[Axes], None], size_in: tuple[float, float] = (5.6, 2.8), label: str = "chart"
) -> Markup:
    """Run `draw` on fresh axes and give an inline <svg> whose colours and font are the page's.

    `label` is read aloud.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        _figure(draw, size_in).savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<g id="[^"]*">', "<g>", svg
    )  # matplotlib's group names repeat from chart to chart
    svg = re.sub("|".join(_CSS_OF), lambda match: _CSS_OF[match.group()], svg)
    svg = svg.replace("'DejaVu Sans'", "system-ui, sans-serif")
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1))


def chart_png(
    draw: Callable[[Axes], None], size_in: tuple[float, float] = (5.6, 2.8), dpi: int = 160
) -> bytes:
    """The same chart as PNG bytes in the light colours on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        _figure(draw, size_in).savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def _figure(draw: Callable[[Axes], None], size_in: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size_in, layout="constrained")
    draw(figure.subplots())
    return figure
