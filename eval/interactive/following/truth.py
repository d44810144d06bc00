"""Objects followed by the true ids of the frames: for teaching, and to try the page."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.types import Labels, Mask
from panoforge.eval.interactive.frames import Frames


class TruthFollowing:
    """Needs labels whose ids are the same on every frame, as DAVIS has them."""

    words = "the true ids of the frames"

    def follow(
        self, frames: Frames, order: Sequence[int], masks: Mapping[int, Mask]
    ) -> Iterator[dict[int, Mask]]:
        """As `Following`: the labelled thing of which a mask covers most."""
        first = frames.labels(order[0])
        if first is None:
            raise UsageError(f"frame {order[0]} has no labels: the predictor is ground truth")
        ids = {id_: _most(first, mask, id_) for id_, mask in masks.items()}
        for number in order[1:]:
            labels = frames.labels(number)
            found = {} if labels is None else {id_: labels == true for id_, true in ids.items()}
            yield {id_: mask for id_, mask in found.items() if mask.any()}


def _most(labels: Labels, mask: Mask, id_: int) -> int:
    counts = np.bincount(labels[mask], minlength=2)
    counts[0] = 0
    if not counts.any():
        raise UsageError(f"the labels hold nothing where object {id_} is")
    return int(counts.argmax())
