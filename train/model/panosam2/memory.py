"""The long-short memory module (PanoSAM2 §3.2, Algorithm 1).

Object pointers of old frames modulate the recent memories.

`sample_by_occlusion` draws the long-term frames: N times without replacement, with chance ∝
exp(occlusion score), by inverting the cumulative sum of the weights. `LongShortMemory` then
computes, per object, with long pointers P_l (N×C) and the pointers P_s (S×C) and spatial memories
M_s (S×HW×D) of the recent frames that SAM2 remembers,

    A = softmax(P_l P_sᵀ / √C)  (N×S)      M̃_s = S · mean_n(A_ns) · M_s  (S×HW×D)
    γ, β = FFN(mean_n P_l)  (D)            M_l = (1 + γ) ⊙ M̃_s + β  (S×HW×D)

γ and β broadcast over the spatial and the short-term dimension (FiLM). M_l takes the place of M_s
in what SAM2 attends to, so the attention has as many spatial tokens as SAM2's; P_l joins the object
pointers. No dense memory of an old frame is kept.

Left open by the paper and chosen here: a frame's weight is its mean similarity to the N long
pointers. The S weights have a mean of 1: where all frames are alike, M̃_s is M_s. FFN sees the mean
of the long pointers, as one γ and one β serve all S frames. It has one hidden layer of C and ends
in zeros, so M_l starts as M̃_s. The memories of prompted frames are no short-term ones and stay as
they are. The module has no other parameters than FFN's.
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
    """The bank of `size` N frames and what modulates recent memories by it.

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

    def forward(
        self, long_pointers: Tensor, short_pointers: Tensor, short_memories: Tensor
    ) -> Tensor:
        """N×B×C, S×B×C and S×B×D×H×W → the pseudo long-term memories, S×B×D×H×W."""
        similarity = (
            torch.einsum("nbc,sbc->bns", long_pointers, short_pointers)
            / long_pointers.shape[-1] ** 0.5
        )
        weights = len(short_pointers) * similarity.softmax(dim=-1).mean(dim=1).T  # S×B
        scale, shift = self.film(long_pointers.mean(dim=0))[None, :, :, None, None].chunk(2, dim=2)
        return (1 + scale) * (weights[:, :, None, None, None] * short_memories) + shift
