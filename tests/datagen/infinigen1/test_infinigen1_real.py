"""The real Infinigen 1: installed by the command, it makes a floor plan through a whole render."""

import subprocess
import sys

import pytest

from panoforge.datagen.infinigen1.command import UNFURNISHED

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
