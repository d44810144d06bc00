"""Runs and checkpoint files that others made: links that lead out, links to nothing and in circles,
pipes, devices and folders in a file's place. Nothing waits, nothing outside is read or written.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hostile_pictures import plain
from repository import ROOT
from verbs_in_a_child import run_verbs

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import own_path
from panoforge.eval.config import EvalConfig
from panoforge.eval.folders import evaluation_folder
from panoforge.train.checkpoints import LATEST, TrainState, checkpoint_path, load_latest, save
from panoforge.train.mirror import Mirror
from panoforge.train.model.checkpoint_export import sidecar

TRAIN = ROOT / "configs" / "train" / "sap_tiny.yaml"
GEOMETRY = ROOT / "configs" / "eval" / "geometry.yaml"


def put(path: Path, kind: str, victim: Path) -> None:
    """Something of a kind in the place of `path`, which is removed; `victim` lies outside."""
    if path.is_dir() and not path.is_symlink():
        shutil.move(path, victim)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], object]] = {
        "a link out": lambda: path.symlink_to(victim),
        "a link to nothing": lambda: path.symlink_to(path.with_name("nothing")),
        "a link in a circle": lambda: path.symlink_to(path),
        "a link to a device": lambda: path.symlink_to("/dev/zero"),
        "a pipe": lambda: os.mkfifo(path),
        "a folder": lambda: path.mkdir(),
        "no end": lambda: (path.touch(), os.truncate(path, 1 << 40)),  # a sparse file
    }
    makers[kind]()


KINDS = (
    "a link out", "a link to nothing", "a link in a circle", "a link to a device", "a pipe",
    "a folder", "no end",
)  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["checkpoint", "digest", "latest"])
def test_a_part_of_a_checkpoint_that_is_something_else(tmp_path: Path, part: str, kind: str):
    """The one before is taken, and the refusal is said; `latest` is only a hint."""
    folder = tmp_path / "checkpoints"
    state = TrainState(
        step=1, position=1, model={"w": torch.ones(2)}, optimizer={}, ema={}, skipped=0, config={},
        config_sha256="c", dataset_sha256="d", weights_sha256="w",
    )  # fmt: skip
    for step in (1, 2):
        save(folder, TrainState(**{**state.__dict__, "step": step}), keep_last_k=2)
    newest = checkpoint_path(folder, 2)
    path = {"checkpoint": newest, "digest": sidecar(newest), "latest": folder / LATEST}[part]
    victim = tmp_path / "outside" / path.name
    victim.parent.mkdir()
    shutil.copy(path, victim)
    put(path, kind, victim)
    before, said = victim.read_bytes(), []
    assert load_latest(folder, said.append).step == (2 if part == "latest" else 1)
    assert part == "latest" or len(said) >= 1
    if part == "latest" and kind != "a folder":
        save(folder, state, keep_last_k=2)  # takes the link's place
    assert victim.read_bytes() == before


@pytest.mark.parametrize("kind", ["a link out", "a link in a circle", "a link to a device"])
def test_an_evaluation_is_not_written_through_a_link(tmp_path: Path, kind: str):
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    put(tmp_path / "run" / "eval", kind, tmp_path / "victim")
    with pytest.raises(DataError, match=r"leads (out of|nowhere)"):
        evaluation_folder(tmp_path / "run", EvalConfig(), "x", "a" * 64)


def test_a_run_that_is_itself_reached_by_a_link_is_whole(tmp_path: Path):
    (tmp_path / "disk" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert own_path(tmp_path / "run" / "checkpoints", tmp_path / "run").is_dir()


@pytest.mark.parametrize("name", ["../../evil.pt", "evil.pt", "/etc/passwd", "", "step-1.pt\0"])
def test_a_mirror_names_checkpoints_only(tmp_path: Path, name: str):
    place = tmp_path / "place"
    place.mkdir()
    (place / LATEST).write_text(name)
    with pytest.raises(DataError, match="no checkpoint of ours"):
        Mirror(tmp_path / "checkpoints", place).fetch()


@pytest.mark.timeout(280)
def test_the_verbs_end_in_one_line(tmp_path: Path, caps_dataset: Path):
    """`--checkpoint` of any kind in the verbs that take one; a run whose parts lead out."""
    (tmp_path / "good.png").write_bytes(plain("PNG"))
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "step-00000001.pt").write_text("weeks of training")
    (tmp_path / "diary.jsonl").write_text("dear diary\n")
    files = tmp_path / "files"
    for kind in KINDS:
        put(files / f"{kind}.pt", kind, tmp_path / "diary.jsonl")
    run = tmp_path / "fresh"
    data = [f"dataset={caps_dataset}", f"run={run}", "device=cpu"]
    weights = [str(files / f"{kind}.pt") for kind in KINDS]
    mixture = "mixture=panoramas-only"
    clicked = ["segment", str(tmp_path / "good.png"), "--click", "0,0", "--model", "tiny"]
    verbs = [["train", str(TRAIN), *data, mixture, "--checkpoint", file] for file in weights[-1:]]
    verbs += [["eval", str(GEOMETRY), "predictor=sam2", *data, "--checkpoint", weights[-2]]]
    verbs += [[*clicked, "--checkpoint", file, "--out", str(run)] for file in weights]
    predicted = ["predict", str(tmp_path / "good.png")]
    verbs += [[*predicted, "--checkpoint", file, "--out", str(run)] for file in weights]
    for kind in ("a link out", "a pipe"):
        for part, to in (("checkpoints", victim), ("metrics.jsonl", tmp_path / "diary.jsonl")):
            put(tmp_path / f"{kind} {part}" / part, kind, to)
            verbs.append(["train", str(TRAIN), *data, f"run={tmp_path / f'{kind} {part}'}"])
    ended = run_verbs(verbs, timeout_s=270)
    assert ended.codes == [1] * len(verbs), ended.stderr
    assert "Traceback" not in ended.stderr and ended.peak_bytes < 2 << 30
    for words, told in zip(verbs, ended.told, strict=True):
        assert told.count("error: ") == 1 and told.splitlines()[-1].startswith("error: "), words
    assert [path.name for path in victim.iterdir()] == ["step-00000001.pt"]
    assert (victim / "step-00000001.pt").read_text() == "weeks of training"
    assert (tmp_path / "diary.jsonl").read_text() == "dear diary\n"
