"""One sequence whose truth is boxes, scored as 360VOT scores trackers.

The prompt is the object's box in the first frame that has it; the boxes around the predicted masks
are scored.

`score_boxes(track, predictor, image_size)` shows the frames as `panoforge.eval.videos.objects` does
and gives the tracking scores of `panoforge.eval.videos.tracks` for the model and for the ceiling.
The ceiling is the true box cut out at the resolution of the model's logits. It has no S_sphere,
because a BFoV cannot be had from a box. As in the toolkit, the frame of the prompt counts, with the
box that was given. A box over the seam is two rectangles in a frame; SAM2 takes one, so it gets the
wider.
"""

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import edge_to_index
from panoforge.core.types import Floats
from panoforge.eval.benchmarks.base import TrackItem
from panoforge.eval.predictors import BOX_LABELS, ObjectPrompt, Predictor
from panoforge.eval.videos.objects import (
    ObjectScores,
    ScoredVideo,
    at_logit_size,
    enlarge,
    read_frame,
    video_frames,
)
from panoforge.eval.videos.tracks import TrackBounds, mask_bounds, mask_box, track_scores


def score_boxes(track: TrackItem, predictor: Predictor, image_size: int) -> ScoredVideo:
    """The scores of the model and of the ceiling. DataError if no frame has the object."""
    if not track.present.any():
        raise DataError(
            f"{track.key} has no frame with the object, so there is nothing to follow: leave it out"
        )
    start = int(np.argmax(track.present))
    height, width = read_frame(track.images[start]).shape[:2]
    n = len(track.images)
    found = [np.zeros((n, parts)) for parts in (4, 5, 5, 5)]
    true = TrackBounds(track.boxes, track.bfovs, track.rotated_boxes, track.rotated_bfovs)
    coarse = np.zeros((n, 4))
    prompt = ObjectPrompt(
        1, {start: (box_corners(track.boxes[start], width, height, image_size), BOX_LABELS)}
    )
    for said in predictor.predict(video_frames(track.images, image_size), [prompt]):
        for logits in said.logits.cpu().numpy():  # of the one object, or of none
            mask = enlarge(logits, (height, width))
            for rows, bound in zip(found, mask_bounds(mask), strict=True):
                rows[said.frame] = bound
    for rows, given in zip(found, true, strict=True):
        if given is not None:
            rows[start] = given[start]
    for t in np.flatnonzero(track.present).tolist():
        coarse[t] = mask_box(at_logit_size(box_mask(track.boxes[t], width, height), image_size))
    ceiling = TrackBounds(coarse, np.zeros((n, 5)))
    scores = {
        "model": track_scores(TrackBounds(*found), true, track.present, width, height),
        "ceiling": track_scores(
            ceiling, TrackBounds(track.boxes, ceiling.bfovs), track.present, width, height
        ),
    }
    return ScoredVideo(
        [
            ObjectScores(track.key, 1, role, int(track.present.sum()), tracking=found)
            for role, found in scores.items()
        ]
    )


def box_corners(box: Floats, width: int, height: int, size_px: int) -> Floats:
    """The corners of a box on the panorama in a frame of size_px².

    x1, y1, w, h → its upper left and lower right corner (2, 2), as continuous pixel indices. Of a
    box over the seam the wider part.
    """
    x, y, w, h = box.tolist()
    left = x % width
    right = left + min(w, width)
    if right > width:
        left, right = (
            (left, float(width)) if width - left >= right - width else (0.0, right - width)
        )
    corners = np.array(
        [[left / width, max(y, 0.0) / height], [right / width, min(y + h, height) / height]]
    )
    return edge_to_index(corners * size_px)


def box_mask(box: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels (bool H×W) whose centres are in a box x1, y1, w, h that may run over the seam.

    At least one.
    """
    x, y, w, h = box.tolist()
    mask = np.zeros((height, width), bool)
    columns = np.arange(round(x), max(round(x + w), round(x) + 1)) % width
    first = min(max(round(y), 0), height - 1)
    mask[first : max(min(round(y + h), height), first + 1), columns] = True
    return mask
