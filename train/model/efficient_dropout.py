"""Dropout of the memory attention that keeps less for the backward pass.

SAM2's numbers to the bit, a fraction of the memory.

With autograd, dropout after a ReLU keeps three tensors of N×4·C: the ReLU's output, the scaled
noise, their product. Dropout of attention weights keeps three of heads×queries×keys. At four layers
a frame they are most of what training SAM2 keeps. But

- after ReLU and dropout an output is positive exactly where the gradient passes: the product alone
  will do;
- attention weights follow from queries and keys, so the noise (one byte each) will do, and one
  product is computed again.

`keep_less` puts both into the layers of a memory attention, whose parameters keep their names. On a
GPU attention stays with torch's fused kernels, which never write the weights out. Noise comes from
torch's global generator, in SAM2's order.
"""

from functools import partial
from typing import Any

import torch
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention


def keep_less(memory_attention: Any) -> None:
    """Use what is below in every layer of a SAM2's memory attention."""
    for layer in memory_attention.layers:
        if layer.activation_str == "relu":
            layer.activation, layer.dropout = nn.Identity(), ReluDropout(layer.dropout_value)
        for attention in (layer.self_attn, layer.cross_attn_image):
            attention.forward = partial(rope_attention, attention)


class ReluDropout(nn.Module):
    """ReLU, then dropout with probability `p` while training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """ReLU, then dropout while training."""
        if not (self.training and self.p):
            return values.relu()
        return _ReluDropoutFunction.apply(values, self.p)


class _ReluDropoutFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        noise = torch.empty_like(values).bernoulli_(1 - p).div_(1 - p)
        out = noise.mul_(values.relu())
        ctx.scale = 1 - p
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return (out > 0).to(gradient.dtype).div_(ctx.scale).mul_(gradient), None


def rope_attention(
    attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor, num_k_exclude_rope: int = 0
) -> Tensor:
    """`RoPEAttention.forward` (B×N×C), with the attention below where it drops weights on a CPU."""
    q, k, v = (
        attention._separate_heads(project(x), attention.num_heads)
        for project, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    )
    side = round(q.shape[-2] ** 0.5)
    attention.freqs_cis = attention.freqs_cis.to(q.device)
    if attention.freqs_cis.shape[0] != q.shape[-2]:
        attention.freqs_cis = attention.compute_cis(end_x=side, end_y=side).to(q.device)
    rotated = k.shape[-2] - num_k_exclude_rope
    q, k[:, :, :rotated] = apply_rotary_enc(
        q, k[:, :, :rotated], attention.freqs_cis, repeat_freqs_k=attention.rope_k_repeat
    )
    p = attention.dropout_p if attention.training else 0.0
    if p and q.device.type == "cpu":
        out = _DropoutAttention.apply(q, k, v, p)
    else:
        out = scaled_dot_product_attention(q, k, v, dropout_p=p)
    return attention.out_proj(attention._recombine_heads(out))


class _DropoutAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d) v with a share `p` of the weights dropped, q B×H×N×d, k and v B×H×M×d.

    Torch's own arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        weights = _weights(q, k)
        kept = torch.empty_like(weights, dtype=torch.bool).bernoulli_(1 - p)
        ctx.scale = 1 - p
        ctx.save_for_backward(q, k, v, kept)
        return weights.mul_(_noise(kept, ctx.scale, weights)) @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, kept = ctx.saved_tensors
        root = q.shape[-1] ** -0.25
        weights, noise = _weights(q, k), _noise(kept, ctx.scale, q)
        of_v = (weights * noise).transpose(-2, -1) @ gradient
        of_weights = (gradient @ v.transpose(-2, -1)).mul_(noise)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        return (
            of_scores @ (k * root) * root,
            of_scores.transpose(-2, -1) @ (q * root) * root,
            of_v,
            None,
        )


def _weights(q: Tensor, k: Tensor) -> Tensor:
    root = q.shape[-1] ** -0.25
    return ((q * root) @ (k.transpose(-2, -1) * root)).softmax(dim=-1)


def _noise(kept: Tensor, scale: float, like: Tensor) -> Tensor:
    return kept.to(like.dtype).div_(scale)
