"""The interactive 360° view inside our pages: reports and `pano serve`.

A scene is a picture with layers on it, as data: `Sphere(image, layers)`. A layer is an id map
(`id_layer`) or a set of points (`PointLayer`: clicks). The colours of an id map are laid over the
picture or drawn as outlines; what is under the pointer is named. `scene_json` turns it into what
`templates/sphere.js` takes. `viewer_style()` and `viewer_script()` are put once into a page and
carry the viewer itself (pannellum, vendor/pannellum/VENDORED.md), so that a page needs nothing from
outside. Where a browser has no WebGL the same scene is shown flat, and the page says so.

A `SphereVideo` is a scene whose picture and id maps change: `templates/video.js` puts controls to
play it below the view. Pages without one carry nothing of it.

pannellum rather than a three.js-based viewer: 66 kB instead of 700 kB in every report, and the same
sphere.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from panoforge.core.report.pictures import id_colours, png_uri

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class IdLayer:
    """An id map.

    `uri`: PNG whose red is the low and green the high byte of the id; `names` and `colours`
    ('#rrggbb') by id; `outline`: drawn as lines instead of areas.
    """

    label: str
    uri: str
    names: Mapping[int, str]
    colours: Mapping[int, str]
    outline: bool = False
    kind: str = "ids"


@dataclass(frozen=True)
class Point:
    """A direction with a colour ('#rrggbb') and words for the pointer."""

    lon_deg: float
    lat_deg: float
    colour: str
    text: str = ""


@dataclass(frozen=True)
class PointLayer:
    """Points, drawn as ringed dots of constant size."""

    label: str
    points: Sequence[Point]
    kind: str = "points"


@dataclass(frozen=True)
class Sphere:
    """A panorama to look around in.

    `image` is a data URI; all layers cover the same sphere at any resolution.
    """

    image: str
    layers: Sequence[IdLayer | PointLayer] = field(default_factory=tuple)


@dataclass(frozen=True)
class VideoFrame:
    """The picture and the id maps of a frame, as data URIs, in the order of the video's layers."""

    image: str
    ids: Sequence[str]


@dataclass(frozen=True)
class SphereVideo(Sphere):
    """A panoramic video to look around in.

    `image` and `layers` (id maps only, with the names and colours of all frames) are those of the
    first frame that is shown, `later` has the others. `step` frames of the video, which has
    `frames` of them at `fps`, lie between two that are shown.
    """

    later: Sequence[VideoFrame] = field(default_factory=tuple)
    fps: float = 1.0
    step: int = 1
    frames: int = 1


def css_colour(id_: int) -> str:
    """The colour that id has in all our pictures, as '#rrggbb'."""
    return "#{:02x}{:02x}{:02x}".format(*id_colours()[id_])


def ids_uri(labels: NDArray[np.integer]) -> str:
    """An id map H×W (0…65535) as a PNG data URI that scripts can read back exactly."""
    ids = labels.astype(np.uint16)
    return png_uri(np.stack([ids & 255, ids >> 8, np.zeros_like(ids)], axis=-1).astype(np.uint8))


def id_layer(
    label: str, labels: NDArray[np.integer], names: Mapping[int, str], *, outline: bool = False
) -> IdLayer:
    """The layer of an id map; ids without a name are called by their number."""
    return layer_of_ids(label, ids_uri(labels), np.unique(labels).tolist(), names, outline=outline)


def layer_of_ids(
    label: str, uri: str, ids: Iterable[int], names: Mapping[int, str], *, outline: bool = False
) -> IdLayer:
    """The layer of an id map that is a PNG already, with names and colours for `ids`."""
    found = [id_ for id_ in ids if id_]
    return IdLayer(
        label,
        uri,
        {id_: names.get(id_, f"id {id_}") for id_ in found},
        {id_: css_colour(id_) for id_ in found},
        outline,
    )


def scene_json(sphere: Sphere) -> Markup:
    """A scene for `<script type="application/json">`: nothing in it can end the element."""
    return Markup(_safe_json(asdict(sphere)))


def _safe_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@lru_cache(maxsize=2)
def viewer_style(videos: bool = False) -> Markup:
    """The content of a <style>; with `videos`, of those too."""
    style = _text("vendor/pannellum/pannellum.css") + _text("templates/sphere.css")
    return Markup(style + (_text("templates/video.css") if videos else ""))


@lru_cache(maxsize=2)
def viewer_script(videos: bool = False) -> Markup:
    """The content of a <script> that defines `panoSphere(container, scene, options)`.

    See templates/sphere.js. With `videos` its scenes may be `SphereVideo`s; without, the lines that
    are for them (between `// { videos` and `// } videos`) are left out.
    """
    sphere = _text("templates/sphere.js")
    if videos:
        sphere += "\n" + _text("templates/video.js")
    else:
        sphere = re.sub(r"^ *// \{ videos\n.*?^ *// \} videos\n", "", sphere, flags=re.M | re.S)
    return Markup(_text("vendor/pannellum/pannellum.js") + "\n" + sphere)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
