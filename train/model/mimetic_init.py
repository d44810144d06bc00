"""First weights for a SAM2 that starts from nothing.

Three places where SAM2's own random weights cost thousands of steps.

1. The mask decoder's cross-attentions begin as look-ups by position. SAM's decoder must find the
   features at a click by comparing position encodings through two unrelated random projections, and
   spends its first thousands of steps on learning that. After Trockman and Kolter, "Mimetic
   Initialization of Self-Attention Layers" (ICML 2023), which gives attentions W_Q W_Kᵀ ≈ I and W_O
   W_V ≈ I from the start:

       W_Q = W_K = gain · R      W_V = S      W_O = Sᵀ      R, S with orthonormal rows, biases 0

   so q·k compares encodings as they are (SAM's Fourier features make that a kernel peaked at the
   click). What is found there comes out as it went in, projected.
2. Every object begins as present, with a logit of PRESENT whatever the picture. SAM2 blanks the
   mask of an object that it takes to be absent, so a random judgement would hide half of the masks
   from the loss. Images show present objects only: train on them with loss.objectness 0. With a
   weight, Adam drives the logit up for as long as images last: it stood at some 70 after 1,400
   steps. Then the first absent object of a clip undoes the rest of the model: its loss was 37, of
   the masks 0.08.
3. The residual branches of the memory attention begin at zero, as in Goyal et al. (arXiv
   1706.02677): a model that knows images is not handed noise when its first clip comes.

For training from random weights only: official weights replace all of it.
"""

from typing import Any

import torch
from sam2.modeling.sam.transformer import Attention
from torch import nn

GAIN = 2.0  # then a click's own place outweighs 256 others
PRESENT = 1.0


def mimetic(model: Any) -> None:
    """Give a SAM2 the weights above, from torch's global generator."""
    with torch.no_grad():
        for module in model.sam_mask_decoder.transformer.modules():
            if (
                type(module) is Attention and module.internal_dim < module.embedding_dim
            ):  # the cross-attentions are narrower
                look_up(module)
        judgement = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
        judgement.weight.zero_()
        judgement.bias.fill_(PRESENT)
        for layer in model.memory_attention.layers:
            for last in (layer.self_attn.out_proj, layer.cross_attn_image.out_proj, layer.linear2):
                last.weight.zero_()
                last.bias.zero_()


def look_up(attention: Attention) -> None:
    """The first of the three."""
    shape = (attention.internal_dim, attention.embedding_dim)
    look, carry = (nn.init.orthogonal_(torch.empty(shape)) for _ in range(2))
    attention.q_proj.weight.copy_(GAIN * look)
    attention.k_proj.weight.copy_(GAIN * look)
    attention.v_proj.weight.copy_(carry)
    attention.out_proj.weight.copy_(carry.T)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
        projection.bias.zero_()
