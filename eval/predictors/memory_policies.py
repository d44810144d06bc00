"""What of a video an object's memory keeps and recalls: policies behind one interface.

The interface is `panoforge.eval.predictors.object_memory.MemoryPolicy`.

    sam2                the prompted frames, the six frames before, and fifteen pointers
    panosam2            the same, modulated by pointers of old frames (`model` has the module)
    distractor_aware    the prompted frames, three anchors in which a rival was told apart, and
                        three recent frames, five apart, with the object in them (Videnovic et al.,
                        CVPR 2025)

A policy keeps what a frame said (`remember`), drops what no later frame can reach (`forget`), and
gives slots and pointers to attend to (`spatial`, `pointers`). `object_memory.recall` lays them out.
All keep a bounded number of dense memories. `panosam2` keeps a pointer and a score of each frame as
well, 1 kB.

Of the distractor-aware memory the rules and thresholds are the paper's. An anchor's mask is
predicted to overlap by 0.8 or more, and its area is within 0.2 of the median of ten. Its runner-up
mask is elsewhere: the box of the answer is under 0.7 of the box of both. It needs a model that
gives three masks while it tracks. All official ones do; `micro` does not and has no anchors.
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from panoforge.core.types import Mask
from panoforge.eval.predictors.object_memory import ObjectMemory, Said, Slot
from panoforge.train.model.panosam2.memory import sample_frames


@dataclass
class Sam2Memory:
    """SAM2's own."""

    model: Any
    name: str = "sam2"

    def remember(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """Keep what frame `t` said."""
        memory.recent[t], memory.recent_pointer[t] = said.spatial, said.pointer

    def prompted(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """Keep it for the whole video."""
        memory.conditioning[t], memory.conditioning_pointer[t] = said.spatial, said.pointer

    def forget(self, memory: ObjectMemory, t: int) -> None:
        """Drop what frame `t` and later ones cannot reach."""
        memory.forget(t, self.model.num_maskmem - 1, self.model.max_obj_ptrs_in_encoder - 1)

    def spatial(self, memory: ObjectMemory, t: int, like: Tensor) -> list[Slot]:
        """All prompted frames, then the recent ones from the oldest on."""
        last = self.model.num_maskmem - 1
        return [
            *(Slot(own, last) for own in memory.conditioning.values()),
            *(Slot(memory.recent[s], t - s - 1) for s in sorted(memory.recent)),
        ]

    def pointers(self, memory: ObjectMemory, t: int) -> list[tuple[Tensor, int]]:
        """Those of prompted frames up to now, then of recent ones from the newest on."""
        past = [c for c in memory.conditioning_pointer if c <= t]
        near = sorted(memory.recent_pointer, reverse=True)
        return [
            *((memory.conditioning_pointer[c], t - c) for c in past),
            *((memory.recent_pointer[s], t - s) for s in near),
        ]


@dataclass
class PanoSam2Memory(Sam2Memory):
    """PanoSAM2's long-short memory, as `panoforge.train.model.panosam2.parts` has it."""

    name: str = "panosam2"

    def remember(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """As SAM2, and the pointer and score of every frame."""
        super().remember(memory, t, said)
        memory.history[t] = (said.pointer, said.score)

    def prompted(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """As SAM2, and its pointer and score."""
        super().prompted(memory, t, said)
        memory.history[t] = (said.pointer, said.score)

    def _chosen(self, memory: ObjectMemory, t: int) -> list[int]:
        """The long-term frames of frame `t`."""
        past = sorted(s for s in memory.history if s < t)
        if not past:
            return []
        scores = torch.tensor([[memory.history[s][1]] for s in past])
        module = self.model.panosam2["memory"]
        picked = sample_frames(scores, int(module.size), (self.model.sampling_seed, t))
        return [past[int(k)] for k in picked[:, 0]]

    def spatial(self, memory: ObjectMemory, t: int, like: Tensor) -> list[Slot]:
        """As SAM2, the recent ones modulated."""
        own = super().spatial(memory, t, like)
        chosen, recent = self._chosen(memory, t), sorted(memory.recent)
        if not chosen or not recent:
            return own
        kept = len(memory.conditioning)
        dense = torch.stack([slot.spatial.T[None, :, :, None].to(like) for slot in own[kept:]])
        changed = self.model.panosam2["memory"](
            torch.stack([memory.history[s][0][None].to(like) for s in chosen]),
            torch.stack([memory.history[s][0][None].to(like) for s in recent]),
            dense,
        )
        slots = zip(own[kept:], changed[:, 0, :, :, 0], strict=True)
        return [*own[:kept], *(Slot(new.T, slot.age) for slot, new in slots)]

    def pointers(self, memory: ObjectMemory, t: int) -> list[tuple[Tensor, int]]:
        """As SAM2, and those of the long-term frames."""
        long = [(memory.history[s][0], t - s) for s in self._chosen(memory, t)]
        return [*super().pointers(memory, t), *long]


@dataclass
class DistractorAwareMemory(Sam2Memory):
    """Anchors that tell rivals apart, and few recent frames with the object in them."""

    name: str = "distractor_aware"
    slots: int = 3  # of anchors, and of recent frames
    apart: int = 5
    least_quality: float = 0.8
    most_change: float = 0.2
    areas: int = 10
    rival: float = 0.7

    def remember(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """Keep it if the object is there: as the newest, and as an anchor if it tells apart."""
        memory.recent_pointer[t] = said.pointer
        if said.score <= 0 or not bool((said.mask > 0).any()):
            return
        memory.recent[t] = said.spatial
        if self._anchors(memory, said):
            memory.anchors[t] = said.spatial
            for old in sorted(memory.anchors)[: -self.slots]:
                del memory.anchors[old]
        memory.last_areas = [*memory.last_areas, int((said.mask > 0).sum())][-self.areas :]

    def _anchors(self, memory: ObjectMemory, said: Said) -> bool:
        if said.others is None or said.quality is None or not memory.last_areas:
            return False
        usual = median(memory.last_areas)
        area = int((said.mask > 0).sum())
        sure = float(said.quality.max()) >= self.least_quality
        steady = abs(area - usual) <= self.most_change * usual
        return sure and steady and has_rival(said, self.rival)

    def forget(self, memory: ObjectMemory, t: int) -> None:
        """Keep the newest frame and, five apart, those before it."""
        kept = self._spread(sorted(memory.recent, reverse=True))
        for s in [s for s in memory.recent if s not in kept]:
            del memory.recent[s]
        reach = self.model.max_obj_ptrs_in_encoder - 1
        for s in [s for s in memory.recent_pointer if s < t - reach]:
            del memory.recent_pointer[s]

    def _spread(self, newest_first: list[int]) -> set[int]:
        """The newest, and every frame of the last that is a multiple of `apart`."""
        rest = [s for s in newest_first[1:] if s % self.apart == 0]
        return {*newest_first[:1], *rest[: self.slots - 1]}

    def spatial(self, memory: ObjectMemory, t: int, like: Tensor) -> list[Slot]:
        """Prompted frames and anchors without an age, then the recent ones by their order."""
        last = self.model.num_maskmem - 1
        recent = sorted(memory.recent)
        return [
            *(Slot(own, last) for own in memory.conditioning.values()),
            *(Slot(memory.anchors[s], last) for s in sorted(memory.anchors)),
            *(Slot(memory.recent[s], len(recent) - 1 - k) for k, s in enumerate(recent)),
        ]


def has_rival(said: Said, share: float) -> bool:
    """Whether the runner-up mask is elsewhere than the answer.

    The area of the box around the answer over that around both it and the runner-up's largest
    piece is under `share`.
    """
    assert said.others is not None and said.quality is not None
    order = torch.argsort(said.quality, descending=True).tolist()
    answer = (said.mask > 0).cpu().numpy()
    for k in order[1:]:
        other = largest_piece((said.others[k] > 0).cpu().numpy())
        if other.any() and box_area(answer) < share * box_area(answer | other):
            return True
    return False


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of a bool mask."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 3:
        return mask
    return pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def box_area(mask: Mask) -> int:
    """Pixels of the smallest box around a bool mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)) if len(rows) else 0


POLICIES: dict[str, type[Sam2Memory]] = {
    "sam2": Sam2Memory,
    "panosam2": PanoSam2Memory,
    "distractor_aware": DistractorAwareMemory,
}


def policy_of(name: str, model: Any) -> Sam2Memory:
    """The policy called `name` for a model."""
    return POLICIES[name](model)
