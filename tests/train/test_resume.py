"""Runs that go on otherwise than they began: longer, at another rate; never as another run, never
two at once, never over another's results.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from train_small import SMALL, small_config

from panoforge.core.errors import ConfigError
from panoforge.core.storage.lease import InUse
from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.optim import lr_scale
from panoforge.train.run import run_training

TIMING = ("seconds", "clips_per_s", "peak_memory_mb")
CONSTANT = {"final_lr_ratio": 1.0}


def micro(**changes: object) -> TrainConfig:
    return small_config(**{"model": {"size": "micro"}, **changes})


def rows(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def record(run: Path) -> dict:
    return json.loads((run / "train.json").read_text())


@pytest.fixture(scope="module")
def short(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps under the cosine, finished."""
    out = tmp_path_factory.mktemp("short")
    run_training(micro(steps=2), caps_dataset, out)
    return out


def test_a_lengthened_run_is_the_long_run(caps_dataset: Path, tmp_path: Path) -> None:
    """At a constant rate: 4 steps, then 8, are 8 steps to the bit. The change is recorded."""
    long, lengthened = tmp_path / "long", tmp_path / "lengthened"
    run_training(micro(steps=8, optim=CONSTANT, ema_decay=0.9), caps_dataset, long)
    run_training(micro(steps=4, optim=CONSTANT, ema_decay=0.9), caps_dataset, lengthened)
    assert len(rows(lengthened)) == 4 and record(lengthened)["changes"] == []
    config = micro(steps=8, optim=CONSTANT, ema_decay=0.9, checkpoint_every=3)
    run_training(config, caps_dataset, lengthened)
    assert rows(lengthened) == rows(long)
    ours, theirs = (checkpoints.load_latest(o / "checkpoints", print) for o in (lengthened, long))
    assert all(torch.equal(ours.model[name], tensor) for name, tensor in theirs.model.items())
    for key, slot in theirs.optimizer["state"].items():
        assert all(torch.equal(ours.optimizer["state"][key][k], v) for k, v in slot.items()), key
    exports = [(run / "checkpoints/model.pt").read_bytes() for run in (lengthened, long)]
    assert exports[0] == exports[1]
    assert record(lengthened)["changes"] == [{"key": "steps", "old": 4, "new": 8, "after_step": 4}]


def test_a_cosine_is_followed_as_the_longer_run_has_it(caps_dataset: Path, short: Path) -> None:
    """The rate of a step is that of the run's length of now: it jumps where a run is lengthened.
    Rates that change hold from there on, with the moments kept.
    """
    config = micro(steps=4, optim={"lr": 2e-4})
    run_training(config, caps_dataset, short)
    before, after = 1e-4, 2e-4
    expected = [
        before * lr_scale(0, 2, config.optim),
        before * lr_scale(1, 2, config.optim),
        after * lr_scale(2, 4, config.optim),
        after * lr_scale(3, 4, config.optim),
    ]
    assert [row["lr"] for row in rows(short)] == pytest.approx(expected)
    state = checkpoints.load_latest(short / "checkpoints", print)
    assert {group["initial_lr"] for group in state.optimizer["param_groups"]} == {after}
    assert {int(slot["step"]) for slot in state.optimizer["state"].values()} <= {1, 2, 3, 4}
    assert max(int(slot["step"]) for slot in state.optimizer["state"].values()) > 2
    assert [(c["key"], c["old"], c["new"]) for c in record(short)["changes"]] == [
        ("optim.lr", before, after),
        ("steps", 2, 4),
    ]
    run_training(micro(steps=5, optim={"lr": 2e-4}), caps_dataset, short)  # changes add up
    assert [c["after_step"] for c in record(short)["changes"]] == [2, 2, 4]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"clip": {"frames": 2}}, "clip.frames: 3 there, 2 now"),
        ({"model": {"size": "tiny"}}, "model.size: 'micro' there, 'tiny' now"),
        ({"clips_per_step": 4}, "clips_per_step: 2 there, 4 now"),
        ({"optim": {"betas": (0.8, 0.99)}}, r"optim.betas: \[0.9, 0.999\] there"),
        ({"steps": 1}, "steps is 1, but .* has done [245]: a run is not made shorter"),
    ],
)
def test_what_would_be_another_run_is_refused(
    caps_dataset: Path, short: Path, changes: dict, says: str
) -> None:
    before = (short / "checkpoints/model.pt").read_bytes()
    with pytest.raises(ConfigError, match=says):
        run_training(micro(**{"steps": 9, **changes}), caps_dataset, short)
    assert (short / "checkpoints/model.pt").read_bytes() == before


