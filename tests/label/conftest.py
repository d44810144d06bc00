"""One real room for all tests of labelling."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

CONFIG = """
run: {run}
sources:
  - source: infinigen2.rooms
    rooms: [bedroom]
scenes: 1
cameras_per_scene: 1
seed: 3
width: 1024
height: 512
samples: 2
products: [rgb, instance, depth, normal, semantic]
"""


@pytest.fixture(scope="session")
def rendered_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published dataset of one bedroom, rendered by `pano render`."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "room.yaml").write_text(CONFIG.format(run=folder / "run"))
    for words in (("render", "room.yaml"), ("pack", "run", "splits={train: 1.0}")):
        command = [sys.executable, "-m", "panoforge", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run" / "dataset"
