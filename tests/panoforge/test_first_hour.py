"""The first hour: something to click on before anything was made, what to try after the demo."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotating import Annotator, Process, serving

from panoforge import stages
from panoforge.core.report.pictures import colour_ids
from panoforge.core.room import ROOM
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.eval.interactive.serve.opening import Asked, with_sample


def test_the_room_of_the_package_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in ROOM.rglob("*") if path.is_file()) <= 200_000
    report = verify(ROOM, deep=True)
    assert (report.samples, report.faults) == (1, ())
    sample = Dataset.open(ROOM)[0]
    assert (sample.meta.width, sample.meta.height) == (1024, 512)
    assert len(sample.meta.instances) > 20 and not sample.meta.hardware


def test_serve_alone_opens_on_it_and_clicks_work_without_weights(tmp_path: Path) -> None:
    """As a process, in an empty folder, where the work is kept; nothing is written to the room."""
    before = sorted(ROOM.rglob("*"))
    asked = with_sample(Asked(work=tmp_path / "work"))
    sample = Dataset.open(ROOM)[0]
    ids = sample.read("instance")
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        picture = ann.picture("kitchen")
        glass = max(
            (one for one in sample.meta.instances if one.category == "cup"),
            key=lambda one: one.pixels,
        )
        v, u = (int(np.median(axis)) for axis in np.nonzero(ids == glass.id))
        lon, lat = ((u + 0.5) / 1024 - 0.5) * 360, (0.5 - (v + 0.5) / 512) * 180
        clicked = int(ids[v, u])
        ann.edit(picture, "click", lon_deg=lon, lat_deg=lat)
        (one,) = ann.look(picture)["objects"]
        assert np.array_equal(ann.mask(picture, one, 1024, 512), ids == clicked)
    assert sorted(ROOM.rglob("*")) == before and (tmp_path / "work/pictures").is_dir()


def test_the_sample_is_for_those_who_ask_for_nothing(tmp_path: Path) -> None:
    plain = with_sample(Asked())
    assert (plain.place, plain.predictor, plain.work) == (ROOM, "sample", Path("pano-annotations"))
    own = Asked(place=tmp_path)
    assert with_sample(own) == own
    weights = with_sample(Asked(checkpoint=tmp_path / "model.pt"))
    assert (weights.place, weights.predictor) == (ROOM, None)
    for word in (Asked(labels=tmp_path / "ids.png"), Asked(video=True)):
        assert with_sample(word) == word


def test_the_demo_ends_with_three_commands_that_run(
    pano, caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own six stages have their tests; here is what it says when they are done."""
    run = tmp_path / "my run"
    shutil.copytree(caps_dataset, run / "dataset")
    page = run / "stats/report.html"
    found = stages.DemoResult(run / "dataset", page, run / "checkpoints", page, {"render": 1.0})
    monkeypatch.setattr(stages, "demo_stage", lambda *_, **__: found)
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = pano("demo", f"run={run}")
    assert code == 0 and page.as_uri() in stdout
    told = stdout.partition("what to try next:\n")[2].splitlines()
    assert len(told) == 3 and all("  # " in line for line in told)
    serve, *others = (shlex.split(line, comments=True) for line in told)
    for words in others:
        assert words[0] == "pano"
        code, stdout, stderr = pano(*words[1:])
        assert code == 0, stderr
    assert (tmp_path / "mine.yaml").is_file() and list((run / "look").glob("*.html"))
    process = Process(Path(serve[2]), *serve[3:])
    try:
        assert re.match(r"http://127.0.0.1:\d+/", process.url)
        assert len(Annotator(process.port).pictures()) == 8
    finally:
        process.kill()


def test_preview_alone_is_the_room_of_the_package(pano, tmp_path: Path) -> None:
    code, stdout, _ = pano("preview", "--out", tmp_path)
    assert code == 0 and str(tmp_path / "kitchen.ids.png") in stdout.splitlines()
    ids = Dataset.open(ROOM)[0].read("instance")
    shown = cv2.imread(str(tmp_path / "kitchen.ids.png"))[..., ::-1]
    assert np.array_equal(shown, colour_ids(ids))
    code, _, stderr = pano("preview", ROOM, "kitchn", "--out", tmp_path)
    assert code == 2 and "Did you mean 'kitchen'" in stderr
