"""What a method is: a name, and the frames that it shows of a panorama."""

from collections.abc import Callable
from dataclasses import dataclass

from panoforge.eval.config import EvalConfig, ZoomConfig
from panoforge.eval.views.frames import Projection


@dataclass(frozen=True)
class Plan:
    """The frames of a method over one panorama size.

    `video`: masks propagate from frame to frame; otherwise every frame is its own image and only
    frames that see a click say anything. `cycles`: how often a video is shown; the last showing's
    masks count. `bidirectional`: a video is also run backwards, and what both runs say is merged.
    `reach_deg`: how far from its prompts a video's frames are asked about an object; None: all are.
    `zoom`: every instance is looked at again (`panoforge.eval.segmentation.zoom`), in views of
    `zoom_size_px`.
    """

    projections: tuple[Projection, ...]
    video: bool
    cycles: int = 1
    bidirectional: bool = False
    reach_deg: float | None = None
    zoom: ZoomConfig | None = None
    zoom_size_px: int = 0


@dataclass(frozen=True)
class Method:
    """`plan(width, height, config)` must cover every pixel of the panorama."""

    name: str
    summary: str
    plan: Callable[[int, int, EvalConfig], Plan]
