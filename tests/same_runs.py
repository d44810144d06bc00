"""Whether two trainings are one and the same run: their numbers, and all that the last checkpoint
holds, to the bit.
"""

from pathlib import Path
from typing import Any

import torch

from panoforge.train import checkpoints
from panoforge.train.checkpoints import TrainState
from panoforge.train.log import read_metrics

APART = ("seconds", "clips_per_s", "peak_memory_mb", "ranks")  # differ between equal runs


def numbers(run: Path) -> list[dict[str, Any]]:
    """The steps' losses, norms, rates, objects."""
    return [
        {key: value for key, value in row.items() if key not in APART}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def last_state(run: Path) -> TrainState:
    """The newest checkpoint; there must be one."""
    state = checkpoints.load_latest(run / "checkpoints", print)
    assert state is not None, f"{run} has no checkpoint"
    return state


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Fail with the first thing that differs."""
    mine, other = numbers(ours), numbers(theirs)
    assert mine, f"{ours} has no steps"
    assert [row["step"] for row in mine] == [row["step"] for row in other]
    for one, two in zip(mine, other, strict=True):
        other_keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
        assert not other_keys, [
            f"step {one['step']}",
            *((k, one.get(k), two.get(k)) for k in other_keys),
        ]
    assert_same_state(last_state(ours), last_state(theirs))


def assert_same_state(ours: TrainState, theirs: TrainState) -> None:
    """Step, weights, their average, the optimiser's moments and groups."""
    for name in ("step", "position", "skipped", "bad_samples", "idle_steps"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("model", "ema", "optimizer"):
        _same(getattr(ours, name), getattr(theirs, name), name)


def _same(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            _same(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            _same(one, two, f"{where}.{index}")
    else:
        assert ours == theirs, where
