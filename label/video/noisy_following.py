"""Masks carried through videos by true ids, with stated faults: a stand-in for SAM2, and no SAM2.

It needs frames that have labels. What it gets wrong is set. Outlines are off by up to `edge_px`. On
the share `lost` of frames an object is not found though it is there. On the share `drift` the
outline grows or shrinks for good. Its answers depend on its seed, the object
and the frame alone. Tests, the demo and bench/annotate.py use it and say so.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.types import Labels, Mask
from panoforge.eval.interactive.frames import Frames
from panoforge.label.outlines import grown


@dataclass
class NoisyTruthFollowing:
    """A `Following`; objects of which the labels know nothing are not found again."""

    edge_px: int = 0
    lost: float = 0.0
    drift: float = 0.0
    seed: int = 0

    words: str = field(init=False)

    def __post_init__(self) -> None:
        self.words = (
            f"true ids with stated faults, no model: outlines off by up to {self.edge_px} px, not"
            f" found on {self.lost:.0%} of frames, {self.drift:.0%} of frames drift for good"
        )

    def follow(
        self, frames: Frames, order: Sequence[int], masks: Mapping[int, Mask]
    ) -> Iterator[dict[int, Mask]]:
        """As `Following`: the labelled thing of which a mask covers most.

        Raises:
            UsageError: the frames have no labels.
        """
        first = frames.labels(order[0])
        if first is None:
            raise UsageError(
                f"{frames.names[order[0]]} has no true ids: follow: noisy_truth is for datasets of"
                " ours; set follow: edges, or follow: sam2 with a checkpoint"
            )
        true = {id_: most(first, mask) for id_, mask in masks.items()}
        off = dict.fromkeys(masks, 0)
        for number in order[1:]:
            labels = frames.labels(number)
            found: dict[int, Mask] = {}
            for id_, own in true.items():
                rng = np.random.default_rng(
                    [self.seed, own, number, zlib.crc32(frames.sha256.encode())]
                )
                lost, drifts = rng.random() < self.lost, rng.random() < self.drift
                off[id_] += int(rng.integers(-1, 2)) * self.edge_px * drifts
                edge = off[id_] + int(rng.integers(-self.edge_px, self.edge_px + 1))
                if own and labels is not None and not lost:
                    mask = grown(labels == own, edge)
                    if mask.any():
                        found[id_] = mask
            yield found


def most(labels: Labels, mask: Mask) -> int:
    """The true id that most of a mask lies on; 0 where there is none."""
    counts = np.bincount(labels[mask], minlength=2)
    counts[0] = 0
    return int(counts.argmax()) if counts.any() else 0
