"""A step's gradients, added up here and summed over ranks by torch's DistributedDataParallel.

A step is several forward and backward passes, and ranks may have unlike numbers of them. They add
up on their rank (`no_sync`) until its last one, in which DDP sums finished buckets while the rest
is still computed. Four things are told to DDP:

- Prompts leave other parameters unused on each rank and in each step, so it looks for them. What no
  rank used keeps no gradient, so AdamW passes it over, as in a run of one process.
- It keeps its buckets as they are. A static graph lays them out anew after its first step. So a
  resumed run would add up in another order than one that was not stopped.
- Every rank has a last pass, also one whose clips are all bad, or whose prompts leave nothing to
  learn. It is that of `anchor`, a parameter of no model, which any pass has a zero for.
- The hook gives sums, for a loss is already divided by the whole step's objects. DDP gives means.

A lone process has the same passes without DDP.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from panoforge.train.distributed import World

Losses = dict[str, Tensor]
# DDP need not send buffers round: they are the same on all ranks. Newer torch, and older.
BUFFERS_STAY = ("forward_sync_buffers", "broadcast_buffers")


class Gradients:
    """Forward and backward passes of `model` on one of several ranks."""

    def __init__(self, model: nn.Module, world: World) -> None:
        self._module: _Pass | DistributedDataParallel = _Pass(model)
        self._world, self._sum_failed = world, False

    def share(self) -> None:
        """From here on, have DDP sum them. All ranks together, with the same weights."""
        if self._world.num_ranks == 1 or isinstance(self._module, DistributedDataParallel):
            return
        known = inspect.signature(DistributedDataParallel).parameters
        still = next(name for name in BUFFERS_STAY if name in known)
        settings: dict[str, Any] = {still: False}
        with self._world.collective():
            self._module = DistributedDataParallel(
                self._module,
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
                **settings,
            )
        self._module.register_comm_hook(None, self._sum)

    def add(self, forward: Callable[[], Losses] | None, last: bool) -> Losses:
        """One forward and one backward pass.

        Args:
            forward: Gives the losses, of which "loss" is differentiated. None: there is no clip.
            last: Whether it is this rank's last one of the step. Every rank has one.

        Returns:
            The losses. What needs no gradient had none to give.

        Raises:
            LostRank: another rank hangs or is gone.
        """
        shared = self._module if isinstance(self._module, DistributedDataParallel) else None
        with shared.no_sync() if shared and not last else contextlib.nullcontext():
            losses, zero = self._module(forward)
            with (
                self._world.collective(lambda: self._sum_failed)
                if shared and last
                else contextlib.nullcontext()
            ):
                (losses["loss"] + zero if losses else zero).backward()
        return losses

    def _sum(self, state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """DDP's hook: a bucket's sum over ranks."""
        with self._noting_failure():
            summing = dist.all_reduce(bucket.buffer(), async_op=True)
            return summing.get_future().then(self._first)

    def _first(self, done: torch.futures.Future[list[Tensor]]) -> Tensor:
        with self._noting_failure():
            return done.value()[0]

    @contextlib.contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """The sums' errors are other ranks', the rest of a backward pass's are its own."""
        try:
            yield
        except RuntimeError:
            self._sum_failed = True
            raise


class _Pass(nn.Module):
    """A forward pass as a module, which DDP needs, and a zero that has a gradient in any case."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        device = next(model.parameters()).device
        self.anchor = nn.Parameter(torch.zeros((), device=device))

    def forward(self, forward: Callable[[], Losses] | None) -> tuple[Losses, Tensor]:
        return {} if forward is None else forward(), self.anchor * 0.0
