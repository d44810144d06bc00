"""First weights for a SAM2 that starts from nothing: the mask decoder's cross-attentions begin as look-ups by position.

SAM's decoder must find the features at a click by comparing position encodings through two unrelated random projections,
and from random weights it spends its first thousands of steps on learning that. After Trockman and Kolter, "Mimetic
Initialization of Self-Attention Layers" (ICML 2023), which gives attentions W_Q W_Kᵀ ≈ I and W_O W_V ≈ I from the start:

    W_Q = W_K = gain · R        W_V = S        W_O = Sᵀ        R, S with orthonormal rows, biases 0

so q·k compares encodings as they are (SAM's Fourier features make that a kernel peaked at the click) and what is found there
comes out as it went in, projected. For training from random weights only: official weights replace all of it.
"""

import torch
from sam2.modeling.sam.transformer import Attention
from torch import nn

GAIN = 2.0  # then a click's own place outweighs 256 others


def mimetic(decoder: nn.Module) -> None:
    """Give the cross-attentions of a SAM mask decoder the weights above, from torch's global generator."""
    with torch.no_grad():
        for module in decoder.transformer.modules():
            if type(module) is Attention and module.internal_dim < module.embedding_dim:  # the cross-attentions are narrower
                shape = (module.internal_dim, module.embedding_dim)
                look, carry = (nn.init.orthogonal_(torch.empty(shape)) for _ in range(2))
                module.q_proj.weight.copy_(GAIN * look)
                module.k_proj.weight.copy_(GAIN * look)
                module.v_proj.weight.copy_(carry)
                module.out_proj.weight.copy_(carry.T)
                for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                    projection.bias.zero_()
