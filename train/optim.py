"""AdamW as SAM2 fine-tunes with it: parameter groups, the cosine schedule.

Groups differ by learning rate (the encoder's own, falling by `layer_decay` per trunk block towards
the input, but not for position embeddings) and by weight decay (none on biases and norms). Every
group keeps its first learning rate in `initial_lr`; `set_learning_rates` multiplies it by
`lr_scale(step)`, a pure function, so a schedule has no state.
"""

from math import cos, pi

import torch
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import nn

from panoforge.train.config import OptimSettings

ENCODER = "image_encoder."
TRUNK = "image_encoder.trunk."


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in groups that share learning rate and weight decay."""
    norms = {
        id(p)
        for m in model.modules()
        if isinstance(m, (nn.LayerNorm, LayerNorm2d))
        for p in m.parameters(recurse=False)
    }
    depth = len(model.image_encoder.trunk.blocks)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if "bias" in name or id(parameter) in norms else settings.weight_decay
        groups.setdefault((learning_rate(name, settings, depth), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": decay}
            for (lr, decay), parameters in groups.items()
        ],
        betas=settings.betas,
    )


def learning_rate(name: str, settings: OptimSettings, depth: int) -> float:
    """First learning rate of a parameter. Trunk block i of `depth` is scaled by layer_decay^(depth
    − i), the patch embedding by layer_decay^(depth + 1) (training/optimizer.py: get_layer_id and
    layer_decay_param_modifier).
    """
    if not name.startswith(ENCODER):
        return settings.lr
    if not name.startswith(TRUNK) or "pos_embed" in name:
        return settings.encoder_lr
    rest = name.removeprefix(TRUNK).split(".")
    layer = int(rest[1]) + 1 if rest[0] == "blocks" else 0
    return settings.encoder_lr * settings.layer_decay ** (depth + 1 - layer)


def lr_scale(step: int, steps: int, settings: OptimSettings) -> float:
    """Learning rate of `step` (from 0) as a share of the first: a linear warm-up, then a cosine
    from 1 to `final_lr_ratio` at the end of the run.
    """
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    where = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.final_lr_ratio + (1 - settings.final_lr_ratio) * 0.5 * (1 + cos(pi * where))


def set_learning_rates(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Scale every group's learning rate from its first value."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
