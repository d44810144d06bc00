"""SAM2 on clips, as a task of the training loop.

Prompts and noise are set before each forward pass from (seed, step) and (seed, position): a resumed
step is the same step.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panoforge.train.config import TrainConfig
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.object_groups import object_groups
from panoforge.train.data.plan import noise_seed, prompt_rng
from panoforge.train.distributed import World
from panoforge.train.gradients import Losses
from panoforge.train.losses.build import build_loss
from panoforge.train.losses.sam2_loss import LOSS_NAMES
from panoforge.train.model.scan_sam2 import (
    Encoded,
    PanoScanSAM2,
    ScanSAM2,
    compile_parts,
    recompute_activations,
)
from panoforge.train.model.windows import windows
from panoforge.train.optim import build_optimizer, lr_scale, set_learning_rates
from panoforge.train.torch_settings import use_bfloat16
from panoforge.train.validate import picture, validate


class Sam2Task:
    """SAM2's part of a run."""

    loss_names = tuple(LOSS_NAMES.values())
    counts = "objects"

    def __init__(
        self,
        config: TrainConfig,
        model: ScanSAM2,
        source: ClipSource,
        held_out: ClipSource | None = None,
    ) -> None:
        self.config, self.model, self.source, self.held_out = config, model, source, held_out
        self.loss = build_loss(config.loss)
        self.validates = held_out is not None
        self.step = 0
        self._prompts: Any = None

    def prepare(self) -> None:
        """Recomputation and compilation, where they are asked for."""
        if self.config.recompute:
            recompute_activations(self.model)
        if self.config.compile:
            compile_parts(self.model)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW with SAM2's groups."""
        return build_optimizer(self.model, self.config.optim)

    def weight(self, batch: Any) -> int:
        """Objects of a batch."""
        return int(batch.masks.shape[1])

    def begin_step(self, step: int, epoch: int) -> None:
        """Whose masks the model remembers in this epoch, and how; the step's prompts."""
        self.step = step
        truth = self.config.memory_from_truth
        self.model.truth_every = 0 if truth is None else truth.every(epoch)
        if isinstance(self.model, PanoScanSAM2):
            self.model.long_memory_on = epoch >= self.config.model.panosam2.memory_from_epoch
        self.model.rng = prompt_rng(self.config.seed, step)
        self._prompts = self.model.rng.bit_generator.state

    def passes(self, batch: Any) -> int:
        """Groups of objects times windows of frames."""
        groups = object_groups(batch, self.config.objects_per_forward)
        return sum(1 for _ in groups) * self.num_windows(batch)

    def forwards(
        self, positions: tuple[int, ...], batch: Any, total: float
    ) -> Iterator[Callable[[], Losses]]:
        """One for each group of objects and window of frames; pictures are encoded once."""
        with self.autocast():
            encoded = None if self.in_windows(batch) else self.model.encode(batch.flat_img_batch)
        for index, group in enumerate(object_groups(batch, self.config.objects_per_forward)):
            self.model.rng.bit_generator.state = (
                self._prompts  # every forward pass of a step draws the same kinds of prompts
            )
            torch.manual_seed(noise_seed(self.config.seed, positions[0], index))
            parts = self.losses(group, encoded, total)
            for _ in range(self.num_windows(batch)):
                yield partial(next, parts)

    def in_windows(self, batch: Any) -> bool:
        """Whether gradients go back through a part of the clips only."""
        return 0 < self.config.backprop_frames < batch.num_frames

    def num_windows(self, batch: Any) -> int:
        """Parts of the clips that gradients go back through, each by itself."""
        frames = self.config.backprop_frames
        return math.ceil(batch.num_frames / frames) if self.in_windows(batch) else 1

    def losses(self, batch: Any, encoded: Encoded | None, objects: float) -> Iterator[Losses]:
        """The losses of one batch at once, or window by window where `encoded` is None.

        Those of a window are to be back-propagated before the next is asked for.
        """
        if encoded is not None:
            yield self.forward(batch, encoded, objects)
            return
        parts = windows(self.model, batch, self.config.backprop_frames)
        while True:
            with self.autocast():
                part = next(parts, None)
            if part is None:
                return
            frames, outs = part
            yield self.loss(outs, batch.masks[frames], objects)

    def forward(self, batch: Any, encoded: Encoded, objects: float) -> dict[str, Tensor]:
        """The losses of one batch, as its share of a step of `objects` objects.

        `encoded` are its frames, encoded.
        """
        with self.autocast():
            outs = self.model(batch, encoded)
        return self.loss(outs, batch.masks, objects)  # in float32: sums over a million pixels

    def after_backward(self, step: int) -> None:
        """Every gradient counts."""

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, epoch: int) -> float:
        """The schedule's."""
        scale = lr_scale(step, self.config.steps, self.config.optim, epoch)
        set_learning_rates(optimizer, scale)
        return self.config.optim.lr * scale

    def validate(self, world: World) -> dict[str, float]:
        """MIoU on held-out clips."""
        assert self.held_out is not None
        clips = self.config.validate_clips
        score = validate(self.model, self.held_out, clips, self.device, world, self.autocast())
        return {"val_miou": score}

    def picture(self, batch: Any) -> NDArray[np.uint8]:
        """Frames of the first clip."""
        return picture(self.model, batch, self.autocast())

    def describe(self) -> str:
        """Nothing beside the weights."""
        return ""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def autocast(self) -> torch.autocast:
        """bf16 for what profits from it, where `precision` says so."""
        enabled = use_bfloat16(self.config.precision, self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
