"""What the training loop asks of a task."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panoforge.train.data.loader import ClipSource
from panoforge.train.distributed import World
from panoforge.train.gradients import Losses


class Task(Protocol):
    """One rank's part of what is trained.

    Attributes:
        model: with its weights; the loop moves it to its device.
        source: what is trained on, by position.
        loss_names: the losses of a pass, "loss" first: their sum, which is differentiated.
        counts: what a step's losses are divided by, for logs: "objects".
        validates: whether there is held-out data.
    """

    model: Any
    source: ClipSource
    loss_names: tuple[str, ...]
    counts: str
    validates: bool

    def prepare(self) -> None:
        """Once, when the model is on its device: recomputation, compilation."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer over what is trained; each group's `initial_lr` is its first rate."""

    def weight(self, batch: Any) -> int:
        """How much of a step's loss a batch is, in whole `counts`."""

    def begin_step(self, step: int, epoch: int) -> None:
        """What is drawn, and what the model does, in this step."""

    def passes(self, batch: Any) -> int:
        """Forward passes of a batch, with a backward pass each."""

    def forwards(
        self, positions: tuple[int, ...], batch: Any, total: float
    ) -> Iterator[Callable[[], Losses]]:
        """The passes of a batch on the device, each called before the next is asked for.

        Losses are divided by `total`, the whole step's weight.
        """

    def after_backward(self, step: int) -> None:
        """Once a step, before its gradient is measured."""

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, epoch: int) -> float:
        """Set the learning rates of a step; gives the one to log."""

    def validate(self, world: World) -> dict[str, float]:
        """Scores on held-out data, by their names in the log. All ranks together."""

    def picture(self, batch: Any) -> NDArray[np.uint8]:
        """A picture of the predictions on a batch on the device, RGB."""

    def describe(self) -> str:
        """What a file of the weights says of the model; empty for SAM2."""


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [p for p in model.parameters() if p.requires_grad]
