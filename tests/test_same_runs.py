"""What holds two runs to be the same sees a bit of an optimiser's moment, or of a loss."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from same_runs import assert_same_run

from panoforge.train import checkpoints

MOMENTS = {"exp_avg": torch.tensor([1.0, 2.0]), "step": torch.tensor(2.0)}
STATE = checkpoints.TrainState(
    step=2,
    position=4,
    model={"w": torch.tensor([1.0, 2.0])},
    optimizer={"state": {0: MOMENTS}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    ema={"w": torch.tensor([0.5, 0.5])},
    skipped=0,
    config={},
    config_sha256="a",
    dataset_sha256="b",
    weights_sha256="c",
)


def write(run: Path, state: checkpoints.TrainState, loss: float = 0.25, steps: int = 2) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    checkpoints.save(run / "checkpoints", state, 1)
    rows = [{"step": k + 1, "loss": loss, "ranks": 1, "seconds": 0.5} for k in range(steps)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_the_first_difference_is_named(tmp_path: Path):
    straight = write(tmp_path / "straight", STATE)
    assert_same_run(write(tmp_path / "same", copy.deepcopy(STATE)), straight)
    moment = copy.deepcopy(STATE)
    moment.optimizer["state"][0]["exp_avg"][1] += 2**-20
    rate = copy.deepcopy(STATE)
    rate.optimizer["param_groups"][0]["lr"] = 0.2
    average = replace(STATE, ema={"w": torch.tensor([0.5, 0.25])})
    for name, state, said in (
        ("moment", moment, "optimizer.state.0.exp_avg"),
        ("rate", rate, "optimizer.param_groups.0.lr"),
        ("average", average, "ema.w"),
        ("position", replace(STATE, position=5), "position"),
    ):
        with pytest.raises(AssertionError, match=said):
            assert_same_run(write(tmp_path / name, state), straight)
    with pytest.raises(AssertionError, match=r"step 1.*loss.*0\.25"):
        assert_same_run(write(tmp_path / "loss", STATE, loss=0.25 + 2**-40), straight)
    with pytest.raises(AssertionError):
        assert_same_run(write(tmp_path / "short", STATE, steps=1), straight)
    with pytest.raises(AssertionError, match="has no steps"):
        assert_same_run(write(tmp_path / "none", STATE, steps=0), straight)
