"""The ranks of a run: which one this process is, and the sums that they exchange.

`World.detect()` alone reads the environment (RANK, WORLD_SIZE, LOCAL_RANK, as torchrun sets them
and panoforge.cluster.ray.training). Three collectives a step add up object counts, gradients
(panoforge.train.gradients) and losses.

Each rank records its node and its collective counter in the store. If a collective fails, survivors
compare counters and raise LostRank naming the missing or stuck ranks and their nodes.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import psutil

from panoforge.core.errors import UsageError, UserError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_PREFIX = "panoforge/"  # of our keys in the store
ASK_STORE_S = 3.0  # for the numbers of the others, once something is wrong


class LostRank(UserError):
    """Another rank of the run hangs or is gone."""


class LostDevice(LostRank):
    """This rank's own GPU failed or is gone: another node, or another try, may do."""


class Stopped(UserError):
    """The run was asked to stop, and its state is kept."""


class RankError(UserError):
    """A rank cannot take part in the run, or go on with it. Says which, and on which node."""


@dataclass(frozen=True)
class World:
    """This process among `num_ranks`; `rank_of_node` picks its GPU."""

    rank: int = 0
    num_ranks: int = 1
    rank_of_node: int = 0
    _collectives: Iterator[int] = field(default_factory=lambda: count(1), compare=False, repr=False)
    _timeouts_s: list[float] = field(default_factory=list, compare=False, repr=False)
    _main_node: list[str] = field(default_factory=list, compare=False, repr=False)

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
    def named(self) -> Iterator[None]:
        """A user's mistake that shows on one of several ranks comes out with its rank and node."""
        try:
            yield
        except (LostRank, Stopped):
            raise
        except UserError as error:
            if self.num_ranks == 1:
                raise
            named = RankError(
                f"rank {self.rank} of {self.num_ranks} (node {socket.gethostname()}): {error}"
            )
            named.exit_code = error.exit_code
            raise named from None

    @contextlib.contextmanager
    def living_device(self, device: "torch.device") -> Iterator[None]:
        """A GPU that fails in a `with` block comes out as LostDevice, by its rank and node."""
        import torch

        try:
            yield
        except torch.AcceleratorError as error:
            raise LostDevice(
                f"rank {self.rank} of {self.num_ranks} (node {socket.gethostname()}): its device"
                f" {device} failed: {first_line(error)}. What is saved stays; the same"
                " command goes on from the last checkpoint"
            ) from error

    @contextlib.contextmanager
    def joined(
        self, device: "torch.device", timeout_s: float, start_timeout_s: float
    ) -> Iterator[None]:
        """Be a member of the process group: gloo on CPU, NCCL on GPUs.

        A rank that is waited for longer than `timeout_s` ends the run; up to `has_started`, longer
        than `start_timeout_s`. Nothing to do for a lone process.
        """
        import torch.distributed as dist

        if self.num_ranks == 1:
            yield
            return
        if device.type == "cpu" and "GLOO_SOCKET_IFNAME" not in os.environ:
            os.environ["GLOO_SOCKET_IFNAME"] = interface_towards(os.environ["MASTER_ADDR"])
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=self.rank,
            world_size=self.num_ranks,
            timeout=timedelta(seconds=max(start_timeout_s, timeout_s)),
        )
        self._timeouts_s.append(timeout_s)
        _store().set(f"{_PREFIX}node/{self.rank}", socket.gethostname())
        # rank 0 may keep the store: asked for now, as it cannot be asked once that is gone
        self._main_node.append(_store().get(f"{_PREFIX}node/0").decode())
        try:
            yield
        finally:
            dist.destroy_process_group()

    def has_started(self) -> None:
        """Wait for no rank longer than `timeout_s` from here on: the first step is done."""
        while self._timeouts_s:
            from torch.distributed import distributed_c10d

            timeout = timedelta(seconds=self._timeouts_s.pop())
            public = hasattr(distributed_c10d, "set_timeout")  # not in older releases
            change = getattr(distributed_c10d, "set_timeout" if public else "_set_pg_timeout")
            change(timeout, distributed_c10d._get_default_group())

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

        with self.collective():
            dist.all_reduce(tensor)
            if tensor.is_cuda:
                tensor[:1].cpu()  # NCCL says nothing until its result is asked for

    @contextlib.contextmanager
    def collective(self, is_failure: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """What all ranks do together, in a `with` block. LostRank names who does not come.

        Of the block's RuntimeErrors those are failures of others that `is_failure` says are.
        """
        store, collective, came = _store(), next(self._collectives), False
        try:
            if store is not None:
                store.set(f"{_PREFIX}{self.rank}", str(collective))
            came = True
            yield
        except RuntimeError as error:
            if came and not is_failure():
                raise
            who = _who_is_missing(store, self.rank, self.num_ranks, collective, self._main_node)
            if self.is_main:
                time.sleep(ASK_STORE_S)  # it may keep the store, and the others have to ask too
            raise LostRank(
                f"{who} did not get through collective {collective} of this run: hanging, killed or"
                f" out of memory (rank {self.rank} waited: {first_line(error)[:200]}). Run the"
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

    def check_same(self, found: Mapping[str, str], device: "torch.device") -> None:
        """UsageError unless all ranks found the same under every name.

        It names those that differ from rank 0.
        """
        own = "\n".join([socket.gethostname(), *found.values()])
        texts = [text.split("\n") for text in self.gather_texts(own, device)]
        (first_node, *first), others = texts[0], texts[1:]
        for rank, (node, *values) in enumerate(others, start=1):
            different = [n for n, a, b in zip(found, first, values, strict=True) if a != b]
            if different:
                raise UsageError(
                    f"rank {rank} (node {node}) has other {' and '.join(different)} than rank 0"
                    f" (node {first_node}): all nodes must see one version of panoforge, one"
                    " config, one dataset, one model.checkpoint and one folder of checkpoints"
                )


def interface_towards(address: str) -> str:
    """The network interface by which this machine reaches `address`.

    Gloo's own choice is the address of the hostname, which Debian writes down as 127.0.1.1.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 1))  # sends nothing
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == own for found in addresses):
            return name
    raise UsageError(
        f"no network interface has the address {own} by which this machine reaches {address}: set"
        " GLOO_SOCKET_IFNAME"
    )


def _store() -> Any:
    """The key-value store that the process group met through; None where it has none."""
    from torch.distributed import distributed_c10d

    try:
        return distributed_c10d._get_default_store()
    except ValueError:
        return None


def _who_is_missing(
    store: Any, rank: int, num_ranks: int, collective: int, main_node: Sequence[str]
) -> str:
    """The ranks that have not come to `collective`, in words.

    If all came, those that do not say soon that it failed. `main_node`: where rank 0 is, if known.
    """
    if store is None:
        return "another rank"
    try:
        store.set(f"{_PREFIX}failed/{rank}", str(collective))
        missing = _behind(store, _PREFIX, num_ranks, collective)
        end = time.monotonic() + ASK_STORE_S
        while (
            not missing
            and time.monotonic() < end
            and _behind(store, f"{_PREFIX}failed/", num_ranks, collective)
        ):
            time.sleep(0.1)
        missing = missing or _behind(store, f"{_PREFIX}failed/", num_ranks, collective)
    except RuntimeError:  # of which torch's DistError is one
        there = f" (node {main_node[0]})" if main_node else ""
        return f"rank 0{there} of {num_ranks} (or one whose loss it reported before it ended)"
    if not missing:
        return "another rank"
    nodes = [f"{rank} (node {store.get(f'{_PREFIX}node/{rank}').decode()})" for rank in missing]
    return f"rank{'s' if len(missing) > 1 else ''} {', '.join(nodes)} of {num_ranks}"


def _behind(store: Any, prefix: str, num_ranks: int, collective: int) -> list[str]:
    """The ranks whose number under `prefix` is less than `collective`, or not there."""
    keys = {str(rank): f"{prefix}{rank}" for rank in range(num_ranks)}
    return [
        rank
        for rank, key in keys.items()
        if not store.check([key]) or int(store.get(key)) < collective
    ]