def test_results_whose_checkpoints_are_gone_are_not_overwritten(
    caps_dataset: Path, tmp_path: Path
) -> None:
    config = micro(steps=1)
    run_training(config, caps_dataset, tmp_path)
    for name in ("step-00000001.pt", "step-00000001.pt.sha256", "latest"):
        (tmp_path / "checkpoints" / name).unlink()
    before = (tmp_path / "checkpoints/model.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"holds the results of another run \(train\.json\)"):
        run_training(micro(steps=1, seed=3), caps_dataset, tmp_path)
    assert (tmp_path / "checkpoints/model.pt").read_bytes() == before
    run_training(config, caps_dataset, tmp_path)  # the same run gives the same results
    assert (tmp_path / "checkpoints/model.pt").read_bytes() == before
    (tmp_path / "checkpoints/step-00000001.pt").unlink()
    (tmp_path / "checkpoints/latest").unlink()
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(ConfigError, match="holds the results of another run"):
        run_training(config, caps_dataset, tmp_path)


def test_steps_with_nothing_to_learn_are_left_out_and_counted(
    caps_dataset: Path, tmp_path: Path
) -> None:
    """True masks on both of two frames: no prediction, no gradient. Upstream dies there, and so
    did each resume.
    """
    config = micro(
        clip={"frames": 2}, prompt={"corrections": 0, "points": 0.0}, steps=4, checkpoint_every=1
    )
    run_training(config, caps_dataset, tmp_path)
    idle = [row["step"] for row in rows(tmp_path) if row.get("idle")]
    assert 0 < len(idle) < 4 and record(tmp_path)["idle_steps"] == len(idle)
    longer = config.model_copy(update={"steps": 6})
    run_training(longer, caps_dataset, tmp_path)
    everything = [row["step"] for row in rows(tmp_path) if row.get("idle")]
    assert everything[: len(idle)] == idle and record(tmp_path)["idle_steps"] == len(everything)


def test_an_idle_step_moves_nothing(caps_dataset: Path, tmp_path: Path) -> None:
    config = micro(
        clip={"frames": 2}, prompt={"corrections": 0, "points": 0.0}, steps=4, keep_last_k=9
    ).model_copy(update={"checkpoint_every": 1})
    run_training(config, caps_dataset, tmp_path)
    at = {
        step: checkpoints.load(checkpoints.checkpoint_path(tmp_path / "checkpoints", step)).model
        for step in range(1, 5)
    }
    for row in rows(tmp_path)[1:]:
        same = all(
            torch.equal(tensor, at[row["step"] - 1][name])
            for name, tensor in at[row["step"]].items()
        )
        assert same == row.get("idle", False)


def test_a_second_run_in_one_folder_is_refused(caps_dataset: Path, tmp_path: Path) -> None:
    """A real `pano train` is at work; then it is killed, and the folder is free at once."""
    run = tmp_path / "run"
    content = {**SMALL, "model": {"size": "micro", "image_size": 128}, "steps": 500}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump({**content, "run": str(run), "dataset": str(caps_dataset)}))
    with subprocess.Popen(
        [sys.executable, "-m", "panoforge", "train", str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        try:
            while not read_metrics(run / "metrics.jsonl"):
                assert first.poll() is None, "it ended by itself"
                time.sleep(0.1)
            config = TrainConfig.model_validate({**content, "steps": 3})
            with pytest.raises(InUse, match=rf"checkpoints is in use: pano train on .*{first.pid}"):
                run_training(config, caps_dataset, run)
        finally:
            first.send_signal(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    done = checkpoints.load_latest(run / "checkpoints", print)
    steps = done.step + 1 if done else 1
    run_training(config.model_copy(update={"steps": steps}), caps_dataset, run)
    assert not (run / "checkpoints/lease").exists()
