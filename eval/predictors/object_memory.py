"""What SAM2 remembers of each object along a video, and how it is laid out for memory attention.

Conditioning frames are kept for the whole video; of the others only as many as attention reaches.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

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

    def forget(self, frame: int, memories: int, pointers: int) -> None:
        """Drop what `frame` and later frames cannot reach."""
        for store, reach in ((self.recent, memories), (self.recent_pointer, pointers)):
            for old in [t for t in store if t < frame - reach]:
                del store[old]


def batches(
    model: Any, t: int, objects: Sequence[int], memories: Sequence[ObjectMemory], max_batch: int
) -> Iterator[list[int]]:
    """Objects that attend to equally many memories and pointers at frame `t`.

    At most `max_batch` at a time.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k in objects:
        memories[k].forget(t, model.num_maskmem - 1, model.max_obj_ptrs_in_encoder - 1)
        pointers = len(memories[k].recent_pointer) + sum(c <= t for c in memories[k].conditioning)
        groups[len(memories[k].conditioning) + len(memories[k].recent), pointers].append(k)
    for group in groups.values():
        for start in range(0, len(group), max_batch):
            yield group[start : start + max_batch]


def recall(
    modules: Sam2Modules,
    t: int,
    n_frames: int,
    features: EncodedFrame,
    batch: Sequence[ObjectMemory],
) -> tuple[Tensor, Tensor, int]:
    """Memory tokens L×B×C', their position encodings, and how many of the last are object pointers.

    They lie as SAM2Base._prepare_memory_conditioned_features lays them out.
    """
    model = modules.model
    spatial, age = [], []
    pointer, distance = [], []
    for memory in batch:
        recent = sorted(memory.recent)
        spatial.append(
            torch.stack([*memory.conditioning.values(), *(memory.recent[s] for s in recent)])
        )
        age.append([model.num_maskmem - 1] * len(memory.conditioning) + [t - s - 1 for s in recent])
        past = [c for c in memory.conditioning_pointer if c <= t]
        near = sorted(memory.recent_pointer, reverse=True)
        pointer.append(
            [
                *(memory.conditioning_pointer[c] for c in past),
                *(memory.recent_pointer[s] for s in near),
            ]
        )
        distance.append([t - s for s in (*past, *near)])
    tokens = torch.stack(spatial)  # B×slots×HW×C'
    b, slots, area, channels = tokens.shape
    tokens = tokens.permute(1, 2, 0, 3).reshape(slots * area, b, channels).to(features.top.dtype)
    when = model.maskmem_tpos_enc[torch.tensor(age, device=tokens.device)].reshape(
        b, slots, 1, channels
    )
    place = (
        (modules.mask_position[None, None] + when)
        .permute(1, 2, 0, 3)
        .reshape(slots * area, b, channels)
    )
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
