"""Places in configs: URLs stay URLs, `~` is expanded once, and records mean the same place."""

from pathlib import Path

import pytest

from panoforge.core.config import load_config
from panoforge.core.errors import ConfigError
from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import (
    FilePathText,
    LocalPath,
    Location,
    PathText,
    absolute,
    with_absolute_paths,
)


class Places(FrozenModel):
    dataset: Location
    file: LocalPath | None = None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket/a set/", "s3://bucket/a set"),
        ("memory://x", "memory://x"),
        ("file:///data/x", Path("/data/x")),
        ("runs/x", Path("runs/x")),
        ("~/x", Path("/home/someone/x")),
        ("~", Path("/home/someone")),
        ("a~/~", Path("a~/~")),
    ],
)
def test_a_location_is_a_folder_or_a_url_and_records_mean_the_same(monkeypatch, text, place):
    monkeypatch.setenv("HOME", "/home/someone")
    places = Places.model_validate({"dataset": text})
    assert places.dataset == place and type(places.dataset) is type(absolute(place))
    monkeypatch.setenv("HOME", "/home/someone-else")
    assert Places.model_validate_json(places.model_dump_json()) == places


def test_a_folder_called_tilde_stays_one_through_a_record(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    places = Places.model_validate({"dataset": "./~x"})
    assert places.dataset == tmp_path / "~x"
    assert Places.model_validate_json(places.model_dump_json()) == places


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: ~nobody-here/x", "there is no user 'nobody-here'"),
        ("dataset: ''", "dataset: expected a path"),
        ("dataset: 7", "dataset: expected a path"),
        ("dataset: x\nfile: s3://b/m.pt", "file: expected a path on this machine, not a URL"),
    ],
)
def test_what_is_no_place_is_refused(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml", Places)
    assert message in str(caught.value)


class Job(FrozenModel):
    places: Places
    mixture: dict[str, Places] = {}
    folders: tuple[LocalPath, ...] = ()
    steps: int = 1


def test_another_process_finds_the_files_of_a_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bucket = {"dataset": "s3://bucket/x"}
    job = Job.model_validate(
        {
            "places": {"dataset": "a", "file": "m.pt"},
            "mixture": {"b": {"dataset": "b"}, "s3": bucket},
            "folders": ["/c", "c"],
        }
    )
    far = with_absolute_paths(job)
    assert far.places == Places(dataset=tmp_path / "a", file=tmp_path / "m.pt")
    assert far.mixture["b"].dataset == tmp_path / "b" and far.folders == (
        Path("/c"),
        tmp_path / "c",
    )
    assert far.mixture["s3"] is job.mixture["s3"] and far.model_fields_set == job.model_fields_set
    assert with_absolute_paths(far) is far and job.places.dataset == Path("a")


class Files(FrozenModel):
    blend: FilePathText = "a"
    word: PathText = "installed"


def test_paths_that_are_kept_as_text_are_made_absolute_too(monkeypatch, tmp_path):
    """A word is no path: `installed` stays, whatever lies in the folder."""
    monkeypatch.chdir(tmp_path)
    for word, far_word in (
        ("installed", "installed"),
        ("python3.11", "python3.11"),
        ("ant.zip", str(tmp_path / "ant.zip")),
        ("./venv/python", str(tmp_path / "venv/python")),
        ("/usr/bin/python", "/usr/bin/python"),
    ):
        files = Files.model_validate({"blend": "scene.blend", "word": word})
        far = with_absolute_paths(files)
        assert (far.blend, far.word) == (str(tmp_path / "scene.blend"), far_word)
        assert Files.model_validate_json(far.model_dump_json()) == far
        assert with_absolute_paths(far) is far and files.blend == "scene.blend"
