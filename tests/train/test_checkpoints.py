"""Checkpoints under damage: what is committed is whole, what is not whole is refused, and a run
never starts over.
"""

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from panoforge.core.errors import ConfigError, DataError, StorageError
from panoforge.train.checkpoints import TrainState, checkpoint_path, load, load_latest, save
from panoforge.train.model.checkpoint_export import export_official, sidecar
from panoforge.train.resume import changes_on_resume, different_keys


def state_at(step: int) -> TrainState:
    return TrainState(
        step=step,
        position=2 * step,
        model={"w": torch.full((4,), float(step))},
        optimizer={"state": {}, "param_groups": []},
        ema={},
        skipped=0,
        config={"seed": 0, "steps": 8, "clip": {"frames": 8}},
        config_sha256="c",
        dataset_sha256="d",
        weights_sha256="w",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4, 6, 8):
        save(tmp_path, state_at(step), keep_last_k=3)
    return tmp_path


def test_the_newest_k_are_kept_and_latest_names_the_newest(folder: Path):
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["latest"] + [f"step-{s:08d}.pt{x}" for s in (4, 6, 8) for x in ("", ".sha256")]
    )
    state = load_latest(folder, print)
    assert (
        state.step == 8
        and state.position == 16
        and torch.equal(state.model["w"], torch.full((4,), 8.0))
    )


def test_sidecar_is_what_sha256sum_checks(folder: Path):
    import subprocess

    done = subprocess.run(
        ["sha256sum", "-c", "step-00000008.pt.sha256"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": damage_flip,
    "a cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "nothing left": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "no digest": lambda path: sidecar(path).unlink(),
    "an empty digest": lambda path: sidecar(path).write_text(""),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_latest_falls_back_one_and_says_so(folder: Path, kind: str):
    DAMAGES[kind](checkpoint_path(folder, 8))
    said: list[str] = []
    assert load_latest(folder, said.append).step == 6
    assert len(said) == 1 and "step-00000008.pt" in said[0] and "falling back" in said[0]


def test_all_damaged_is_an_error_not_a_new_start(folder: Path):
    for step in (4, 6, 8):
        damage_flip(checkpoint_path(folder, step))
    with pytest.raises(DataError, match=r"of 3 checkpoints in .* none is whole"):
        load_latest(folder, lambda text: None)


def test_no_checkpoint_is_none(tmp_path: Path):
    assert load_latest(tmp_path, print) is None


def test_killed_within_its_first_save_a_run_begins_again(folder, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    path = checkpoint_path(begun, 2)
    path.write_bytes(checkpoint_path(folder, 8).read_bytes()[:1000])
    said: list[str] = []
    assert load_latest(begun, said.append) is None and "never finished" in said[0]
    (begun / "latest").write_text(path.name)  # it was committed once: its loss is said
    with pytest.raises(DataError, match=r"of 1 checkpoint in .* none is whole"):
        load_latest(begun, said.append)


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff\xfe", b"../../etc/passwd\n"])
def test_unreadable_latest_means_the_newest_whole_one(folder: Path, content: bytes):
    (folder / "latest").write_bytes(content)
    assert load_latest(folder, print).step == 8


def test_what_latest_does_not_know_is_not_committed(folder: Path):
    (folder / "latest").write_text("step-00000006.pt\n")
    assert load_latest(folder, print).step == 6


def test_kill_at_every_step_of_a_save_leaves_a_loadable_state(tmp_path: Path, monkeypatch):
    """Stop the writer at its n-th system call, for every n: what loads is the old state or the new
    one, whole.
    """
    import os

    names = ("open", "fsync", "replace", "unlink")
    real = {name: getattr(os, name) for name in names}
    for stop_at in range(1, 100):
        folder = tmp_path / str(stop_at)
        save(folder, state_at(2), keep_last_k=1)
        count = 0

        def counted(name):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == stop_at:  # noqa: B023
                    raise KeyboardInterrupt
                return real[name](*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, counted(name))
            try:
                save(folder, state_at(4), keep_last_k=1)
                finished = True
            except KeyboardInterrupt:
                finished = False
        state = load_latest(folder, lambda text: None)
        assert state.step in ((4,) if finished else (2, 4)), stop_at
        assert torch.equal(state.model["w"], torch.full((4,), float(state.step)))
        assert not list(folder.glob(".tmp-*"))
        if finished:
            assert stop_at > 8  # the save does make this many calls
            return
    pytest.fail("the save never finished")


def test_a_disk_that_fills_within_a_tensor_is_said_and_nothing_is_lost(folder: Path):
    """Of torch's writing too: a limit of this process stands for the disk's end."""
    big = replace(state_at(12), model={"w": torch.zeros(1 << 20)})
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match=r"step-00000012.pt: File too large"):
            save(folder, big, keep_last_k=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert load_latest(folder, print).step == 8
    assert not list(folder.glob(".tmp-*"))


def test_saving_the_same_step_again_is_sound(folder: Path):
    save(folder, state_at(8), keep_last_k=3)
    assert load_latest(folder, print).step == 8


def test_other_files_are_refused(tmp_path: Path):
    path = export_official(tmp_path / "step-00000001.pt", {"w": torch.ones(2)}, 1)
    with pytest.raises(
        DataError,
        match=r"not a training checkpoint of version 1: to start from its weights, set model\.che",
    ):
        load(path)


def test_another_run_is_refused_by_what_differs(tmp_path: Path):
    state = state_at(2)
    changes_on_resume(state, state.config, "d", "w", tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"another config .clip\.frames: 8 there, 4 now.*train into another folder",
    ):
        changes_on_resume(state, {"seed": 0, "steps": 8, "clip": {"frames": 4}}, "d", "w", tmp_path)
    with pytest.raises(ConfigError, match="another dataset"):
        changes_on_resume(state, state.config, "other", "w", tmp_path)
    with pytest.raises(ConfigError, match="began with other weights"):
        changes_on_resume(state, state.config, "d", "other", tmp_path)


def test_differences_are_found_at_any_depth():
    assert sorted(
        different_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4})
    ) == [("a.c", 2, 5), ("d", 3, None), ("e", None, 4)]
