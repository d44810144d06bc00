"""What Infinigen 1 is asked: seeds that it can read, gin files that it has, room after room."""

import pytest

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.core.errors import ConfigError
from panoforge.datagen.config.render import RenderConfig, plan_scenes
from panoforge.datagen.infinigen1.command import (
    LAUNCHER,
    check_gin_files,
    hexadecimal_seed,
    needs_antlandscape,
    steps,
)
from panoforge.datagen.infinigen1.overlay import Infinigen1
from panoforge.datagen.source_settings import Infinigen1Indoors, Infinigen1Nature


def indoors(**settings: object) -> Infinigen1Indoors:
    return Infinigen1Indoors(source="infinigen1.indoors", **settings)


def nature(**settings: object) -> Infinigen1Nature:
    return Infinigen1Nature(source="infinigen1.nature", **settings)


@pytest.mark.parametrize("seed", [0, 7, 123_456_789, 2**31, 2**32 - 1, 2**32, 2**63 - 1])
def test_seeds_are_hexadecimal_and_below_two_to_the_32(seed):
    assert int(hexadecimal_seed(seed), 16) == seed % 2**32


def test_room_types_take_turns_and_are_the_variant():
    config = RenderConfig(sources=(indoors(),), scenes=6)
    jobs = plan_scenes(config)
    assert [job.variant for job in jobs] == [
        "diningroom",
        "livingroom",
        "bedroom",
        "kitchen",
        "bathroom",
        "diningroom",
    ]
    assert jobs[1].key == "infinigen1-livingroom-00000001"


def test_a_fast_room(tmp_path):
    (step,) = steps(indoors(), "diningroom", 2**40 + 0xABC, tmp_path)
    words = " ".join(step.arguments)
    assert words.startswith(
        LAUNCHER + " infinigen_examples.generate_indoors --seed abc --task coarse --output_folder"
    )
    assert "-g fast_solve.gin singleroom.gin -p compose_indoors.terrain_enabled=False" in words
    assert 'restrict_solving.restrict_parent_rooms=["DiningRoom"]' in words
    assert "solve_steps_large=25" in words and "solve_max_parent_obj=4" in words
    assert words.endswith("compose_indoors.lights_off_chance=0")


def test_profiles_lamps_homes_and_a_users_own_words(tmp_path):
    (documented,) = steps(indoors(profile="documented", lamps=False), "kitchen", 1, tmp_path)
    assert "fast_solve.gin" in documented.arguments
    assert not any("solve_steps" in word or "lights" in word for word in documented.arguments)
    (home,) = steps(indoors(rooms="all", profile="full"), "home", 1, tmp_path)
    assert "-g" not in home.arguments  # neither fast_solve nor singleroom
    assert not any("restrict_parent_rooms" in word for word in home.arguments)
    own = indoors(configs=("mine.gin",), overrides=("a.b=1",))
    (step,) = steps(own, "bedroom", 1, tmp_path)
    assert "mine.gin" in step.arguments and "singleroom.gin" not in step.arguments
    assert step.arguments[-1] == "a.b=1"  # the last binding wins


def test_nature_is_coarse_then_fine_and_without_rocks(tmp_path):
    coarse, fine = steps(nature(), "forest", 16, tmp_path)
    assert coarse.arguments[-4:] == ("-g", "forest.gin", "simple.gin", "no_rocks.gin")
    assert "--input_folder" in fine.arguments and str(coarse.output) in fine.arguments
    assert fine.arguments[5:8] == ("populate", "fine_terrain", "--input_folder")


def test_a_gin_file_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    folder = tmp_path / "infinigen_examples" / "configs_indoor"
    folder.mkdir(parents=True)
    for name in ("fast_solve", "singleroom"):
        (folder / f"{name}.gin").touch()
    generator = Infinigen1("python", tmp_path, "1.15.5", {})
    check_gin_files(indoors(), generator)
    with pytest.raises(ConfigError, match=r"has no gin file 'fast_sole.gin'.*'fast_solve'"):
        check_gin_files(indoors(configs=("fast_sole.gin",)), generator)


def test_biomes_that_need_an_addon_are_known():
    assert needs_antlandscape(nature(biomes=("desert",)), "desert")
    assert not needs_antlandscape(nature(), "simple")
    assert not needs_antlandscape(nature(addons=("ant_landscape-0.1.zip",)), "desert")


def test_a_generator_must_end_before_its_scene_is_given_up():
    def job(**settings: object) -> RenderJobConfig:
        source = {"source": "infinigen1.indoors", "timeout_s": 1800.0}
        return RenderJobConfig.model_validate({"run": "runs/x", "sources": [source], **settings})

    assert job().render.scene_tries == 2  # 2 × 1,800 s fit into a scene's 3,600 s
    with pytest.raises(ValueError, match=r"limits\.scene_timeout_s to 3600 at least"):
        job(limits={"scene_timeout_s": 3000})
