"""Points in space inside our pages: a panorama by its depth, to be turned by mouse, touch or keys.

`PointView(clouds)` is a block of a report (`panoforge.core.report.page`). A cloud has positions and
one colour of each point for every way to colour it. `templates/points.js` draws them with twgl
(vendor/twgl/VENDORED.md): a page needs nothing from outside. Without WebGL it says so.

    cloud = cloud_of_panorama("prediction", depth_m, {"picture": rgb, "classes": colour_ids(ids)})
    Section("In space", [PointView("room 1", [cloud])])
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from panoforge.core.geometry.clouds import even_pixels, positions_m
from panoforge.core.types import Depth, Rgb

_HERE = Path(__file__).parent
FARTHEST_MM = 32_767  # positions are 16 bits: 1 mm in a cube of 65 m


@dataclass(frozen=True)
class Cloud:
    """Points under a label.

    `position_mm` int16 (N, 3): x right, y forward, z up. `colours` by the name of what they show,
    uint8 (N, 3) each.
    """

    label: str
    position_mm: NDArray[np.int16]
    colours: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class PointView:
    """A block: clouds to be turned, one shown at a time. All have the same ways to be coloured."""

    title: str
    clouds: Sequence[Cloud]
    block: ClassVar[str] = "points"

    @property
    def scene(self) -> Markup:
        """The clouds as `templates/points.js` takes them."""
        clouds = [
            {
                "label": cloud.label,
                "position": _base64(cloud.position_mm.astype("<i2")),
                "colours": {name: _base64(colour) for name, colour in cloud.colours.items()},
            }
            for cloud in self.clouds
        ]
        text = json.dumps({"title": self.title, "clouds": clouds}, ensure_ascii=False)
        return Markup(text.replace("<", "\\u003c"))


def cloud_of_panorama(label: str, depth_m: Depth, colours: Mapping[str, Rgb]) -> Cloud:
    """The points of a panorama, thinned towards the poles so that all directions have as many.

    Args:
        label: What the cloud is called.
        depth_m: Metres along the ray, float H×W; what is not finite, or beyond 32 m
            on an axis, has no point.
        colours: Pictures uint8 H×W×3 that give the points their colours.
    """
    kept = even_pixels(*depth_m.shape) & np.isfinite(depth_m) & (depth_m > 0)
    position = np.rint(positions_m(depth_m, kept) * 1000)
    near = (np.abs(position) <= FARTHEST_MM).all(axis=1)
    return Cloud(
        label,
        position[near].astype(np.int16),
        {name: picture[kept][near] for name, picture in colours.items()},
    )


@lru_cache(maxsize=1)
def points_style() -> Markup:
    """The content of a <style>."""
    return Markup(_text("templates/points.css"))


@lru_cache(maxsize=1)
def points_script() -> Markup:
    """The content of a <script> that draws every `.points` element of the page."""
    library = _text("vendor/twgl/twgl.js").replace("</script", "<\\/script")  # of a comment in it
    return Markup(library + "\n" + _text("templates/points.js"))


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _base64(array: NDArray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
