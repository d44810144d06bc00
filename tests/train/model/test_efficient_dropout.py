"""The lean dropouts against SAM2's own modules: the same bits out of the same generator, forwards
and backwards.
"""

import pytest
import torch
from sam2.modeling.memory_attention import MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch import nn

from panoforge.train.model.efficient_dropout import ReluDropout, keep_less

SIDE, CHANNELS, FRAMES, POINTERS = 4, 32, 3, 8


def a_layer() -> nn.Module:
    """A layer of the official YAML's kind, small."""
    shared = {
        "rope_theta": 10000.0,
        "feat_sizes": (SIDE, SIDE),
        "embedding_dim": CHANNELS,
        "num_heads": 2,
        "downsample_rate": 1,
        "dropout": 0.1,
    }
    torch.manual_seed(0)
    return MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=64,
        dropout=0.1,
        d_model=CHANNELS,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**shared),
        cross_attention=RoPEAttention(**shared, rope_k_repeat=True, kv_in_dim=16),
    )


def lean(layer: nn.Module) -> nn.Module:
    holder = nn.Module()
    holder.layers = nn.ModuleList([layer])
    keep_less(holder)
    return layer


def one_pass(layer: nn.Module, seed: int) -> list[torch.Tensor]:
    """Output, and gradients of inputs and parameters."""
    g = torch.Generator().manual_seed(seed)
    keys = FRAMES * SIDE**2 + POINTERS
    image, memory, places = (
        torch.randn(2, n, c, generator=g).requires_grad_()
        for n, c in ((SIDE**2, CHANNELS), (keys, 16), (keys, 16))
    )
    torch.manual_seed(seed)
    out = layer(image, memory, pos=places, query_pos=None, num_k_exclude_rope=POINTERS)
    leaves = [image, memory, places, *layer.parameters()]
    return [out.detach(), *torch.autograd.grad((out**2).sum(), leaves), torch.rand(1)]


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_gives_the_same_bits(training: bool):
    plain, ours = a_layer().train(training), lean(a_layer()).train(training)
    assert list(ours.state_dict()) == list(plain.state_dict())
    for seed in range(3):
        for a, b in zip(one_pass(ours, seed), one_pass(plain, seed), strict=True):
            assert torch.equal(a, b)


def test_less_is_kept():
    sizes = {}
    for name, layer in (("plain", a_layer()), ("ours", lean(a_layer()))):
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor, kept: dict = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = layer(
                torch.randn(2, SIDE**2, CHANNELS),
                torch.randn(2, 56, 16),
                pos=torch.randn(2, 56, 16),
                num_k_exclude_rope=8,
            )
        assert out.requires_grad
        sizes[name] = sum(storage.nbytes() for storage in kept.values())
    assert sizes["ours"] < 0.8 * sizes["plain"]


def test_relu_dropout_keeps_one_tensor():
    values = torch.randn(50, 40, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        out = ReluDropout(0.1)(values)
    assert [tensor.data_ptr() for tensor in kept] == [out.data_ptr()]
    assert 0.02 < float((out[values > 0] == 0).float().mean()) < 0.2 and not out[values <= 0].any()
