"""What `pano annotate` has written on the page: its labels, and what a person should look at."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
from annotating import Annotator, Process, Refusal, serving
from browser import Tab, open_tab
from everybody import NAMELESS, SMALL, serious
from videos import dataset_of_videos

from panoforge.core.errors import DataError
from panoforge.core.sample.revisions import Revision, decode_revisions, encode_revisions
from panoforge.core.shards.read import Dataset
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.label.annotating import annotate
from panoforge.label.config import AnnotateConfig

FRAMES, WIDTH, HEIGHT = 4, 128, 64


def labelled(folder: Path, stills: bool = False, **rules: object) -> Path:
    """Labels of a teacher who is right and one who is wrong about every name."""
    if stills:
        truth = synthetic.dataset(folder / "stills", scenes=1)
    else:
        truth = dataset_of_videos(folder / "videos", scenes=2, frames=FRAMES)
    config = AnnotateConfig.model_validate(
        {
            "panoptic": [
                {"kind": "truth", "name": "right"},
                {"kind": "noisy_truth", "name": "wrong", "noise": {"mislabelled": 1.0}},
            ],
            "follow": {"kind": "noisy_truth"},
            "least_free_mb": 1,
            "write": [],
            "rules": rules,
        }
    )
    annotate(truth, folder / "labels", config)
    return folder / "labels"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy, since the work lies beside it."""
    return Path(shutil.copytree(made, tmp_path / "labels"))


def entries(ann: Annotator) -> dict:
    return json.loads(ann.raw("GET", f"/api/revise?session={ann.session}")[1])


def test_a_video_begins_with_the_labels_that_were_found_under_their_ids(place: Path) -> None:
    dataset = Dataset.open(place / "dataset")
    with serving(Asked(place=place)) as server:
        ann = Annotator(server.server_port)
        videos = dataset.videos["video"].to_pylist()
        assert sorted(one["name"] for one in ann.pictures()) == sorted(videos)
        for name in videos:
            video = ann.picture(name)
            for number, key in enumerate(dataset.video(name).frame_keys):
                true = dataset.by_key(key, ("instance",)).read("instance")
                state = ann.look(video, number)
                for one in state["objects"]:
                    mask = (
                        ann.mask(video, one, WIDTH, HEIGHT)
                        if one["mask"]
                        else np.zeros((HEIGHT, WIDTH), bool)
                    )
                    assert np.array_equal(mask, true == one["id"])
                    assert one["review"] == "proposed" and not one["keys"]
                shown = {one["id"] for one in state["objects"] if one["mask"]}
                assert shown == set(np.unique(true).tolist()) - {0}
            assert not ann.look(video)["can_undo"]  # it is no work of hers


def test_a_picture_begins_with_them_too(tmp_path: Path) -> None:
    place = labelled(tmp_path, stills=True)
    dataset = Dataset.open(place / "dataset")
    with serving(Asked(place=place)) as server:
        ann = Annotator(server.server_port)
        assert sorted(one["name"] for one in ann.pictures()) == sorted(dataset.keys)
        for key in dataset.keys:
            labels = dataset.by_key(key, ("instance",)).read("instance")
            state = ann.look(ann.picture(key))
            assert state["video"] is None and state["objects"]
            for one in state["objects"]:
                mask = ann.mask(state["picture"], one, *labels.shape[::-1])
                assert np.array_equal(mask, labels == one["id"])


def test_what_is_to_be_looked_at_comes_the_worst_first_and_what_came_of_it_stays(
    place: Path,
) -> None:
    listed = decode_revisions((place / "revise.json").read_bytes()).entries
    process = Process(place)
    try:
        ann = Annotator(process.port)
        found = entries(ann)
        assert found["all"] == len(listed) >= 4 and found["done"] == 0
        assert [one["why"] for one in found["entries"]] == [one.why for one in listed]
        first, second = found["entries"][:2]
        ann.edit(first["picture"], "revise", entry=first["entry"], verdict="accepted")
        ann.edit(second["picture"], "revise", entry=second["entry"], verdict="fixed")
        process.kill()  # what was answered is on the disk
        process.start()
        ann = Annotator(process.port)
        found = entries(ann)
        done = {one["entry"]: one["verdict"] for one in found["entries"] if one["verdict"]}
        assert done == {first["entry"]: "accepted", second["entry"]: "fixed"}
        assert found["done"] == 2
        assert [bool(one["verdict"]) for one in found["entries"][-3:]] == [False, True, True]
        ann.edit(first["picture"], "revise", entry=first["entry"], verdict=None)
        assert entries(ann)["done"] == 1
        ann.edit(first["picture"], "undo")
        assert entries(ann)["done"] == 2
        third = found["entries"][0]
        ann.edit(third["picture"], "revise", entry=third["entry"], verdict="fixed")
        assert entries(ann)["done"] == 3
        ann.edit(third["picture"], "undo")
        assert entries(ann)["done"] == 2
        with pytest.raises(Refusal, match="no such entry in revise"):
            ann.edit(first["picture"], "revise", entry="0" * 16, verdict="fixed")
        with pytest.raises(Refusal, match="entry"):
            ann.edit(first["picture"], "revise", entry="../x", verdict="fixed")
    finally:
        process.kill()


