"""Configs: sections, overrides, and one clear message for every kind of mistake."""

from pathlib import Path
from typing import Literal

import pytest

from panoforge.core.config import config_from_overrides, config_sha256, config_yaml, load_config
from panoforge.core.errors import ConfigError
from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import LocalPath, Location


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
        chain=("render", "train"),
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


class Wide(FrozenModel):
    """One key of each kind that a command line can set."""

    root: LocalPath | None = None
    dataset: Location | None = None
    name: str | None = None
    word: Literal["off", "on"] = "on"
    switch: bool = False
    number: float = 0.0
    several: tuple[LocalPath, ...] = ()
    table: dict[str, LocalPath] = {}
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("root=set #2", Path("set #2")),
        ("root=[ck]/m.pt", Path("[ck]/m.pt")),
        ("root={a: b}", Path("{a: b}")),
        ("root=a: b", Path("a: b")),
        ("root=a=b", Path("a=b")),
        ("root=*x", Path("*x")),
        ("root='x'", Path("'x'")),
        ("root=${run}/x", Path("${run}/x")),
        ("root=\\${run}", Path("\\${run}")),
        ("root=010", Path("010")),
        ("root=null", None),
        ("root=", None),
        ("dataset=s3://b/set #2", "s3://b/set #2"),
        ("name=null", None),
        ("name=1e5", "1e5"),
        ("name=2001-01-01", "2001-01-01"),
        ("name=no", "no"),
        ("word=off", "off"),
        ("switch=true", True),
        ("switch=off", False),
        ("number=1e-5", 1e-5),
        ("several=[a, b]", (Path("a"), Path("b"))),
        ("several.0=x", "refused"),
        ("table={a: b}", {"a": Path("b")}),
        ("table.a=c #2", {"a": Path("c #2")}),
        ("inner.address=a #b", Inner(address="a #b")),
        ("inner.slots=0x10", Inner(slots=16)),
    ],
)
def test_what_is_typed_is_what_is_meant_and_records_say_the_same(tmp_path, override, value):
    if value == "refused":
        with pytest.raises(ConfigError, match="is a list of 0"):
            config_from_overrides(Wide, ["several=[]", override])
        return
    config = config_from_overrides(Wide, [override])
    key = override.partition("=")[0].partition(".")[0]
    assert getattr(config, key) == value
    (tmp_path / "again.yaml").write_text(config_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml", Wide) == config


def test_words_of_yaml_are_words_in_files_too(tmp_path):
    (tmp_path / "c.yaml").write_text("word: off\nswitch: yes\nname: no\nnumber: 1e-5\n")
    config = load_config(tmp_path / "c.yaml", Wide)
    assert (config.word, config.switch, config.name, config.number) == ("off", True, "no", 1e-5)


def test_home_is_expanded_once(tmp_path, monkeypatch):
    home = tmp_path / "~"
    monkeypatch.setenv("HOME", str(home))
    assert config_from_overrides(Wide, ["root=~/x"]).root == home / "x"
    (tmp_path / "c.yaml").write_text("root: ~/x\nseveral: [~/a, b~]\ntable: {t: '~'}\n")
    config = load_config(tmp_path / "c.yaml", Wide)
    assert config.root == home / "x" and config.several == (home / "a", Path("b~"))
    assert config.table == {"t": home}


class TestReferences:
    """`${…}`: what they may name, and that no secret gets into a config."""

    def load(self, tmp_path: Path, text: str) -> Wide:
        (tmp_path / "c.yaml").write_text(text)
        return load_config(tmp_path / "c.yaml", Wide)

    def test_they_name_keys_of_the_file(self, tmp_path):
        config = self.load(
            tmp_path,
            "name: a\nroot: '${name}/${several.1}-${number}'\nseveral: [x, y]\nnumber: 2.5",
        )
        assert config.root == Path("a/y-2.5")
        assert self.load(tmp_path, "inner: {slots: 3}\nnumber: ${inner.slots}").number == 3
        assert self.load(tmp_path, "root: '\\${name}'").root == Path("${name}")

    def test_places_may_come_from_the_environment_and_secrets_may_not(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCRATCH", "/fast/${HOME}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        assert self.load(tmp_path, "root: '${oc.env:SCRATCH}/x'").root == Path("/fast/${HOME}/x")
        for text in ("root: '${oc.env:AWS_SECRET_ACCESS_KEY}'", "name: 'x${oc.env:PATH}'"):
            with pytest.raises(ConfigError, match=r"only HOME, USER, .* are read") as caught:
                self.load(tmp_path, text)
            assert "hunter2" not in str(caught.value)
        monkeypatch.delenv("SCRATCH")
        with pytest.raises(ConfigError, match="SCRATCH}: the variable is not set"):
            self.load(tmp_path, "root: '${oc.env:SCRATCH}/x'")
        with pytest.raises(ConfigError, match="expected a key of this file"):
            self.load(tmp_path, "root: '${oc.decode:x}'")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "run: r\nrendr: {scenes: 3}\nrender: {}\n",
            [],
            "unknown key 'rendr' beside the sections. Di",
        ),
        ("run: r\nscenes: 3\nrender: {}\n", [], "unknown key 'scenes' beside the sections."),
        ("run: r\ntrain: {}\n", [], "has no section 'render', only train"),
        (
            "run: r\nrender: {ray: {slots: {x: 1}}}\n",
            [],
            "ray.slots: Input should be a valid integer",
        ),
        (
            "run: r\nray: {slots: 2}\n",
            ["ray.slots.x=1"],
            "override 'ray.slots.x': ray.slots is one value, so it has no",
        ),
        ("run: r\n", ["ray=3"], "ray: expected a mapping, such as {key: value}, got '3'"),
        ("run: r\n", [".x=3"], "expected key=value"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(write, text, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config(write(text), Job, overrides, section="render", chain=("render", "train"))
    assert message in str(caught.value)


def test_overrides_alone():
    assert config_from_overrides(Inner, ["slots=4"]).slots == 4
    with pytest.raises(ConfigError, match="Did you mean 'slots'"):
        config_from_overrides(Inner, ["slot=4"])
