"""The ranks of a run: which one this process is, and the sums that they exchange.

`World.detect()` alone reads the environment (RANK, WORLD_SIZE, LOCAL_RANK, as torchrun and Ray
Train set them). Three collectives a step add up object counts, gradients and losses.
Gradients go as one flat buffer after the backward pass. With the encoder frozen there are some ten
million of them: a single all-reduce costs less than DDP's search for the parameters that a prompt
kind leaves unused. And the order of summation is fixed. A parameter that no rank has a gradient for
stays without one, so AdamW passes it over, as it does in a run of one process.

Each rank records its collective counter in the store. If a collective fails, survivors compare
counters and raise LostRank naming the missing or stuck ranks.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from panoforge.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


ASK_STORE_S = 3.0  # for the numbers of the others, once something is wrong


class LostRank(UserError):
    """Another rank of the run hangs or is gone."""


@dataclass(frozen=True)
class World:
    """This process among `num_ranks`; `rank_of_node` picks its GPU."""

    rank: int = 0
    num_ranks: int = 1
    rank_of_node: int = 0
    _meetings: Iterator[int] = field(default_factory=lambda: count(1), compare=False, repr=False)

    @classmethod
    def detect(cls) -> Self:
        """From the environment; a lone process where it says nothing."""
        rank, num_ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        return cls(rank, num_ranks, int(os.environ.get("LOCAL_RANK", str(rank))))

    @property
    def is_main(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, device: "torch.device", timeout_s: float) -> Iterator[None]:
        """Be a member of the process group: gloo on CPU, NCCL on GPUs. A rank that is waited for
        longer than `timeout_s` ends the run. Nothing to do for a lone process, or inside a group
        that somebody else (Ray Train) made.
        """
        import torch.distributed as dist

        if self.num_ranks == 1 or dist.is_initialized():
            yield
            return
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=self.rank,
            world_size=self.num_ranks,
            timeout=timedelta(seconds=timeout_s),
        )
        try:
            yield
        finally:
            dist.destroy_process_group()

    def sum(self, values: Sequence[float], device: "torch.device") -> list[float]:
        """Element-wise sum of `values` over all ranks, in float64."""
        if self.num_ranks == 1:
            return [float(v) for v in values]
        import torch

        tensor = torch.tensor([float(v) for v in values], dtype=torch.float64, device=device)
        self._add_up(tensor)
        return tensor.tolist()

    def _add_up(self, tensor: "Tensor") -> None:
        """Sum `tensor` over all ranks, in place. LostRank names who does not come."""
        import torch.distributed as dist

        store, meeting = _store(), next(self._meetings)
        try:
            if store is not None:
                store.set(f"panoforge/{self.rank}", str(meeting))
            dist.all_reduce(tensor)
            if tensor.is_cuda:
                tensor[:1].cpu()  # NCCL says nothing until its result is asked for
        except RuntimeError as error:
            who = _who_is_missing(store, self.rank, self.num_ranks, meeting)
            if self.is_main:
                time.sleep(ASK_STORE_S)  # it may keep the store, and the others have to ask too
            raise LostRank(
                f"{who} did not get through meeting {meeting} of this run: hanging, killed or out"
                f" of memory (rank {self.rank} waited: {str(error).splitlines()[0][:200]}). Run the"
                " same command again to go on from the last checkpoint"
            ) from error

    def gather_texts(self, text: str, device: "torch.device") -> list[str]:
        """Every rank's text, in the order of ranks."""
        if self.num_ranks == 1:
            return [text]
        import torch

        data = text.encode()
        lengths = self.sum(
            [len(data) if rank == self.rank else 0 for rank in range(self.num_ranks)], device
        )
        table = torch.zeros(self.num_ranks, int(max(lengths)), dtype=torch.int32, device=device)
        table[self.rank, : len(data)] = torch.tensor(list(data), dtype=torch.int32, device=device)
        self._add_up(table)
        return [
            bytes(row[: int(length)]).decode()
            for row, length in zip(table.tolist(), lengths, strict=True)
        ]

    def sum_gradients(self, parameters: Sequence["nn.Parameter"]) -> None:
        """Replace every gradient by its sum over all ranks."""
        if self.num_ranks == 1:
            return
        flat = flatten_gradients(parameters)
        self._add_up(flat)
        unflatten_gradients(flat, parameters)

    def same_everywhere(self, digest: str, device: "torch.device") -> bool:
        """Whether all ranks hold the same digest (hex, SHA-256)."""
        words = [int(digest[i : i + 8], 16) for i in range(0, 64, 8)]
        total = self.sum(words, device)
        return bool(self.sum([float(total != [w * self.num_ranks for w in words])], device)[0] == 0)


def _store() -> Any:
    """The key-value store that the process group met through; None where it has none."""
    from torch.distributed import distributed_c10d

    try:
        return distributed_c10d._get_default_store()
    except ValueError:
        return None


def _who_is_missing(store: Any, rank: int, num_ranks: int, meeting: int) -> str:
    """The ranks that have not come to `meeting`; if all came, those that do not say soon that it
    failed. In words.
    """
    if store is None:
        return "another rank"
    try:
        store.set(f"panoforge/failed/{rank}", str(meeting))
        missing = _behind(store, "panoforge/", num_ranks, meeting)
        end = time.monotonic() + ASK_STORE_S
        while (
            not missing
            and time.monotonic() < end
            and _behind(store, "panoforge/failed/", num_ranks, meeting)
        ):
            time.sleep(0.1)
        missing = missing or _behind(store, "panoforge/failed/", num_ranks, meeting)
    except RuntimeError:  # of which torch's DistError is one
        return f"rank 0 of {num_ranks} (or one whose loss it reported before it ended)"
    return (
        f"rank{'s' if len(missing) > 1 else ''} {', '.join(missing)} of {num_ranks}"
        if missing
        else "another rank"
    )


def _behind(store: Any, prefix: str, num_ranks: int, meeting: int) -> list[str]:
    """The ranks whose number under `prefix` is less than `meeting`, or not there."""
    keys = {str(rank): f"{prefix}{rank}" for rank in range(num_ranks)}
    return [
        rank
        for rank, key in keys.items()
        if not store.check([key]) or int(store.get(key)) < meeting
    ]


def flatten_gradients(parameters: Sequence["nn.Parameter"]) -> "Tensor":
    """One buffer: all gradients (zeros where there is none), then one number per parameter: 1 where
    there is one.
    """
    import torch

    pieces = [
        p.grad.reshape(-1) if p.grad is not None else p.new_zeros(p.numel()) for p in parameters
    ]
    present = parameters[0].new_tensor([float(p.grad is not None) for p in parameters])
    return torch.cat([*pieces, present])


def unflatten_gradients(flat: "Tensor", parameters: Sequence["nn.Parameter"]) -> None:
    """Undo `flatten_gradients` into `.grad`."""
    present = flat[-len(parameters) :].tolist()
    at = 0
    for parameter, ranks in zip(parameters, present, strict=True):
        parameter.grad = (
            flat[at : at + parameter.numel()].view_as(parameter).clone() if ranks else None
        )
        at += parameter.numel()
