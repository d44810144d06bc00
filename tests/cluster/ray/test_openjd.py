"""The Open Job Description template, checked and run by its own tool: openjd of openjd-cli."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import ROOT

from panoforge.core.shards.read import Dataset

BESIDE = Path(sys.executable).with_name("openjd")
OPENJD = str(BESIDE if BESIDE.exists() else shutil.which("openjd"))
TEMPLATE = ROOT / "configs/cluster/openjd.yaml"
pytestmark = pytest.mark.skipif(
    OPENJD == "None" and "CI" not in os.environ,
    reason="openjd is not installed (PyPI: openjd-cli; `make setup` does)",
)


def check(template: Path) -> str:
    """What the tool says of a template; its exit code first."""
    done = subprocess.run(
        [OPENJD, "check", str(template)], capture_output=True, text=True, timeout=120, check=False
    )
    return f"{done.returncode}: {done.stdout}{done.stderr}"


def test_the_template_is_one_and_a_spoilt_one_is_none(tmp_path: Path):
    assert check(TEMPLATE).startswith("0: ")
    spoilt = tmp_path / "spoilt.yaml"
    for old, new in (("minValue: 1", "leastValue: 1"), ("{{Param.Parts}}", "{{Param.Hosts}}")):
        text = TEMPLATE.read_text()
        assert old in text
        spoilt.write_text(text.replace(old, new))
        assert not check(spoilt).startswith("0: ")


@pytest.mark.ray
@pytest.mark.real
def test_two_hosts_render_a_part_each_and_one_packs(tmp_path: Path):
    """One after the other here; each `pano render` has its own Ray and its own seed."""
    run, config = tmp_path / "run", tmp_path / "job.yaml"
    fields = {"scenes": 2, "cameras_per_scene": 1, "width": 64, "height": 32, "run": "not here"}
    content = {**fields, "worker": "chaos_worker", "limits": {"min_free_gb": 0}}
    config.write_text(yaml.safe_dump(content))
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/cluster'}",
        "CHAOS": str(tmp_path / "chaos"),
    }
    for step in ("Render", "Pack"):
        words = [OPENJD, "run", str(TEMPLATE), "--step", step, "-p", f"Config={config}"]
        words += ["-p", f"Run={run}", "-p", "Parts=2"]
        subprocess.run(words, check=True, env=variables, cwd=tmp_path, timeout=280)
    keys = sorted(Dataset.open(run / "dataset").keys)
    scenes = ("rooms-bedroom-00000001-c0", "rooms-livingroom-00000000-c0")
    assert keys == [f"part-{part}-{scene}" for part in ("001", "002") for scene in scenes]
    recorded = [yaml.safe_load((run / f"part-00{part}/render.json").read_text()) for part in (1, 2)]
    assert [record["seed"] for record in recorded] == [0, 1]
