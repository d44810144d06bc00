"""Paths that a config names are looked for before anything heavy is imported, with their keys."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from panoforge.core.config.needed import Needed, require
from panoforge.core.errors import DataError


def test_every_missing_path_is_named_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt").touch()
    there = [Needed("a", Path("there.pt")), Needed("b", None), Needed("c", tmp_path)]
    require(there)
    with pytest.raises(DataError) as caught:
        require([*there, Needed("model.checkpoint", Path("no.pt")), Needed("d", Path("/no/e"))])
    assert str(caught.value) == (
        f"model.checkpoint: no.pt: it does not exist, looked for from {tmp_path}. Expected a file"
        " of weights: put it there, or name another with model.checkpoint. Nor do d: /no/e"
    )
    with pytest.raises(DataError, match=r"it does not exist\. Expected a prompts\.json"):
        require([Needed("prompts.file", Path("/no/prompts.json"), "a prompts.json")])


TEACHERS = """
entities: [{kind: sam2, model: {checkpoint: a.pt}}]
panoptic: [{kind: panoptic, folder: b}]
follow: {kind: sam2, model: {checkpoint: c.pt}}
hide: {classes: [face], teachers: [{kind: panoptic, folder: d}]}
vocabulary: e.yaml
"""
KEYS = (
    "entities.0.model.checkpoint: a.pt", "panoptic.0.folder: b", "follow.model.checkpoint: c.pt",
    "hide.teachers.0.folder: d", "vocabulary: e.yaml",
)  # fmt: skip
DENSE = "configs/train/mtpano_tiny.yaml"


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("annotate", "x", "--config", "t.yaml"), KEYS),
        (("eval", "configs/eval/sap.yaml", "run=r", "--checkpoint", "g.pt", "prompts.file=h.json",
          "prompts.corrected=[]"),
         ("prompts.file: h.json", "model.checkpoint: g.pt")),
        (("train", DENSE, "run=r", "dense.model.backbone={folder: k}", "dense.checkpoint=g.pt"),
         ("dense.checkpoint: g.pt", "dense.model.backbone.folder: k")),
    ],
    ids=["annotate", "eval", "train"],
)  # fmt: skip
def test_they_are_missed_at_once(tmp_path: Path, words: tuple, keys: tuple) -> None:
    """By the command as a process, which has not even begun to import torch."""
    (tmp_path / "t.yaml").write_text(TEACHERS)
    words = tuple(str(ROOT / word) if word.startswith("configs/") else word for word in words)
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "panoforge", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert ended.returncode == 1 and said[-1].startswith(f"error: {keys[0]}: it does not exist")
    assert all(key in said[-1] for key in keys)
    assert not re.search(r"\| *(torch|transformers|ray)$", ended.stderr, re.M)


def test_what_other_configs_need() -> None:
    from panoforge.eval.config import EvalConfig
    from panoforge.label.pseudo.config import PseudolabelConfig
    from panoforge.train.config import TrainConfig

    def keys(model: Any, asked: dict) -> list[str]:
        return [one.key for one in model.model_validate(asked).needed() if one.path is not None]

    alone = {"model": {"checkpoint": "g.pt"}, "mixture": "panoramas-only"}
    dense = {"task": "dense", "dense": {"checkpoint": "g.pt"}}
    assert keys(EvalConfig, dense) == ["dense.checkpoint"]
    assert keys(TrainConfig, alone) == ["model.checkpoint"]
    depth = {"depth": {"kind": "depth", "folder": "f"}, "vocabulary": "v"}
    assert keys(PseudolabelConfig, depth) == ["depth.folder", "vocabulary"]


def test_what_is_not_read_may_be_missing(tmp_path: Path) -> None:
    from panoforge.eval.config import EvalConfig

    model = {"checkpoint": str(tmp_path / "no.pt")}
    asked = EvalConfig.model_validate({"predictor": "ground_truth", "model": model})
    require(asked.needed())
    with pytest.raises(DataError, match=r"model\.checkpoint"):
        require(EvalConfig.model_validate({"model": model}).needed())
    require(EvalConfig.model_validate({"model": {"checkpoint": "random"}}).needed())
