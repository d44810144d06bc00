"""run.json: stages add up, failures are recorded, and only the first rank writes."""

import json

import pytest

from panoforge.core.storage.runlog import read_run, record_stage


def test_stages_add_up_and_failures_are_recorded(tmp_path):
    with record_stage(tmp_path, "render", None, seed=0) as entry:
        entry["panoramas"] = 6

    def fail() -> None:
        with record_stage(tmp_path, "train", None):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    stages = json.loads((tmp_path / "run.json").read_text())["stages"]
    assert (
        stages["render"]["outcome"],
        stages["render"]["panoramas"],
        stages["render"]["seed"],
    ) == ("done", 6, 0)
    assert stages["train"]["outcome"] == "failed"
    assert stages["render"]["versions"]["panoforge"] and stages["render"]["hardware"]["cores"]


def test_only_the_first_rank_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with record_stage(tmp_path, "train", None):
        pass
    assert not (tmp_path / "run.json").exists()


def test_a_damaged_record_is_no_obstacle(tmp_path):
    (tmp_path / "run.json").write_text("{")
    assert read_run(tmp_path) == {"stages": {}}