def test_two_who_judge_one_entry_at_once_are_told(place: Path) -> None:
    with serving(Asked(place=place)) as server:
        ann, bob = Annotator(server.server_port), Annotator(server.server_port, "Bob")
        one = entries(ann)["entries"][0]
        ann.look(one["picture"])
        bob.look(one["picture"])
        ann.edit(one["picture"], "revise", entry=one["entry"], verdict="accepted")
        with pytest.raises(Refusal, match="Ann has changed the verdict on this entry"):
            bob.edit(one["picture"], "revise", entry=one["entry"], verdict="fixed")
        (kept,) = [o for o in entries(bob)["entries"] if o["entry"] == one["entry"]]
        assert kept["verdict"] == "accepted"


def test_entries_of_nothing_here_are_left_out_and_it_is_said(place: Path) -> None:
    listed = decode_revisions((place / "revise.json").read_bytes()).entries
    strange = [
        Revision(item="elsewhere.mp4", frame=0, kind="label", severity=0.9, why="x"),
        listed[0].model_copy(update={"frame": 99}),
    ]
    (place / "revise.json").write_bytes(encode_revisions([*listed, *strange]))
    with serving(Asked(place=place)) as server:
        ann = Annotator(server.server_port)
        assert entries(ann)["all"] == len(listed)
        said = json.loads(ann.raw("GET", f"/api/pictures?session={ann.session}")[1])["left_out"]
        assert said == "2 entries of revise.json of other files or frames"
    (place / "revise.json").write_bytes(b'{"entries": [{"item": "a"}]}')
    with pytest.raises(DataError, match=r"revise.json does not fit"), serving(Asked(place=place)):
        pass


@pytest.mark.parametrize("stills", [False, True])
def test_work_on_other_labels_is_not_taken_for_work_on_these(tmp_path: Path, stills: bool) -> None:
    place = labelled(tmp_path, stills)
    with serving(Asked(place=place)) as server:
        ann = Annotator(server.server_port)
        for one in ann.pictures():
            ann.look(one["id"])
    shutil.rmtree(place)
    shutil.copytree(labelled(tmp_path / "other", stills, max_objects=2), place)
    with serving(Asked(place=place)) as server:
        ann = Annotator(server.server_port)
        with pytest.raises(Refusal, match="is not the picture that the work"):
            ann.look(ann.pictures()[0]["id"])


def list_is(tab: Tab, **said: object) -> None:
    for name, value in said.items():
        tab.wait_for(
            f"JSON.parse(document.body.dataset.revise ?? '{{}}').{name} === {json.dumps(value)}"
        )


@pytest.mark.real
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_person_goes_through_the_list(place: Path) -> None:
    listed = decode_revisions((place / "revise.json").read_bytes()).entries
    with serving(Asked(place=place)) as server, open_tab(server.url) as tab:
        page = tab.page
        tab.wait_for("document.body.dataset.loaded !== undefined")
        list_is(tab, all=len(listed), done=0)
        rows = page.locator("#revise-list button")
        assert [rows.nth(k).get_attribute("title") for k in range(rows.count())] == [
            one.why for one in listed
        ]
        # a click goes to the video, the frame, the place and the object of an entry
        number, wanted = next(
            (k, one)
            for k, one in enumerate(listed)
            if one.item != listed[0].item and one.frame and one.id and abs(one.lon_deg or 0) > 5
        )
        rows.nth(number).click()
        tab.wait_for(f"document.body.dataset.frame === '{wanted.frame}'")
        tab.wait_for(f"document.body.dataset.chosen === '[{wanted.id}]'")
        assert wanted.item in page.inner_text("#what")
        where = page.evaluate("panoView.where()")
        assert where["lon"] == pytest.approx(wanted.lon_deg, abs=1e-6)
        assert where["lat"] == pytest.approx(wanted.lat_deg, abs=1e-6)
        tab.wait_for("document.body.dataset.settled === 'true'")
        if folder := os.environ.get("PANO_SHOTS"):
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / "revise.png")
        # right as it is: it goes down, and the next comes
        assert serious(tab) == []
        assert page.evaluate(SMALL) == page.evaluate(NAMELESS) == []
        entry = rows.nth(number).get_attribute("data-entry")
        page.click("#entry-accepted")
        list_is(tab, done=1)
        current = "document.querySelector('#revise-list [aria-current=true]').dataset.entry"
        tab.wait_for(f"{current} !== '{entry}'")
        assert rows.last.get_attribute("data-entry") == entry
        assert "right as it is" in rows.last.inner_text()
        # by keys: the next, fixed
        page.focus("#stage")
        page.keyboard.press("w")
        at = page.get_attribute("#revise-list [aria-current=true]", "data-entry")
        page.keyboard.press("u")
        list_is(tab, done=2)
        # kept over a reload, and undone
        page.reload()
        tab.wait_for("document.body.dataset.loaded !== undefined")
        list_is(tab, done=2)
        assert "fixed" in page.locator(f'[data-entry="{at}"]').inner_text()
        page.locator(f'[data-entry="{at}"]').click()
        tab.wait_for("document.body.dataset.settled === 'true'")
        page.keyboard.press("Control+z")
        list_is(tab, done=1)
        assert tab.console == [] and tab.overflow_px() == 0


