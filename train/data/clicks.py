"""SAP's prompt: one click per object, chosen on the sphere.

It is projected into each frame of the clip that sees it.

A user clicks a panorama once; the scan shows that point in several frames. `sphere_clicks` draws a
pixel of the object in the clip's first frame (uniformly, as SAM2 draws its first click), takes its
direction, and gives its place in every frame. `ClickMetaData` carries the places through SAM2's own
batch, which has no field for them. `prompted_frames` says where they become prompts: in frames in
which every object that is in view shows its click. In the others (an object's edge is still in
view, its click is not) the model must go by memory, as it does after a click in use.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import tensorclass
from torch import Tensor
from training.utils.data_utils import BatchedVideoDatapoint, Object, VideoDatapoint

from panoforge.core.geometry.sphere import View, direction_to_view_pixel, view_pixel_to_direction
from panoforge.core.types import Floats
from panoforge.train.data.plan import ClipPlan
from panoforge.train.data.warp import unwarp_places, warp_places

PixelXY = tuple[float, float]  # x, y in pixels of a frame; integers are centres
CLICK_LABEL, NO_CLICK_LABEL = (
    1,
    -1,
)  # sam2.modeling.sam.prompt_encoder: a positive point, "not a point"


@dataclass
class ClickedObject(Object):
    """An object of a frame with the place of its click; None where the frame does not see it."""

    click: PixelXY | None = None


@tensorclass
class ClickMetaData:
    """SAM2's BatchedVideoMetaData and the clicks, T×O×2 (x, y).

    NaN where a frame does not see them.
    """

    unique_objects_identifier: torch.LongTensor
    frame_orig_size: torch.LongTensor
    clicks: torch.Tensor


@dataclass
class LookedAtObject(ClickedObject):
    """An object of a closer look.

    `places` h×w×2: where in the frame before each of its logits lies, normalised; beyond [−1, 1]
    outside of it.
    """

    places: NDArray[np.float32] | None = None


@tensorclass
class LookMetaData:
    """As ClickMetaData, and the places of looks, T×O×h×w×2; NaN on frames that are none."""

    unique_objects_identifier: torch.LongTensor
    frame_orig_size: torch.LongTensor
    clicks: torch.Tensor
    places: torch.Tensor


def sphere_clicks(
    masks: Sequence[NDArray[np.bool_]],
    views: Sequence[View],
    rng: np.random.Generator,
    plan: ClipPlan,
) -> list[PixelXY | None]:
    """The click of one object in each frame.

    `masks`: its S×S mask in each; the first shows it. A frame sees the click where it falls on the
    object: rounding may put it just beside. The plan's affine warp is undone and done again on the
    way; its tilt is the same for all frames and drops out.
    """

    def places(first: PixelXY) -> Iterator[Floats]:
        plain = unwarp_places(np.array(first), plan, views[0].size_px)
        direction = view_pixel_to_direction(plain[0], plain[1], views[0])
        for view in views[1:]:
            plain = np.stack(direction_to_view_pixel(direction, view)[:2])
            yield warp_places(plain, plan, view.size_px)

    return drawn_clicks(masks, rng, places)


def drawn_clicks(
    masks: Sequence[NDArray[np.bool_]],
    rng: np.random.Generator,
    places: Callable[[PixelXY], Iterable[Floats]],
) -> list[PixelXY | None]:
    """A pixel of the first S×S mask, drawn uniformly, and where the others show it.

    None where it is not inside, or not on the mask. `places` gives it in each of the others, NaN
    behind them.
    """
    rows, columns = np.nonzero(masks[0])
    pick = int(rng.integers(rows.size))
    first = float(columns[pick]), float(rows[pick])
    found: list[PixelXY | None] = [first]
    for mask, (x, y) in zip(masks[1:], places(first), strict=True):
        limit = len(mask) - 1
        inside = -0.5 <= x <= limit + 0.5 and -0.5 <= y <= limit + 0.5
        seen = (
            inside
            and mask[min(max(round(float(y)), 0), limit), min(max(round(float(x)), 0), limit)]
        )
        found.append((float(x), float(y)) if seen else None)
    return found


def with_clicks(
    batch: BatchedVideoDatapoint, clips: Sequence[VideoDatapoint]
) -> BatchedVideoDatapoint:
    """The batch of `clips`, carrying their clicks."""
    nowhere = (float("nan"), float("nan"))
    places = [
        [o.click or nowhere for clip in clips for o in clip.frames[t].objects]
        for t in range(batch.num_frames)
    ]
    plain = batch.metadata
    own: dict[str, Any] = {
        "unique_objects_identifier": plain.unique_objects_identifier,
        "frame_orig_size": plain.frame_orig_size,
        "clicks": torch.tensor(places, dtype=torch.float32),
        "batch_size": plain.batch_size,
    }
    looks = [
        [getattr(o, "places", None) for clip in clips for o in clip.frames[t].objects]
        for t in range(batch.num_frames)
    ]
    shown = next((p for frame in looks for p in frame if p is not None), None)
    if shown is None:
        batch.metadata = ClickMetaData(**own)
    else:
        none = np.full_like(shown, np.nan)
        rows = [np.stack([none if p is None else p for p in frame]) for frame in looks]
        batch.metadata = LookMetaData(**own, places=torch.from_numpy(np.stack(rows)))
    return batch


def clicks_of(batch: Any) -> Tensor | None:
    """The clicks of a batch, T×O×2; None where it has none (images and videos without a sphere)."""
    known = isinstance(batch.metadata, ClickMetaData | LookMetaData)
    return batch.metadata.clicks if known else None


def places_of(batch: Any) -> Tensor | None:
    """The places of a batch of looks, T×O×h×w×2; None for all others."""
    return batch.metadata.places if isinstance(batch.metadata, LookMetaData) else None


def prompted_frames(clicks: Tensor, masks: Tensor) -> list[int]:
    """Frames in which all objects in view show their click, and there is one.

    `clicks` T×O×2, `masks` T×O×S×S.
    """
    seen, in_view = ~clicks.isnan().any(dim=2), masks.flatten(2).any(dim=2)
    return torch.nonzero((seen | ~in_view).all(dim=1) & seen.any(dim=1)).flatten().tolist()


def click_prompt(clicks: Tensor) -> dict[str, Tensor]:
    """SAM2's point inputs (coordinates O×1×2, labels O×1) of one frame's clicks, O×2.

    Padding for those not seen.
    """
    seen = ~clicks.isnan().any(dim=1)
    labels = torch.where(seen, CLICK_LABEL, NO_CLICK_LABEL).to(torch.int32)
    return {"point_coords": clicks.nan_to_num(0.0)[:, None], "point_labels": labels[:, None]}
