"""At its limits the annotation page goes on, or says in one line why not: pictures that are large,
too large or a part of a panorama, a disk that is really full, more tabs than are known.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import synthetic
from annotating import Annotator, Process, serving
from browser import open_tab
from disks import fill, small_disk
from on_the_page import data, error, loaded, look_at, open_picture, version
from PIL import Image

from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve import sessions as sessions_module
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.sessions import Sessions, UnknownSession

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTH, HEIGHT = 256, 128
WIDE, HIGH = 16378, 8189  # the largest that is taken
GPANO = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
    ' GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="256"'
    ' GPano:FullPanoHeightPixels="128" GPano:CroppedAreaImageWidthPixels="128"'
    ' GPano:CroppedAreaImageHeightPixels="64" GPano:CroppedAreaLeftPixels="64"'
    ' GPano:CroppedAreaTopPixels="32"/></rdf:RDF></x:xmpmeta>'
)


def room(folder: Path, name: str = "a room.png") -> Path:
    folder.mkdir(exist_ok=True)
    rgb, _ = synthetic.caps(np.random.default_rng(5), WIDTH, 3)
    (folder / name).write_bytes(encode_product("rgb.png", rgb))
    return folder


def test_a_part_is_placed_and_seen_and_a_16k_picture_is_refused(tmp_path: Path) -> None:
    folder = room(tmp_path / "odd")
    for width in (16384, 16400):
        Image.new("1", (width, width // 2)).save(folder / f"z {width}.png")
    Image.fromarray(np.full((64, 128, 3), 200, np.uint8)).save(
        folder / "crop.jpg", xmp=GPANO.encode(), quality=95
    )
    with (
        serving(Asked(place=folder, work=tmp_path / "work")) as server,
        open_tab(server.url) as tab,
    ):
        loaded(tab)
        open_picture(tab, "crop.jpg")
        loaded(tab)
        assert tab.page.inner_text("#what") == "crop.jpg, 256×128"
        assert "part of a panorama, 35 % of the sphere" in tab.page.inner_text("#notice")
        seen = []
        for lon, lat in ((0, 0), (80, 40), (100, 0), (180, 0), (0, 60)):
            look_at(tab, lon, lat, 40)
            tab.page.wait_for_timeout(300)
            shot = tab.shot_of("#stage")
            seen.append(int(shot[shot.shape[0] // 2, shot.shape[1] // 2 + 40].mean()))
        assert all(abs(value - 200) < 6 for value in seen[:2]) and max(seen[2:]) < 6
        tab.page.keyboard.press("b")
        x, y = look_at(tab, 0, 0)
        tab.drag(x, y, x + 40, y)
        version(tab, 1)
        # the picture that is open stays so
        for name, words in (
            ("z 16384.png", "16384×8192 is over the cap of 16378 pixels across"),
            ("z 16400.png", "16400×8200 pixels: outside of the cap"),
        ):
            tab.page.click(f'#picture-list button[title="{name}"]')
            said = error(tab)
            assert words in said and "\n" not in said
            assert tab.page.inner_text("#what") == "crop.jpg, 256×128"
        tab.drag(x, y + 60, x + 40, y + 60)
        version(tab, 2)
        assert tab.console == [line for line in tab.console if "400" in line]  # the refusal


@pytest.mark.real  # heavy: 134 million pixels
def test_the_largest_picture_is_opened_in_bounded_memory(tmp_path: Path) -> None:
    """Seen to its last pixel and drawn on; of its 400 MB none is kept."""
    folder = tmp_path / "large"
    folder.mkdir()
    rows = np.linspace(0, 200, HIGH, dtype=np.uint8)[:, None, None]
    large = np.broadcast_to(rows, (HIGH, WIDE, 3)).copy()
    large[4000:4200, 8100:8300] = (10, 220, 40)  # a square of 4.4°
    board = np.indices((32, 32)).sum(axis=0)[..., None] % 2  # in its middle, of single pixels
    large[4079:4111, 8173:8205] = board * 255
    (folder / "large.jpg").write_bytes(
        simplejpeg.encode_jpeg(large, quality=90, colorsubsampling="444", fastdct=True)
    )
    del large
    process = Process(folder, "--work", str(tmp_path / "work"))
    try:
        before = memory_mb(process.process.pid)["VmRSS"]
        with open_tab(process.url) as tab:
            loaded(tab)
            assert tab.page.inner_text("#what") == f"large.jpg, {WIDE}×{HIGH}"
            look_at(tab, 0.02, 0.0, 4)  # as near as it gets
            tab.wait_for("document.body.dataset.settled === 'true'")
            tab.page.wait_for_timeout(300)
            shot = tab.shot_of("#stage").astype(int)
            v, u = shot.shape[0] // 2, shot.shape[1] // 2
            assert shot[v, u - 150, 1] > 180 and shot[v, u - 150, 0] < 60  # the square
            assert shot[v - 30 : v + 30, u - 30 : u + 30].std() > 25  # half as sharp it is all grey
            tab.page.keyboard.press("b")
            tab.page.fill("#radius", "40")
            tab.drag(*tab.centre_of("#stage"), *np.add(tab.centre_of("#stage"), (60, 0)))
            version(tab, 1)
            (one,) = data(tab, "objects")
            assert one["pixels"] > 1000
            ann = Annotator(process.port)
            picture = ann.picture("large.jpg")
            mask = ann.mask(picture, ann.look(picture)["objects"][0], WIDE, HIGH)
            assert mask[4095, 8195] and mask.sum() == one["pixels"]
            assert tab.console == []
        memory = memory_mb(process.process.pid)
        assert memory["VmRSS"] - before < 300 and memory["VmHWM"] - before < 1000, (before, memory)
    finally:
        process.kill()


def memory_mb(pid: int) -> dict[str, float]:
    """What a process holds now (VmRSS), and held at most (VmHWM)."""
    said = Path(f"/proc/{pid}/status").read_text()
    return {name: int(kb) / 1024 for name, kb in re.findall(r"(VmRSS|VmHWM):\s*(\d+) kB", said)}


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    """Of 1 MB, filled to its last byte: what was called saved is there, the rest comes after."""
    folder = room(tmp_path / "rooms")
    with small_disk(tmp_path / "disk", 1) as disk:
        work, ballast = disk / "work", disk / "ballast"
        with (
            serving(Asked(place=folder, work=work)) as server,
            open_tab(server.url, 1040, 700) as tab,
        ):
            loaded(tab)
            tab.page.keyboard.press("b")
            x, y = tab.centre_of("#stage")
            tab.drag(x, y, x + 40, y, steps=3)
            version(tab, 1)
            fill(ballast)
            saved = "document.body.dataset.saved"
            for k in range(1, 30):  # a line may still go into the last block of the journal
                tab.page.keyboard.press("n")
                tab.drag(x - 90, y - 60 + 8 * k, x - 50, y - 60 + 8 * k, steps=3)
                tab.wait_for(f"{saved} !== 'saving'")
                if tab.page.evaluate(saved) == "full":
                    break
            words = tab.page.inner_text("#saved")
            assert "not saved" in words and "the disk is full" in words and "\n" not in words
            acknowledged = int(data(tab, "version"))
            on_disk = Annotator(server.server_port)
            assert len(on_disk.look(on_disk.picture("a room.png"))["objects"]) == acknowledged
            (journal,) = work.glob("pictures/*/journal.jsonl")
            assert journal.read_bytes().endswith(b"\n")  # no half a line
            assert journal.read_bytes().count(b"\n") == 1 + acknowledged
            ballast.unlink()
            version(tab, acknowledged + 1)
            tab.wait_for(f"{saved} === 'saved'")
            want = data(tab, "objects")
            assert len(want) == acknowledged + 1
        with serving(Asked(place=folder, work=work)) as server:
            ann = Annotator(server.server_port)
            there = ann.look(ann.picture("a room.png"))["objects"]
            assert [one["mask"] for one in there] == [one["mask"] for one in want]


def test_a_tab_that_was_forgotten_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More tabs than are known: the one that was silent longest is forgotten, and joins again."""
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 3)
    sessions = Sessions()
    first, second = sessions.join("a" * 8, "Ann"), sessions.join("b" * 8, "Bob")
    third = sessions.join("c" * 8, "Cy")
    assert sessions.join("a" * 8, "Ann", first.id) is first and sessions.count() == 3
    sessions.join("d" * 8, "Dee")
    assert sessions.count() == 3  # Bob was silent longest
    with pytest.raises(UnknownSession):
        sessions.get(second.id)
    assert [sessions.get(one.id) for one in (first, third)] == [first, third]
    folder = room(tmp_path / "rooms")
    with (
        serving(Asked(place=folder, work=tmp_path / "work")) as server,
        open_tab(server.url, 1040, 700) as tab,
    ):
        loaded(tab)
        tab.page.keyboard.press("b")
        x, y = tab.centre_of("#stage")
        tab.drag(x, y, x + 40, y)
        version(tab, 1)
        for k in range(4):
            Annotator(server.server_port, f"other {k}")
        assert server.studio.sessions.count() == 3
        tab.page.keyboard.press("n")
        tab.drag(x, y + 80, x + 40, y + 80)
        version(tab, 2)
        assert len(data(tab, "objects")) == 2
        tab.page.keyboard.press("Control+z")  # still hers
        version(tab, 3)
        assert len(data(tab, "objects")) == 1
