"""What is said of Infinigen 1 before anything runs: what a config lacks here, what its scenes will
cost, what `pano sources` and `pano doctor` find.
"""

from pathlib import Path

import pytest

from panoforge import doctor
from panoforge import scene_sources as sources
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.cost.expected_cost import PROBE, expected_cost
from panoforge.datagen.infinigen1 import overlay


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder in which nothing is installed, and no extension either."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "antlandscape_installed", lambda: False)
    return tmp_path / "panoforge" / "infinigen1-1.15.5"


def missing(**source: object) -> list[str]:
    return sources.missing_here(RenderConfig(sources=(source,)))


def test_a_config_that_lacks_the_overlay_is_told_how_to_get_it(nothing):
    (said,) = missing(source="infinigen1.indoors")
    assert said.startswith(f"infinigen1.indoors: Infinigen 1 is not installed in {nothing}:")
    assert "pano sources install infinigen1 (about 0.8 GB)" in said
    (nothing / "site.partial").mkdir(parents=True)
    assert "is half-installed" in missing(source="infinigen1.indoors")[0]
    assert (
        "/nowhere/x is no executable"
        in missing(source="infinigen1.indoors", python="/nowhere/x")[0]
    )


def test_biomes_and_addons_that_do_not_work_are_named(nothing, monkeypatch):
    found = overlay.Infinigen1("python", nothing, "1.15.5", {})
    monkeypatch.setattr(sources, "find_generator", lambda source: found)
    monkeypatch.setattr(sources, "check_gin_files", lambda source, generator: None)
    (said,) = missing(source="infinigen1.nature", biomes=["plain", "desert", "river"])
    assert said.startswith("infinigen1.nature: desert, river need Blender's extension A.N.T.")
    (said,) = missing(source="infinigen1.nature", addons=["/nowhere/meshes.zip"])
    assert said == "infinigen1.nature: addons: no such file: /nowhere/meshes.zip"
    assert missing(source="infinigen1.nature", biomes=["plain"]) == []


def test_sources_and_doctor_say_what_is_there(nothing):
    listed = {state.name: state.missing for state in sources.known_sources()}
    assert "pano sources install infinigen1" in listed["infinigen1.indoors"]
    assert listed["infinigen1.nature"] == listed["infinigen1.indoors"]
    check = doctor._infinigen1_check()
    assert check.state == "limited" and str(nothing) in check.finding
    assert check.advice.startswith("pano sources install infinigen1")


def test_the_plan_says_what_rooms_cost_and_what_a_cache_saves():
    def costs(**settings: object) -> list[str]:
        room = {"source": "infinigen1.indoors", "rooms": ["kitchen", "bedroom"]}
        other = {"source": "infinigen2.rooms", "rooms": ["bathroom"]}
        return sources.generation_costs(
            RenderConfig(sources=({**room, **settings}, other), scenes=8, cameras_per_scene=20)
        )

    (said,) = costs(profile="documented")  # 3 kinds take turns: 6 of 8 scenes are its rooms
    assert (
        "infinigen1.indoors: about 960 core-seconds to generate a room, profile documented, 1.6"
        " core-hours for 6, 48 core-s" in said
    )
    assert "with cache=FOLDER on the source, runs share what was generated" in said
    assert "cost none of it: scenes" in costs(cache="scenes")[0]
    assert costs(rooms="all") == []  # not measured


def test_the_plan_says_what_landscapes_cost():
    """Their memory too: 10 GB is more than many a node gives a process."""
    nature = {"source": "infinigen1.nature", "biomes": ["simple", "forest"]}
    config = RenderConfig(sources=(nature,), scenes=4, cameras_per_scene=10)
    (said,) = sources.generation_costs(config)
    assert said.startswith(
        "infinigen1.nature: about 980 core-seconds and 10 GB of memory to generate a landscape,"
        " 1.09 core-hours for 4, 98 core-seconds a panorama; with cache=FOLDER on the source"
    )
    one = expected_cost(config.model_copy(update={"cameras_per_scene": 1}), PROBE)
    assert one.scene_s == pytest.approx(1190)