STILL = "document.body.dataset.opening === undefined && !document.body.dataset.busy"
SLOW_TO_OPEN = """ms => {
  const quick = window.fetch;
  window.fetch = async (path, options) => {
    if (String(path).includes("api/look")) await new Promise(done => setTimeout(done, ms));
    return quick(path, options);
  };
}"""


@pytest.mark.browser
def test_a_verdict_that_is_quicker_than_the_picture_is_kept(place: Path) -> None:
    listed = decode_revisions((place / "revise.json").read_bytes()).entries
    number = next(k for k, one in enumerate(listed) if one.item != listed[0].item)
    with serving(Asked(place=place)) as server, open_tab(server.url) as tab:
        tab.wait_for("document.body.dataset.loaded !== undefined")
        rows = tab.page.locator("#revise-list button")
        rows.nth(0).click()
        tab.wait_for("document.body.dataset.settled === 'true'")
        tab.page.evaluate(SLOW_TO_OPEN, 700)
        rows.nth(number).click()  # another video, which opens slowly
        tab.page.focus("#stage")
        tab.page.keyboard.press("u")
        list_is(tab, done=1)
        ann = Annotator(server.server_port)
        (kept,) = [one for one in entries(ann)["entries"] if one["verdict"]]
        assert (kept["why"], kept["verdict"]) == (listed[number].why, "fixed")


@pytest.mark.browser
def test_verdicts_as_quick_as_keys_are_on_entries_one_after_the_other(place: Path) -> None:
    listed = decode_revisions((place / "revise.json").read_bytes()).entries
    with serving(Asked(place=place)) as server, open_tab(server.url, 1040, 560) as tab:
        press = tab.page.keyboard.press
        tab.wait_for("document.body.dataset.loaded !== undefined")
        rows = tab.page.locator("#revise-list button")
        # the page goes on to another video: taken back is the verdict, and not a change there
        number = next(k for k, (a, b) in enumerate(itertools.pairwise(listed)) if a.item != b.item)
        shown = "document.getElementById('what').textContent"
        rows.nth(number).click()
        tab.wait_for(f"{shown}.startsWith({listed[number].item!r})")
        tab.page.focus("#stage")
        press("y")
        tab.wait_for(f"{shown}.startsWith({listed[number + 1].item!r})")
        list_is(tab, done=1)
        press("Control+z")
        tab.wait_for(f"{shown}.startsWith({listed[number].item!r})")
        list_is(tab, done=0)
        # taken back before the next is open, and before its own is: the verdict again
        tab.page.evaluate(SLOW_TO_OPEN, 1000)
        rows.nth(number).click()
        tab.page.focus("#stage")
        for key in ("y", "Control+z"):
            press(key)
        tab.wait_for("document.body.dataset.opening !== undefined")
        tab.wait_for(f"{shown}.startsWith({listed[number].item!r}) && {STILL}")
        list_is(tab, done=0)
        rows.nth(number + 1).click()
        rows.nth(number).click()
        tab.page.focus("#stage")
        for key in ("y", "Control+z"):
            press(key)
        tab.wait_for(f"{shown}.startsWith({listed[number].item!r}) && {STILL}")
        list_is(tab, done=0)
        assert not tab.console
        # three keys before the first answer are three verdicts
        tab.page.evaluate(SLOW_TO_OPEN.replace("api/look", "api/edit"), 1500)
        rows.first.click()
        tab.page.focus("#stage")
        for _ in range(3):
            press("y")
        list_is(tab, done=3)
        ann = Annotator(server.server_port)
        kept = [one["why"] for one in entries(ann)["entries"] if one["verdict"]]
        assert sorted(kept) == sorted(one.why for one in listed[:3])
