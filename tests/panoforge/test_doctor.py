"""The doctor on this machine, for real: what is installed works, what is missing is said with what
to do.
"""

import json
from pathlib import Path

import pytest

from panoforge import doctor


@pytest.mark.ray
@pytest.mark.render
def test_nothing_is_broken_where_everything_is_installed(tmp_path):
    checks = doctor.diagnose(tmp_path)
    assert {check.name for check in checks} == {
        "python",
        "memory",
        "disk",
        "bpy",
        "infinigen",
        "infinigen1",
        "speed",
        "ray",
        "torch",
        "sam2",
    }
    assert [check for check in checks if check.state == "broken"] == []
    assert all(check.advice for check in checks if check.state != "ok")
    (speed,) = [check for check in checks if check.name == "speed"]
    assert speed.state == "ok" and "for 1024×512 (preview) and" in speed.finding
    assert "for 4096×2048 (final) on" in speed.finding and "within a factor of" in speed.finding
    found = json.loads(doctor.as_json(checks))
    assert found["versions"]["bpy"] == "4.2.0"


def test_what_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    for check, advice in [
        (doctor._bpy_check(), "datagen"),
        (doctor._torch_check(), "train"),
        (doctor._sam2_check(), "train"),
    ]:
        assert check.state == "limited" and f"panoforge[{advice}]" in check.advice


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch):
    check = doctor._disk_check(Path("/proc/self/x"))
    assert check.state == "broken" and "run=FOLDER" in check.advice
