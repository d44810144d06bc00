"""Methods: how a panorama is shown to a model. One file each, one interface, found by `get_method`.

A method turns a panorama's size and the config into a tuple of projections, in the order in which a
video model should see them, and says whether they are one video or so many single images. All the
rest (sampling, prompts, prediction, merging) is the same for all methods, in
`panoforge.eval.segmentation.segment`: what differs between two rows of the score table is this.
"""

from collections.abc import Callable
from dataclasses import dataclass

from panoforge.eval.config import EvalConfig, ZoomConfig
from panoforge.eval.views.frames import Projection


@dataclass(frozen=True)
class Plan:
    """The frames of a method over one panorama size. `video`: masks propagate from frame to frame;
    otherwise every frame is its own image and only frames that see a click say anything.
    `bidirectional`: a video is also run backwards, and what both runs say is merged. `zoom`: every
    instance is looked at again (`panoforge.eval.segmentation.zoom`), in views of `zoom_size_px`.
    """

    projections: tuple[Projection, ...]
    video: bool
    bidirectional: bool = False
    zoom: ZoomConfig | None = None
    zoom_size_px: int = 0


@dataclass(frozen=True)
class Method:
    """`plan(width, height, config)` must cover every pixel of the panorama."""

    name: str
    summary: str
    plan: Callable[[int, int, EvalConfig], Plan]


def get_method(name: str) -> Method:
    """The method called `name` (config validation has already refused unknown names)."""
    from panoforge.eval.views.methods import direct, patches, scan

    return {method.name: method for module in (direct, patches, scan) for method in module.METHODS}[
        name
    ]
