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

OPENJD = str(shutil.which("openjd"))
TEMPLATE = str(ROOT / "configs/cluster/openjd.yaml")
pytestmark = [
    pytest.mark.skipif(OPENJD == "None", reason="openjd is not installed (PyPI: openjd-cli)"),
    pytest.mark.ray,
    pytest.mark.slow,
]


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
    subprocess.run([OPENJD, "check", TEMPLATE], check=True)
    for step in ("Render", "Pack"):
        words = [OPENJD, "run", TEMPLATE, "--step", step, "-p", f"Config={config}"]
        words += ["-p", f"Run={run}", "-p", "Parts=2"]
        subprocess.run(words, check=True, env=variables, cwd=tmp_path, timeout=280)
    keys = sorted(Dataset.open(run / "dataset").keys)
    scenes = ("rooms-bedroom-00000001-c0", "rooms-livingroom-00000000-c0")
    assert keys == [f"part-{part}-{scene}" for part in ("001", "002") for scene in scenes]
    recorded = [yaml.safe_load((run / f"part-00{part}/render.json").read_text()) for part in (1, 2)]
    assert [record["seed"] for record in recorded] == [0, 1]
