"""Gradients over ranks: three real processes against one that does all of their passes."""

import json
import os
import socket
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from panoforge.cluster.ray.node import free_ports
from panoforge.train.distributed import World
from panoforge.train.gradients import Gradients

# Per step and rank the parts that each pass uses; none of "d", and in the last one none of "c".
STEPS = (
    (("a",), ("ab",), ("c",)),
    (("a", "b", "a"), ("c", ""), ()),  # unlike numbers, a pass without a gradient, no pass at all
    (("", "b"), (), ("a",)),
)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name in "abcd":
            self.add_module(name, nn.Linear(5, 3, dtype=torch.float64))

    def losses(self, parts: str, seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        loss = sum((getattr(self, name)(x).square().sum() for name in parts), torch.zeros(()))
        return {"loss": loss}


def gradients_of_steps(world: World, ranks: range) -> list[dict[str, list[float] | None]]:
    """The gradients after each step of the passes of some of the three ranks."""
    model, found = Parts(), []
    gradients = Gradients(model, world)
    gradients.share()
    for step in STEPS:
        model.zero_grad(set_to_none=True)
        passes = [(parts, 7 * rank + i) for rank in ranks for i, parts in enumerate(step[rank])]
        for left, (parts, seed) in zip(reversed(range(len(passes))), passes, strict=True):
            losses = gradients.add(partial(model.losses, parts, seed), last=not left)
            assert losses["loss"].requires_grad == bool(parts)
        if not passes:
            assert gradients.add(None, last=True) == {}
        found.append(
            {
                name: None if p.grad is None else p.grad.flatten().tolist()
                for name, p in model.named_parameters()
            }
        )
    return found


RANK = """
import json, sys, torch
from test_gradients import gradients_of_steps
from panoforge.train.distributed import World
world = World.detect()
with world.joined(torch.device("cpu"), 30.0, 60.0):
    print(json.dumps(gradients_of_steps(world, range(world.rank, world.rank + 1))))
"""

OWN_FAULT = """
import torch
from panoforge.train.distributed import LostRank, World
from panoforge.train.gradients import Gradients

class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("my own")

world, model = World.detect(), torch.nn.Linear(2, 1)
wrong = [torch.clone, Fails.apply][world.rank]  # rank 0 has the store, by which names are found
gradients = Gradients(model, world)
def passing(then):
    return lambda: {"loss": then(model(torch.ones(2)).sum())}
with world.joined(torch.device("cpu"), 30.0, 60.0):
    gradients.share()
    gradients.add(passing(torch.clone), last=True)
    try:
        gradients.add(passing(wrong), last=True)
    except RuntimeError as error:
        print("RuntimeError:", error)
    except LostRank as error:
        print("LostRank:", error)
"""


def said_by_ranks(script: str, ranks: int) -> list[str]:
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
        "WORLD_SIZE": str(ranks),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    return [process.communicate(timeout=120)[0] for process in processes]


def test_three_ranks_have_the_gradients_of_one_process():
    """Also where they have unlike numbers of passes, or none. What nobody used has no gradient."""
    alone = gradients_of_steps(World(), range(3))
    assert [name for name, grad in alone[2].items() if grad is None] == [
        "c.weight",
        "c.bias",
        "d.weight",
        "d.bias",
    ]
    for said in said_by_ranks(RANK, 3):
        for ours, theirs in zip(alone, json.loads(said), strict=True):
            for name, grad in ours.items():
                assert theirs[name] == (None if grad is None else pytest.approx(grad, rel=1e-12))


def test_only_a_sum_that_fails_is_blamed_on_others():
    """A rank whose own backward pass fails says so; the other is told that it was left."""
    other, own = said_by_ranks(OWN_FAULT, 2)
    assert own == "RuntimeError: my own\n"
    assert other.startswith(f"LostRank: rank 1 (node {socket.gethostname()}) of 2 did not get"), (
        other
    )
