"""Configs: sections, overrides, and one clear message for every kind of mistake."""

from pathlib import Path
from typing import Literal

import pytest

from panoforge.core.config import config_from_overrides, config_sha256, config_yaml, load_config
from panoforge.core.errors import ConfigError
from panoforge.core.models import FrozenModel


class Inner(FrozenModel):
    address: str | None = None
    slots: int = 1


class Job(FrozenModel):
    run: Path
    scenes: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    ray: Inner = Inner()


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return write


def test_plain_file_and_section_mean_the_same(write):
    plain = load_config(write("run: r\nscenes: 3\n"), Job, ["ray.slots=2"], section="render")
    whole = load_config(
        write("run: r\nrender:\n  scenes: 3\ntrain: {steps: 9}\n"),
        Job,
        ["ray.slots=2"],
        section="render",
    )
    assert plain == whole
    assert plain.scenes == 3 and plain.ray.slots == 2 and plain.run == Path("r")


def test_references_reach_the_top_of_the_file(write):
    job = load_config(
        write("run: runs/x\nrender: {ray: {address: '${run}/a'}}\n"),
        Job,
        ["run=runs/y"],
        section="render",
    )
    assert job.run == Path("runs/y")
    assert job.ray.address == "runs/y/a"


def test_overrides_are_typed_and_null_works(write):
    job = load_config(
        write("run: r\nray: {address: head}\n"), Job, ["ray.address=null", "device=cuda"]
    )
    assert job.ray.address is None and job.device == "cuda"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("run: r\nscene: 3\n", [], "unknown key 'scene'. Did you mean 'scenes'?"),
        ("run: r\nray: {adress: x}\n", [], "unknown key 'ray.adress'. Did you mean 'ray.address'?"),
        ("run: r\n", ["slots=3"], "unknown key 'slots'."),
        ("run: r\nscenes: many\n", [], "scenes: Input should be a valid integer"),
        ("run: r\ndevice: tpu\n", [], "device: Input should be 'cpu' or 'cuda', got 'tpu'"),
        ("scenes: 3\n", [], "run: is required and not set"),
        ("run: [\n", [], "is not valid YAML"),
        ("- run\n", [], "expected a mapping of config keys"),
        ("run: r\nrender: 5\n", [], "render: expected a section"),
        ("run: r\n", ["scenes"], "override 'scenes': expected key=value"),
        ("run: !!python/object/apply:os.system ['true']\n", [], "is not valid YAML"),
        ("run: '${nowhere}'\n", [], "nowhere"),
    ],
)
def test_mistakes_are_one_clear_message(write, text, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config(write(text), Job, overrides, section="render")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_names_the_nearest(write, tmp_path):
    write("run: r\n")
    with pytest.raises(ConfigError, match=r"does not exist. Did you mean '.*job.yaml'"):
        load_config(tmp_path / "jbo.yaml", Job)


def test_the_printed_config_is_the_config(write, tmp_path):
    job = load_config(write("run: r\nscenes: 0x10\n"), Job)
    again = tmp_path / "again.yaml"
    again.write_text(config_yaml(job))
    assert load_config(again, Job) == job
    assert config_sha256(load_config(again, Job)) == config_sha256(job)
    assert config_sha256(job) != config_sha256(job.model_copy(update={"scenes": 5}))


def test_overrides_alone():
    assert config_from_overrides(Inner, ["slots=4"]).slots == 4
    with pytest.raises(ConfigError, match="Did you mean 'slots'"):
        config_from_overrides(Inner, ["slot=4"])
