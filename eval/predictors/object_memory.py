"""What SAM2 remembers of each object along a video, and how it is laid out for memory attention.

Conditioning frames are kept for the whole video; of the others what a policy keeps
(`panoforge.eval.predictors.memory_policies`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from panoforge.eval.predictors.sam2_modules import EncodedFrame, Sam2Modules


@dataclass
class ObjectMemory:
    """What one object remembers, by frame.

    `conditioning` and `recent` are HW×C' memories in bfloat16 (as SAM2 keeps them), the pointers
    (C,) vectors. Conditioning frames are kept, others dropped when they are out of reach.
    """

    conditioning: dict[int, Tensor] = field(default_factory=dict)
    conditioning_pointer: dict[int, Tensor] = field(default_factory=dict)
    recent: dict[int, Tensor] = field(default_factory=dict)
    recent_pointer: dict[int, Tensor] = field(default_factory=dict)
    history: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # pointers and scores
    anchors: dict[int, Tensor] = field(default_factory=dict)
    last_areas: list[int] = field(default_factory=list)
    last_mask: tuple[int, Tensor] | None = None  # of the last frame, 1×h×w logits

    def forget(self, frame: int, memories: int, pointers: int) -> None:
        """Drop what `frame` and later frames cannot reach."""
        for store, reach in ((self.recent, memories), (self.recent_pointer, pointers)):
            for old in [t for t in store if t < frame - reach]:
                del store[old]


class Said(NamedTuple):
    """What was said of one object in a frame that it was tracked into, or prompted in.

    `spatial` HW×C' bfloat16, `pointer` C, `score` of its presence, `mask` h×w logits. `others`
    M×h×w are the candidates and `quality` M their predicted IoUs; none where there was one mask.
    """

    spatial: Tensor
    pointer: Tensor
    score: float
    mask: Tensor
    others: Tensor | None = None
    quality: Tensor | None = None


class Slot(NamedTuple):
    """A dense memory HW×C' and the index of its temporal encoding."""

    spatial: Tensor
    age: int


class MemoryPolicy(Protocol):
    """What of a video an object keeps and recalls."""

    name: str

    def remember(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """Keep what frame `t` said."""

    def prompted(self, memory: ObjectMemory, t: int, said: Said) -> None:
        """Keep what a prompted frame said."""

    def forget(self, memory: ObjectMemory, t: int) -> None:
        """Drop what frame `t` and later ones cannot reach."""

    def spatial(self, memory: ObjectMemory, t: int, like: Tensor) -> list[Slot]:
        """The slots that frame `t` attends to; `like` has its dtype and device."""

    def pointers(self, memory: ObjectMemory, t: int) -> list[tuple[Tensor, int]]:
        """The pointers that frame `t` attends to, with their ages in frames."""


@dataclass(frozen=True)
class Recalled:
    """What one object attends to in a frame."""

    spatial: list[Slot]
    pointers: list[tuple[Tensor, int]]
    previous_mask: Tensor | None  # 1×h×w logits of the frame before

    @property
    def shape(self) -> tuple[int, int, bool]:
        """Objects of one shape can be one batch."""
        return len(self.spatial), len(self.pointers), self.previous_mask is None


def recalled(policy: MemoryPolicy, memory: ObjectMemory, t: int, like: Tensor) -> Recalled:
    """What an object attends to in frame `t`; what no later frame can reach is dropped."""
    policy.forget(memory, t)
    last = memory.last_mask
    return Recalled(
        policy.spatial(memory, t, like),
        policy.pointers(memory, t),
        last[1] if last is not None and last[0] == t - 1 else None,
    )


def batches(
    objects: Mapping[int, Recalled], max_batch: int
) -> Iterator[tuple[list[int], list[Recalled]]]:
    """Objects that attend to equally much. At most `max_batch` at a time."""
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for k, own in objects.items():
        groups[own.shape].append(k)
    for group in groups.values():
        for start in range(0, len(group), max_batch):
            some = group[start : start + max_batch]
            yield some, [objects[k] for k in some]


def recall(
    modules: Sam2Modules, n_frames: int, features: EncodedFrame, batch: Sequence[Recalled]
) -> tuple[Tensor, Tensor, int]:
    """Memory tokens L×B×C', their position encodings, and how many of the last are object pointers.

    They lie as SAM2Base._prepare_memory_conditioned_features lays them out.
    """
    model = modules.model
    spatial = [torch.stack([slot.spatial.to(features.top) for slot in o.spatial]) for o in batch]
    age = [[slot.age for slot in own.spatial] for own in batch]
    pointer = [[p.to(features.top) for p, _ in own.pointers] for own in batch]
    distance = [[far for _, far in own.pointers] for own in batch]
    tokens = torch.stack(spatial)  # B×slots×HW×C'
    b, slots, area, channels = tokens.shape
    tokens = tokens.permute(1, 2, 0, 3).reshape(slots * area, b, channels)
    when = model.maskmem_tpos_enc[torch.tensor(age, device=tokens.device)]
    when = when.reshape(b, slots, 1, channels).permute(1, 2, 0, 3)
    place = (modules.mask_position[None, :, None] + when).reshape(slots * area, b, channels)
    if not distance[0]:
        return tokens, place, 0
    pointers = torch.stack([torch.stack(p) for p in pointer], dim=1)  # P×B×C
    pointers, far = _pointer_tokens(model, pointers, distance, n_frames)
    return torch.cat([tokens, pointers]), torch.cat([place, far]), len(pointers)


def _pointer_tokens(
    model: Any, pointers: Tensor, distance: list[list[int]], n_frames: int
) -> tuple[Tensor, Tensor]:
    """P×B×C pointers → (P·C/C')×B×C' tokens and their temporal encodings."""
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    count, b, width = pointers.shape
    reach = min(n_frames, model.max_obj_ptrs_in_encoder) - 1
    steps = torch.tensor(distance, device=pointers.device).T  # P×B
    far = get_1d_sine_pe(
        (steps / max(reach, 1)).reshape(-1),
        dim=width if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim,
    )
    far = model.obj_ptr_tpos_proj(far).reshape(count, b, model.mem_dim)
    split = width // model.mem_dim
    tokens = pointers.reshape(count, b, split, model.mem_dim).permute(0, 2, 1, 3).flatten(0, 1)
    return tokens, far.repeat_interleave(split, dim=0)
