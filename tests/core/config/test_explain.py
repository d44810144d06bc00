"""What is said of config keys: every key has a meaning, and what is said of its kind is so."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from panoforge.cluster.config.sections import SECTIONS
from panoforge.core.config.explain import ASKED_FOR, explained, matching, unit_of
from panoforge.core.errors import ConfigError
from panoforge.core.models import FrozenModel

KEYS = {verb: explained(model) for verb, model in SECTIONS.items()}
UNSAID = ("Likewise", "See ", "TODO")


@pytest.mark.parametrize("verb", KEYS)
def test_every_key_has_a_description(verb: str) -> None:
    """In lists, mappings and sections that are null by default too."""
    bare = [line.key for line in KEYS[verb] if len(line.about.split()) < 2]
    bare += [line.key for line in KEYS[verb] if line.about.startswith(UNSAID)]
    bare += [line.key for line in KEYS[verb] if not line.about.endswith((".", ")"))]
    assert not bare


class _Small(FrozenModel):
    kind: Annotated[Literal["small"], Field(description="The kind.")]
    size_m: Annotated[float, Field(gt=0, description="How large it is.")]


class _Large(FrozenModel):
    kind: Annotated[Literal["large"], Field(description="The kind.")]
    floors: Annotated[int, Field(ge=1, description="How many floors.")] = 2


class _Town(FrozenModel):
    houses: Annotated[
        tuple[Annotated[_Small | _Large, Field(discriminator="kind")], ...],
        Field(description="Its houses."),
    ] = ()
    named: Annotated[dict[str, _Small], Field(description="Houses with names.")] = {}
    again: Annotated[_Small | None, Field(description="One more.")] = None
    speed_m_s: tuple[float, float] = (1.0, 2.0)
    tilt_deg: Annotated[Annotated[float, Field(le=90)] | None, Field(description="Tilt.")] = None
    name: Annotated[Literal["a", "b"], Field(description="Which.")] = "a"


def test_keys_inside_lists_mappings_and_unions() -> None:
    lines = {(line.key, line.only): line for line in explained(_Town)}
    assert lines["houses.N.kind", ()].kind == "small or large"
    assert lines["houses.N.size_m", ("small",)].default == ASKED_FOR
    assert lines["houses.N.floors", ("large",)].default == "2"
    assert lines["named.NAME.size_m", ()].unit == "m"
    assert lines["again.size_m", ()].kind == "number over 0"
    assert lines["speed_m_s", ()].kind == "list of 2, each: number"
    assert (lines["speed_m_s", ()].unit, lines["speed_m_s", ()].about) == ("m/s", "")
    assert lines["tilt_deg", ()].kind == "number at most 90 or null"
    assert lines["name", ()].kind == "a or b"


def test_a_section_that_came_before_is_named() -> None:
    lines = {line.key: line for line in explained(_Town, once=True)}
    assert "again.size_m" not in lines
    assert lines["again"].about == "One more. Its keys are those of houses.N."


@pytest.mark.parametrize(
    ("word", "first", "count"),
    [
        ("submit", "submit.address", len(KEYS["submit"])),
        ("train.optim.lr", "train.optim.lr", 1),
        ("optim.lr", "train.optim.lr", 1),
        ("min_instance_sr", "render.quality.min_instance_sr", 1),
        ("sources.0.plants", "render.sources.N.plants", 1),
    ],
)
def test_what_a_word_means(word: str, first: str, count: int) -> None:
    found = matching(KEYS, word)
    assert (found[0].key, len(found)) == (first, count)


def test_a_section_stands_for_its_keys() -> None:
    found = [line.key for line in matching(KEYS, "render.video.camera")]
    assert found[0] == "render.video.camera" and "render.video.camera.poses.N.x_m" in found
    assert all(key.startswith("render.video.camera") for key in found)


def test_an_unknown_word_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"expected a verb .*Did you mean 'shear_deg'"):
        matching(KEYS, "sheer_deg")


def test_units() -> None:
    assert [unit_of(name) for name in ("speed_m_s", "no_progress_s", "fps", "seed", "log_mb")] == [
        "m/s", "s", "frames/s", "", "MB",
    ]  # fmt: skip
