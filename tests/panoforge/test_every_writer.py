"""Every verb that writes holds what it writes to: beside another process it is refused by name.

Races (`test_two_writers.py` and others) may miss a verb that forgot to; this cannot.
"""

import contextlib
import shutil
from pathlib import Path

import pytest
import synthetic
from hostile_pictures import plain
from repository import ROOT
from verbs_in_a_child import run_verbs

from panoforge.core.storage.lease import held


@pytest.mark.timeout(200)
def test_a_verb_that_writes_is_refused_beside_another(tmp_path: Path, caps_dataset: Path):
    dataset = shutil.copytree(caps_dataset, tmp_path / "dataset")
    synthetic.stage(tmp_path / "run" / "staged", 0, 0)
    (tmp_path / "a.png").write_bytes(plain("PNG"))
    carded = shutil.copytree(caps_dataset, tmp_path / "carded")
    names = ("packed", "coco", "stats", "trained", "work", "extracted")
    out = {name: tmp_path / name for name in names}
    train = str(ROOT / "configs" / "train" / "sap_tiny.yaml")
    verbs = {
        "pack": (out["packed"], ["pack", str(tmp_path / "run"), "--to", str(out["packed"])]),
        "repair": (dataset, ["repair", str(dataset)]),
        "export": (out["coco"], ["export", str(caps_dataset), str(out["coco"]), "--to", "coco"]),
        "card": (carded, ["card", str(carded), "--name", "x", "--license", "mit"]),
        "query": (
            out["extracted"],
            ["query", str(caps_dataset), "seed == 1", "--extract", str(out["extracted"])],
        ),
        "stats": (out["stats"], ["stats", str(caps_dataset), "--out", str(out["stats"])]),
        "train": (
            out["trained"] / "checkpoints",
            ["train", train, f"dataset={caps_dataset}", f"run={out['trained']}", "device=cpu"],
        ),
        "serve": (
            out["work"],
            ["serve", str(tmp_path / "a.png"), "--work", str(out["work"]), "--port", "0"],
        ),
    }
    with contextlib.ExitStack() as others:
        for verb, (place, _) in verbs.items():
            others.enter_context(held(place, f"another {verb}"))
        ended = run_verbs([words for _, words in verbs.values()], timeout_s=180)
    assert ended.codes == [1] * len(verbs), ended.stderr
    for verb, told in zip(verbs, ended.told, strict=True):
        assert f"is in use: another {verb} on " in told.splitlines()[-1], told
    assert not list(tmp_path.rglob("run.json"))  # what is refused is not recorded as having failed
