"""AdamW as SAM2 fine-tunes with it: parameter groups, the cosine schedule or PanoSAM2's steps.

Groups are by place in the model and by whether weights decay (not biases, not norms). The encoder
has its own learning rate, which falls by `layer_decay` per trunk block towards the input, but not
for position embeddings. So the groups are the same under any rates, and a run goes on under new
ones. Every group keeps its first learning rate in `initial_lr`; `set_learning_rates` multiplies it
by `lr_scale(step, …)`, a pure function, so a schedule has no state.
"""

from math import cos, pi
from typing import Any

import torch
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import nn

from panoforge.train.settings.schedule import OptimSettings

ENCODER = "image_encoder."
TRUNK = "image_encoder.trunk."


def build_optimizer(model: Any, settings: OptimSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in groups of one place and one kind of decay."""
    norms = {
        id(p)
        for m in model.modules()
        if isinstance(m, (nn.LayerNorm, LayerNorm2d))
        for p in m.parameters(recurse=False)
    }
    depth = len(model.image_encoder.trunk.blocks)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = "bias" not in name and id(parameter) not in norms
        groups.setdefault((place(name, depth), decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": learning_rate(where, settings),
                "initial_lr": learning_rate(where, settings),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (where, decays), parameters in groups.items()
        ],
        betas=settings.betas,
    )


def place(name: str, depth: int) -> int:
    """Where a parameter stands: −1 outside the encoder, else the number of layer decays it has.

    Trunk block i of `depth` has depth − i, the patch embedding depth + 1, the neck and the position
    embeddings none (training/optimizer.py: get_layer_id and layer_decay_param_modifier).
    """
    if not name.startswith(ENCODER):
        return -1
    if not name.startswith(TRUNK) or "pos_embed" in name:
        return 0
    rest = name.removeprefix(TRUNK).split(".")
    return depth - int(rest[1]) if rest[0] == "blocks" else depth + 1


def learning_rate(where: int, settings: OptimSettings) -> float:
    """First learning rate of the parameters at a `place`."""
    return settings.lr if where < 0 else settings.encoder_lr * settings.layer_decay**where


def restore_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take the moments of a saved state, and keep the rates that the optimizer was built with."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": saved["state"]})


def lr_scale(step: int, steps: int, settings: OptimSettings, epoch: int = 0) -> float:
    """Learning rate of `step` (from 0, in `epoch`) as a share of the first.

    A linear warm-up, then one of three. A cosine from 1 to `final_lr_ratio` at the end of the run;
    a factor `step_gamma` every `step_epochs` (torch's StepLR, stepped once an epoch); or
    (1 − share of the run)^`poly_power`.
    """
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    if settings.schedule == "step":
        return float(settings.step_gamma ** (epoch // settings.step_epochs))
    where = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    if settings.schedule == "poly":
        return float((1 - where) ** settings.poly_power)
    return settings.final_lr_ratio + (1 - settings.final_lr_ratio) * 0.5 * (1 + cos(pi * where))


def set_learning_rates(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Scale every group's learning rate from its first value."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
