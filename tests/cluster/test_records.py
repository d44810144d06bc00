"""Scene records: what counts as settled, and what a later run does again."""

import pytest

from cluster.records import SceneRecord, read_record, settled, write_record


def record(state="done", **change) -> SceneRecord:
    fields = {"scene": "s-1", "state": state, "reason": None, "panoramas": ("s-1-c0",), "config_sha256": "a" * 64,
              "seconds": 1.0, "node": "n", "log": "logs/s-1.log"}
    return SceneRecord(**{**fields, **change})


@pytest.fixture
def run(tmp_path):
    (tmp_path / "staged" / "s-1-c0").mkdir(parents=True)
    (tmp_path / "staged" / "s-1-c0" / "meta.json").write_text("{}")
    return tmp_path


def test_a_done_scene_is_settled(run):
    write_record(run, record())
    assert settled(run, "s-1", "a" * 64) == record()


def test_a_rejected_scene_is_settled(run):
    write_record(run, record("rejected", panoramas=(), reason="no pose"))
    assert settled(run, "s-1", "a" * 64)


@pytest.mark.parametrize("why", ["failed", "other config", "panorama lost", "no record", "torn record"])
def test_everything_else_is_done_again(run, why):
    write_record(run, record("failed" if why == "failed" else "done"))
    if why == "panorama lost":
        (run / "staged" / "s-1-c0" / "meta.json").unlink()
    if why == "no record":
        (run / "scenes" / "s-1.json").unlink()
    if why == "torn record":
        (run / "scenes" / "s-1.json").write_text('{"scene": "s-1", "sta')
        assert read_record(run, "s-1") is None
    assert settled(run, "s-1", ("b" if why == "other config" else "a") * 64) is None
