"""run.json: stages add up, failures are recorded, and only the first rank writes."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from panoforge.core.errors import DataError
from panoforge.core.storage.lease import InUse
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
    os.truncate(tmp_path / "run.json", 1 << 40)
    assert read_run(tmp_path) == {"stages": {}}
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    assert read_run(tmp_path) == {"stages": {}}


def test_what_failed_or_was_refused_does_not_replace_what_was_done(tmp_path):
    """The dataset that a pack made still stands when a later one fails; so does its record."""
    with record_stage(tmp_path, "pack", None) as entry:
        entry["samples"] = 6
    done = read_run(tmp_path)

    def end_with(error: BaseException) -> None:
        with record_stage(tmp_path, "pack", None) as entry:
            entry["samples"] = 99
            raise error

    with pytest.raises(InUse):
        end_with(InUse("another pano pack"))
    assert read_run(tmp_path) == done
    for error in (DataError("damaged"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            end_with(error)
        record = read_run(tmp_path)
        assert record["stages"] == done["stages"]
        assert (record["failed"]["pack"]["outcome"], record["failed"]["pack"]["samples"]) == (
            "failed",
            99,
        )
    with record_stage(tmp_path, "pack", None) as entry:
        entry["samples"] = 7
    assert read_run(tmp_path)["stages"]["pack"]["samples"] == 7 and "failed" not in read_run(
        tmp_path
    )


def test_a_refusal_leaves_no_folder(tmp_path):
    with pytest.raises(InUse), record_stage(tmp_path / "run", "train", None):
        raise InUse("another pano train")
    assert not (tmp_path / "run").exists()


def test_stages_that_end_together_are_all_recorded(tmp_path):
    """Each reads the record and writes it: without a lock the last one wins."""
    names = [f"stage{k}" for k in range(12)]

    def record(name: str) -> None:
        with record_stage(tmp_path, name, None):
            pass

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(record, names))
    assert set(read_run(tmp_path)["stages"]) == set(names)
