"""MTPano on whole panoramas, as a task of the training loop.

The backbone has `optim.encoder_lr`, all else `optim.lr`; no decay by layer. In the first
`heads_first.steps` steps, gradients of all but aggregators and small heads are dropped, and these
learn at `heads_first.lr`; the schedule of the rest begins after that.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panoforge.train.config import TrainConfig
from panoforge.train.data.dense_batch import DenseBatch
from panoforge.train.data.dense_source import PanoramaSource
from panoforge.train.data.loader import ClipSource
from panoforge.train.dense_validate import dense_picture, validate_dense
from panoforge.train.distributed import World
from panoforge.train.gradients import Losses
from panoforge.train.losses.dense.dense_loss import LOSS_NAMES, DenseLoss
from panoforge.train.model.mtpano.build import describe
from panoforge.train.model.mtpano.model import Mtpano
from panoforge.train.optim import lr_scale, set_learning_rates
from panoforge.train.torch_settings import use_bfloat16

BACKBONE = "backbone."
SMALL_PARTS = ("first.",)  # and each stream's aggregator


def is_small(name: str) -> bool:
    """Whether a parameter is of an aggregator or a small head."""
    return name.startswith(SMALL_PARTS) or ".aggregator." in name


class MtpanoTask:
    """MTPano's part of a run."""

    loss_names: tuple[str, ...] = LOSS_NAMES
    counts = "panoramas"

    def __init__(
        self,
        config: TrainConfig,
        model: Mtpano,
        source: PanoramaSource,
        held_out: PanoramaSource | None = None,
    ) -> None:
        assert config.dense is not None
        self.config, self.model, self.held_out = config, model, held_out
        self.source: ClipSource = source
        self.loss = DenseLoss(config.dense.loss)
        self.heads_first = config.dense.heads_first
        self.validates = held_out is not None

    def prepare(self) -> None:
        """Recomputation and compilation of the backbone, where they are asked for."""
        if self.config.recompute:
            self.model.backbone.recompute = True
        if self.config.compile:
            self.model.backbone.compile()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW or Adam; groups by place (small part, backbone, rest) and kind of decay."""
        settings = self.config.optim
        norms = {
            id(p)
            for module in self.model.modules()
            if isinstance(module, nn.LayerNorm)
            for p in module.parameters(recurse=False)
        }
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            where = "small" if is_small(name) else "backbone" if name.startswith(BACKBONE) else ""
            decays = "bias" not in name and id(parameter) not in norms
            groups.setdefault((where, decays), []).append(parameter)
        rates = {"backbone": settings.encoder_lr}
        kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
        return kind(
            [
                {
                    "params": parameters,
                    "lr": rates.get(where, settings.lr),
                    "initial_lr": rates.get(where, settings.lr),
                    "weight_decay": settings.weight_decay if decays else 0.0,
                }
                for (where, decays), parameters in groups.items()
            ],
            betas=settings.betas,
        )

    def weight(self, batch: DenseBatch) -> int:
        """Panoramas of a batch."""
        return len(batch)

    def begin_step(self, step: int, epoch: int) -> None:
        """Nothing is drawn in a step but its panoramas."""

    def passes(self, batch: DenseBatch) -> int:
        """One."""
        return 1

    def forwards(
        self, positions: tuple[int, ...], batch: DenseBatch, total: float
    ) -> Iterator[Callable[[], Losses]]:
        """The whole batch."""
        yield lambda: self.forward(batch, total)

    def forward(self, batch: DenseBatch, panoramas: float) -> Losses:
        """The losses of a batch as its share of a step of `panoramas` panoramas."""
        with self.autocast():
            said = self.model(batch.rgb)
        if said.semantic is not None:
            said = replace(said, semantic=said.semantic.float())
        return self.loss(said, batch, panoramas)  # in float32

    def after_backward(self, step: int) -> None:
        """In the first steps, drop the gradients of all but the small parts."""
        if step >= self.heads_first.steps:
            return
        for name, parameter in self.model.named_parameters():
            if not is_small(name):
                parameter.grad = None

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, epoch: int) -> float:
        """The small parts' own rate in the first steps, then the schedule's over those left."""
        first, settings = self.heads_first.steps, self.config.optim
        if step < first:
            for group in optimizer.param_groups:
                group["lr"] = self.heads_first.lr
            return self.heads_first.lr
        scale = lr_scale(step - first, max(1, self.config.steps - first), settings, epoch)
        set_learning_rates(optimizer, scale)
        return settings.lr * scale

    def validate(self, world: World) -> dict[str, float]:
        """The three tasks' scores on held-out panoramas."""
        assert self.held_out is not None
        count = self.config.validate_clips
        return validate_dense(self.model, self.held_out, count, world, self.autocast())

    def picture(self, batch: DenseBatch) -> NDArray[np.uint8]:
        """Truth above, predictions below."""
        return dense_picture(self.model, batch, self.autocast())

    def describe(self) -> str:
        """What rebuilds the model."""
        return describe(self.model)

    def autocast(self) -> torch.autocast:
        """bf16 for what profits from it, where `precision` says so."""
        device = next(self.model.parameters()).device
        enabled = use_bfloat16(self.config.precision, device)
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
