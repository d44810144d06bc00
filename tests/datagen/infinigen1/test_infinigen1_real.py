"""The real Infinigen 1: installed by the command, it makes a floor plan through a whole render."""

import subprocess
import sys

import pytest

from panoforge.datagen.infinigen1.command import LAUNCHER, UNFURNISHED, GeneratorStep
from panoforge.datagen.infinigen1.overlay import Infinigen1
from panoforge.datagen.infinigen1.process import run_step

pytestmark = [pytest.mark.real, pytest.mark.render, pytest.mark.timeout(1500)]


def pano(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "panoforge", *words], capture_output=True, text=True, timeout=1400
    )


@pytest.mark.ray
def test_a_home_without_furniture_is_made_by_the_real_command_and_refused_in_one_line(
    infinigen1, tmp_path
):
    """Seed, gin files, working folder and time limits are right, or it would end otherwise."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
run: {tmp_path / "run"}
sources:
  - source: infinigen1.indoors
    rooms: [bathroom]
    overrides: {list(UNFURNISHED)}
scenes: 1
scene_tries: 1
seed: 3
width: 128
height: 64
samples: 1
"""
    )
    done = pano("render", str(config), "-q")
    assert done.returncode == 0, done.stderr[-2000:]
    why = "no room is furnished: 3 assets are expected"
    assert why in done.stderr, done.stderr[-2000:]  # and not in a log only
    for words in (("status", str(tmp_path / "run")), ("logs", str(tmp_path / "run"), "0")):
        said = pano(*words)
        assert why in said.stdout + said.stderr, words
    log = next((tmp_path / "run" / "logs").iterdir()).read_text()
    assert "Writing output blendfile" in log  # it really made the floor plan


def test_it_is_said_where_it_is_and_how_it_is_installed(infinigen1):
    said = pano("sources")
    assert "ok       infinigen1.indoors" in said.stdout, said.stdout
    again = pano("sources", "install", "infinigen1")
    assert again.returncode == 0 and "infinigen1 is ready" in again.stdout
    wrong = pano("sources", "install")
    assert wrong.returncode == 2 and "say what to install: infinigen1" in wrong.stderr


SHELF = """
import pathlib
import numpy as np
from infinigen.assets.objects.elements import NatureShelfTrinketsFactory as Shelf
from infinigen.core.util.math import FixedSeed

def drawn(seed):
    with FixedSeed(seed):
        return np.random.choice(len(Shelf.probs), p=Shelf.probs / Shelf.probs.sum())

seed = next(seed for seed in range(1000) if drawn(seed) == 1)  # Blender's rock
rock = Shelf(seed).base_factory.spawn_asset(1, distance=200, adaptive_resolution=False)
print(type(Shelf(seed).base_factory).__name__, len(rock.data.polygons) > 100)
pathlib.Path({folder!r}, "scene.blend").touch()
"""


def test_a_rock_on_a_shelf_needs_no_extension(infinigen1: Infinigen1, tmp_path):
    """It ended a living room after 134 core-seconds; a boulder is drawn in its place."""
    (tmp_path / "shelf.py").write_text(SHELF.format(folder=str(tmp_path)))
    paths = f"{tmp_path}:{infinigen1.environment.get('PYTHONPATH', '')}"
    said: list[str] = []
    step = GeneratorStep((LAUNCHER, "shelf"), tmp_path)
    run_step(infinigen1, step, 300, {"PYTHONPATH": paths}, said.append)
    assert "BoulderFactory True" in said
