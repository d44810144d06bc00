"""Saving beside the training: copies, errors at the next step, kills at every system call,
safetensors.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from train_small import small_config

from panoforge.core.errors import DataError, StorageError
from panoforge.core.storage import atomic as storage
from panoforge.train import checkpoints
from panoforge.train.checkpoints import Saver, TrainState, load_latest, snapshot
from panoforge.train.model.build import build_model
from panoforge.train.model.checkpoint_export import export_official, export_safetensors
from panoforge.train.model.checkpoint_io import read_checkpoint
from panoforge.train.run import run_training


def state_at(step: int) -> TrainState:
    return TrainState(
        step=step,
        position=2 * step,
        model={"w": torch.full((4096,), float(step))},
        ema={},
        skipped=0,
        config={},
        optimizer={
            "state": {0: {"step": torch.tensor(float(step))}},
            "param_groups": [{"lr": 0.1}],
        },
        config_sha256="c",
        dataset_sha256="d",
        weights_sha256="w",
    )


def test_what_is_saved_is_the_state_at_the_call(tmp_path: Path, monkeypatch):
    """The training goes on while the thread has not begun: the copy does not follow it."""
    go, real = threading.Event(), checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *args: go.wait(20) and real(*args))
    saver, state = Saver(tmp_path, 2), state_at(3)
    saver.save(state, wait=False)
    state.model["w"].zero_()
    state.optimizer["state"][0]["step"].zero_()
    assert (
        load_latest(tmp_path, print) is None
    )  # nothing is there before the thread has been let go
    saver.check()  # still at it: no wait, no error
    go.set()
    saver.wait()
    saved = load_latest(tmp_path, print)
    assert (
        torch.equal(saved.model["w"], torch.full((4096,), 3.0))
        and saved.optimizer["state"][0]["step"] == 3
    )


def test_saves_do_not_overtake_each_other(tmp_path: Path):
    saver = Saver(tmp_path, 2)
    for step in range(1, 6):
        saver.save(state_at(step), wait=step == 5)
    assert load_latest(tmp_path, print).step == 5
    assert sorted(p.name for p in tmp_path.glob("step-*.pt")) == [
        "step-00000004.pt",
        "step-00000005.pt",
    ]


@pytest.mark.parametrize("save_fails", [False, True])
def test_an_error_of_the_training_waits_for_the_save_under_way(
    tmp_path: Path, monkeypatch, save_fails: bool
):
    """A slow save (0.3 s) has begun when the training raises: its state is there when the error
    comes out, or it is a note.
    """
    real = checkpoints.save

    def slow(*args) -> Path:
        time.sleep(0.3)
        if save_fails:
            raise StorageError("the disk is full")
        return real(*args)

    monkeypatch.setattr(checkpoints, "save", slow)
    saver = Saver(tmp_path, 2)

    def interrupted() -> None:
        with saver.settled():
            saver.save(state_at(3), wait=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    if save_fails:
        assert "the disk is full" in caught.value.__notes__[0]
    else:
        assert load_latest(tmp_path, print).step == 3


def test_snapshot_follows_containers():
    tensor = torch.ones(2, requires_grad=True)
    copy = snapshot({"a": [tensor, (tensor, 1)], "b": "text"})
    assert copy["b"] == "text" and copy["a"][1][1] == 1 and isinstance(copy["a"][1], tuple)
    for t in (copy["a"][0], copy["a"][1][0]):
        assert (
            torch.equal(t, torch.ones(2))
            and t.data_ptr() != tensor.data_ptr()
            and not t.requires_grad
        )


def test_a_full_disk_stops_the_run_at_its_next_step(
    caps_dataset: Path, tmp_path: Path, monkeypatch
):
    """The save after step 1 fails in its thread; the run ends before the last step, and the state
    before is whole.
    """
    import errno

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = checkpoints.save

    def save(folder: Path, state: TrainState, keep: int) -> Path:
        if state.step == 1:
            return real(folder, state, keep)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            return real(folder, state, keep)

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(StorageError, match="the disk is full"):
        run_training(
            small_config(model={"size": "micro"}, steps=8, checkpoint_every=1, clips_per_step=1),
            caps_dataset,
            tmp_path,
        )
    assert load_latest(tmp_path / "checkpoints", print).step == 1
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))


def test_a_kill_at_any_call_of_a_save_leaves_a_state(tmp_path: Path):
    """A child process saves in the background and is killed (SIGKILL) at its n-th open, write,
    fsync, rename or unlink, for every n: the old state or the new one loads, whole.
    """
    for stop_at in range(1, 200):
        folder = tmp_path / str(stop_at)
        checkpoints.save(folder, state_at(2), 1)
        child = os.fork()
        if child == 0:
            try:
                kill_at(stop_at)
                saver = Saver(folder, 1)
                saver.save(state_at(4), wait=False)
                saver.wait()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        said: list[str] = []
        state = load_latest(folder, said.append)
        assert state.step in ((2, 4) if killed else (4,)), stop_at
        assert torch.equal(state.model["w"], torch.full((4096,), float(state.step)))
        storage.sweep_temporaries(folder)  # as the next run does, once the folder is its own
        assert not list(folder.glob(".tmp-*")), "what the killed writer left is swept away"
        if not killed:
            assert stop_at > 15, "the save does make this many calls"
            return
    pytest.fail("the save never finished")


def kill_at(stop_at: int) -> None:
    """Count this process's calls that change files, and end it at the n-th, before the call."""
    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("open", "fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))

    class Counting:
        """A file whose writes reach the disk one by one and are counted."""

        def __init__(self, *args, **kwargs) -> None:
            self.file = open(*args, **kwargs)  # noqa: SIM115
            self.write = counted(self.now)

        def now(self, data) -> int:
            written = self.file.write(data)
            self.file.flush()
            return written

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *args) -> None:
            self.file.close()

    storage.open = counted(Counting)  # type: ignore[attr-defined]  what `open` means inside that module


def test_safetensors_holds_what_the_official_file_holds(tmp_path: Path):
    from safetensors import safe_open

    config = small_config(model={"size": "micro"})
    model, _ = build_model(config.model, config.prompt)
    one = export_official(tmp_path / "model.pt", model.state_dict(), 7)
    two = export_safetensors(tmp_path / "model.safetensors", model.state_dict(), 7)
    a, b = read_checkpoint(one), read_checkpoint(two)
    assert a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a
    )
    with safe_open(two, "pt") as file:
        assert file.metadata() == {"format": "pt", "step": "7"}
    settings = small_config(
        model={"size": "micro", "checkpoint": str(two)}, mixture="panoramas-only"
    ).model
    again, weights = build_model(settings, config.prompt, seed=3)
    assert weights.source == "model.safetensors" and torch.equal(again.no_obj_ptr, model.no_obj_ptr)
    two.write_bytes(two.read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot be read as safetensors: truncated"):
        read_checkpoint(two)


def test_train_exports_both(caps_dataset: Path, tmp_path: Path):
    export = run_training(
        small_config(
            model={"size": "micro"},
            steps=1,
            clips_per_step=1,
            export=["safetensors"],
            ema_decay=0.5,
        ),
        caps_dataset,
        tmp_path,
    )
    both = read_checkpoint(export), read_checkpoint(export.with_suffix(".safetensors"))
    assert all(torch.equal(both[0][k], both[1][k]) for k in both[0])
    assert (
        small_config(export=["safetensors"], async_save=False).sha256() == small_config().sha256()
    )
