"""What is on the page of `pano serve`: one panorama, its objects and their clicks, with undo.

A `Session` takes a loaded predictor, gets a picture (`open`), and then changes: `click`,
`new_object`, `delete`, `undo`. Every change is a new tuple of objects pushed on a stack, so undo is
exact. `state()` is what the page shows, `save(kind)` the same files that `pano segment` writes. Not
safe for threads: the server lets one request in at a time.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UsageError
from panoforge.core.export.palette import MAX_PALETTE_IDS
from panoforge.core.foreign.pictures import decode_panorama, read_panorama
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.report.pictures import jpeg_uri, shrink_ids, shrink_rgb
from panoforge.core.report.viewer import Point, PointLayer, id_layer
from panoforge.eval.interactive.segment_image import (
    Loaded,
    Result,
    coco_json,
    mask_png,
    overlay_jpg,
    stack,
)
from panoforge.eval.interactive.segmenter import PanoramaSegmenter, SphereClick

PICTURE_WIDTH, MASK_WIDTH = (
    3072,
    1536,
)  # what the browser gets to see; masks are computed and saved at full size
MAX_UNDO, MAX_CLICKS = 500, 64
MASKS, CLICKS = "masks", "clicks"
ON, OFF = "#2fbf71", "#e5484d"
COLOURS = (
    "#ff3d71",
    "#2a9dff",
    "#ffb020",
    "#a66bff",
    "#00d3c7",
    "#ff7a2f",
    "#c6e02a",
    "#ff6bd6",
)  # vivid: masks stand out

Objects = tuple[tuple[SphereClick, ...], ...]


class Session:
    """`labels`: the true ids where ground truth is the predictor. Everything raises UserError for
    what the user can put right.
    """

    def __init__(self, loaded: Loaded, labels: NDArray[np.uint16] | None = None) -> None:
        self._loaded, self._labels = loaded, labels
        self._segmenter: PanoramaSegmenter | None = None
        self._name = ""
        self._stack: list[Objects] = [((),)]
        self._masks: dict[tuple[SphereClick, ...], NDArray[np.bool_]] = {}
        self._picture = ""

    @property
    def _objects(self) -> Objects:
        return self._stack[-1]

    def open(self, data: bytes, name: str, max_bytes: int) -> dict[str, Any]:
        """Take a picture's bytes; on an error the old picture stays."""
        self._take(decode_panorama(data, name, max_bytes), name)
        return self.state(with_picture=True)

    def _take(self, rgb: NDArray[np.uint8], name: str) -> None:
        segmenter = PanoramaSegmenter(
            rgb, self._loaded.config, self._loaded.predictor, self._labels
        )
        segmenter.warm()
        self._segmenter = segmenter
        self._name = PurePosixPath(name.replace("\\", "/")).name or "panorama"
        self._stack, self._masks = [((),)], {}
        self._picture = jpeg_uri(shrink_rgb(rgb, PICTURE_WIDTH), 88)

    def open_file(self, path: Path) -> None:
        """`open` of a file of this machine."""
        self._take(read_panorama(path), path.name)

    def click(self, index: int, click: SphereClick) -> dict[str, Any]:
        """Add a click to object `index` and compute its mask."""
        clicks = (*self._object(index), click)
        if not any(one.positive for one in clicks):
            raise UsageError(
                "click on the object first; a click that takes away only makes sense after that"
            )
        if len(clicks) > MAX_CLICKS:
            raise UsageError(
                f"an object takes {MAX_CLICKS} clicks at most: start a new one, or undo some"
            )
        mask = self._ready().mask(clicks)  # before anything changes: an error leaves all as it was
        self._masks[clicks] = mask
        return self._push((*self._objects[:index], clicks, *self._objects[index + 1 :]))

    def new_object(self) -> dict[str, Any]:
        """An object more, without clicks yet; there is never more than one of those."""
        self._ready()
        if len(self._objects) >= MAX_PALETTE_IDS:
            raise UsageError(
                f"a mask picture holds {MAX_PALETTE_IDS} objects: save these and start again"
            )
        return self.state() if not self._objects[-1] else self._push((*self._objects, ()))

    def delete(self, index: int) -> dict[str, Any]:
        """Take one object away; gives the page's new state."""
        self._object(index)
        left = (*self._objects[:index], *self._objects[index + 1 :])
        return self._push(left or ((),))

    def undo(self) -> dict[str, Any]:
        """The last change back."""
        if len(self._stack) > 1:
            self._stack.pop()
        return self.state()

    def save(self, kind: str) -> tuple[str, str, bytes]:
        """(file name, type, bytes) of `mask.png`, `overlay.jpg` or `coco.json`."""
        segmenter, results = self._ready(), self._results()
        if not results:
            raise UsageError("there is nothing to save yet: click on an object first")
        writers: dict[str, tuple[str, Callable[[], bytes]]] = {
            "mask.png": ("image/png", lambda: mask_png(results)),
            "overlay.jpg": ("image/jpeg", lambda: overlay_jpg(segmenter.panorama.rgb, results)),
            "coco.json": ("application/json", lambda: coco_json(self._name, results, self._loaded)),
        }
        if kind not in writers:
            raise UsageError(f"{kind!r} cannot be saved: expected one of {', '.join(writers)}")
        content_type, write = writers[kind]
        return f"{self._name.rsplit('.', 1)[0]}.{kind}", content_type, write()

    def state(self, *, with_picture: bool = False) -> dict[str, Any]:
        """What the page shows: the objects and the layers on the sphere (and the picture, which is
        large).
        """
        if self._segmenter is None:
            return {
                "open": False,
                "predictor": self._loaded.words,
                "method": self._loaded.config.methods[0],
            }
        panorama = self._segmenter.panorama
        area = row_area_sr(panorama.width, panorama.height)
        objects = [
            {
                "colour": COLOURS[index % len(COLOURS)],
                "clicks": len(clicks),
                "area_sr": float(self._mask(clicks).sum(axis=1) @ area) if clicks else 0.0,
            }
            for index, clicks in enumerate(self._objects)
        ]
        found = {
            "open": True,
            "name": self._name,
            "size": f"{panorama.width}×{panorama.height}",
            "frames": self._segmenter.frames,
            "predictor": self._loaded.words,
            "method": self._segmenter.method.name,
            "objects": objects,
            "can_undo": len(self._stack) > 1,
            "layers": [asdict(layer) for layer in self._layers()],
        }
        return {**found, "image": self._picture} if with_picture else found

    def _layers(self) -> tuple[Any, PointLayer]:
        assert self._segmenter
        shape = (self._segmenter.panorama.height, self._segmenter.panorama.width)
        shown, numbers = (
            np.zeros(shape, np.uint16),
            [k + 1 for k, clicks in enumerate(self._objects) if clicks],
        )
        if numbers:
            shown = np.array([0, *numbers], np.uint16)[stack(self._results())]
        points = [
            Point(click.lon_deg, click.lat_deg, ON if click.positive else OFF, f"object {k + 1}")
            for k, clicks in enumerate(self._objects)
            for click in clicks
        ]
        layer = id_layer(
            MASKS, shrink_ids(shown, MASK_WIDTH), {number: f"object {number}" for number in numbers}
        )
        colours = {number: COLOURS[(number - 1) % len(COLOURS)] for number in numbers}
        return replace(layer, colours=colours), PointLayer(CLICKS, points)

    def _results(self) -> list[Result]:
        return [Result(clicks, self._mask(clicks)) for clicks in self._objects if clicks]

    def _mask(self, clicks: tuple[SphereClick, ...]) -> NDArray[np.bool_]:
        """Masks of the objects that are shown are kept whole; those of undone or redone clicks come
        from the segmenter.
        """
        if clicks not in self._masks:
            self._masks[clicks] = self._ready().mask(clicks)
        return self._masks[clicks]

    def _push(self, objects: Objects) -> dict[str, Any]:
        self._stack = [*self._stack, objects][-MAX_UNDO:]
        self._masks = {clicks: mask for clicks, mask in self._masks.items() if clicks in objects}
        return self.state()

    def _object(self, index: int) -> tuple[SphereClick, ...]:
        self._ready()
        if not 0 <= index < len(self._objects):
            raise UsageError(f"there is no object {index + 1}: there are {len(self._objects)}")
        return self._objects[index]

    def _ready(self) -> PanoramaSegmenter:
        if self._segmenter is None:
            raise UsageError("no picture is open: drop a panorama on the page first")
        return self._segmenter
