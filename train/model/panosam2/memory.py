"""The long-short memory module (PanoSAM2 §3.2, Algorithm 1).

Object pointers of old frames realign the recent memories.

`sample_by_occlusion` draws the long-term frames: N times without replacement, with chance ∝
exp(occlusion score), by inverting the cumulative sum of the weights. `LongShortMemory` then
computes, per object, with long pointers P_l (N×C) and the pointers P_s (S×C) and spatial memories
M_s (S×HW×D) of the frames that SAM2 remembers,

    A = softmax(P_l P_sᵀ / √C)  (N×S)      M̃ = A M_s  (N×HW×D)
    γ, β = FFN(P_l)  (N×D)                 M_l = (1 + γ) ⊙ M̃ + β

γ and β broadcast over space (FiLM). M_l joins the memories that SAM2 attends to, P_l its object
pointers. No dense memory of an old frame is kept.

Left open by the paper and chosen here: M̃ sums over the short-term frames, so N pseudo memories
come out and the attention grows by N·HW tokens. The FFN has one hidden layer of C and ends in
zeros, so M_l starts as M̃.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def sample_by_occlusion(
    scores: NDArray[np.floating], size: int, rng: np.random.Generator
) -> list[int]:
    """Up to `size` different positions of `scores` (F,), the higher the likelier (Algorithm 1)."""
    weights = (
        np.exp(np.asarray(scores, np.float64) - np.max(scores)) if len(scores) else np.zeros(0)
    )
    left = list(range(len(weights)))
    chosen: list[int] = []
    while left and len(chosen) < size:
        cumulative = np.cumsum(weights[left])
        at = min(
            int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")),
            len(left) - 1,
        )
        chosen.append(left.pop(at))
    return chosen


def sample_frames(scores: Tensor, size: int, seed: Sequence[int]) -> Tensor:
    """The long-term frames of each of B objects from their occlusion scores (F×B).

    Positions, min(size, F)×B.
    """
    table = scores.detach().float().cpu().numpy()
    rng = np.random.default_rng(list(seed))
    columns = [sorted(sample_by_occlusion(table[:, b], size, rng)) for b in range(table.shape[1])]
    return torch.tensor(columns, device=scores.device).T


class LongShortMemory(nn.Module):
    """The bank of `size` N frames and what realigns recent memories by it.

    `channels` C of object pointers, `memory_channels` D of spatial memories.
    """

    size: Tensor

    def __init__(self, channels: int, memory_channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer(
            "size", torch.tensor(size)
        )  # in the state dict: a checkpoint says how it was trained
        last = nn.Linear(channels, 2 * memory_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.film = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)
        self.age = nn.Parameter(
            torch.zeros(1, 1, memory_channels)
        )  # beside SAM2's temporal encodings of its own memories

    def forward(
        self, long_pointers: Tensor, short_pointers: Tensor, short_memories: Tensor
    ) -> Tensor:
        """N×B×C, S×B×C and S×HW×B×D → the pseudo long-term memories, N×HW×B×D."""
        similarity = (
            torch.einsum("nbc,sbc->bns", long_pointers, short_pointers)
            / long_pointers.shape[-1] ** 0.5
        )
        mixed = torch.einsum("bns,slbd->nlbd", similarity.softmax(dim=-1), short_memories)
        scale, shift = self.film(long_pointers).unsqueeze(1).chunk(2, dim=-1)  # N×1×B×D each
        return (1 + scale) * mixed + shift
