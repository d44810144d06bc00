"""The work behind the page: changes, undo, several people, crashes, and files that come and go."""

import contextlib
import errno
import http.client
import json
import os
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
from annotating import Annotator, Process, Refusal, serving, wait_until
from journals import WORDS, objects_of, pixels_hash, replayed
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from toolkits import labelme_reads, toolkit

from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.edges import EdgeFollower
from panoforge.eval.interactive.serve import desks as desks_module
from panoforge.eval.interactive.serve import journal as journal_module
from panoforge.eval.interactive.serve.document import Delta, Document, Hand, Stale
from panoforge.eval.interactive.serve.edits import delta_of
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.messages import Edit, EditRequest, parse
from panoforge.eval.interactive.serve.objects import Heading
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.packed import PackedMask
from panoforge.eval.interactive.serve.server import PanoServer
from panoforge.eval.interactive.serve.worker import Cancel, Cancelling, TooBusy, Worker

WIDTH, HEIGHT = 256, 128
HEADING = Heading(picture="room.png", sha256="0" * 64, width=WIDTH, height=HEIGHT)
SEAM = [[172.0, 5.0], [-172.0, -5.0]]
POLE = [[0.0, 80.0], [120.0, 80.0], [-120.0, 80.0], [0.0, 80.0]]
AROUND_POLE = [[0.0, -60.0], [120.0, -65.0], [-120.0, -60.0]]


def edit_of(**said: object) -> Edit:
    message = {"picture": "x", "session": "abcdefgh", "version": 0, "request": "abcdefgh"}
    return parse(EditRequest, {**message, "edit": said}).edit


def no_predictor(wanted: object) -> np.ndarray:
    raise AssertionError("nothing is to be predicted")


class Work:
    """A document and one who edits it."""

    def __init__(self, path: Path, predict: Callable = no_predictor) -> None:
        self.document, self.predict = Document.open(path, HEADING), predict

    def do(self, who: str = "ann", base: int | None = None, **said: object) -> Delta:
        document = self.document
        delta = delta_of(document, edit_of(**said), who, self.predict)
        base = document.version if base is None else base
        document.commit(base, Hand(who, who.title(), who), secrets.token_hex(4), delta)
        return delta

    def mask(self, id_: int) -> np.ndarray:
        return self.document.mask_of(self.document.objects[id_]).mask()

    def state(self) -> tuple:
        document = self.document
        return document.objects, document.status, document.version


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "journal.jsonl")


def test_masks_are_packed_and_come_back() -> None:
    rng = np.random.default_rng(0)
    band = np.zeros((HEIGHT, WIDTH), bool)
    band[40:50] = True  # begins and ends at the seam
    for density in (0, 0.01, 0.5, None, 1):
        mask = band if density is None else rng.random((HEIGHT, WIDTH)) < density
        packed = PackedMask.of(mask)
        assert np.array_equal(packed.mask(), mask) and packed.pixels == mask.sum()
    assert packed.area_sr == pytest.approx(4 * np.pi)
    damaged = packed.model_copy(update={"height": HEIGHT + 1})
    with pytest.raises(DataError, match="damaged"):
        damaged.mask()


def test_every_edit_can_be_undone_made_again_and_replayed(work: Work, tmp_path: Path) -> None:
    steps = [
        {"kind": "brush", "points": SEAM, "radius_deg": 6},
        {"kind": "brush", "points": POLE, "radius_deg": 4},
        {"kind": "polygon", "points": AROUND_POLE, "object": 2},
        {"kind": "brush", "points": [[180, 0]], "radius_deg": 2, "erase": True, "object": 1},
        {"kind": "set", "objects": [1], "name": "door", "category": "door", "comment": "é"},
        {"kind": "split", "object": 2},
        {"kind": "merge", "objects": [2, 3]},
        {"kind": "polygon", "object": 1, "points": [[175, 9], [-179, 9], [177, -9]], "mode": "cut"},
        {"kind": "delete", "objects": [4]},
        {"kind": "set", "objects": [1], "locked": True},
        {"kind": "status", "status": "done"},
    ]
    states = [work.state()[:2]]
    for step in steps:
        work.do(**step)
        states.append((dict(work.document.objects), work.document.status))
    path = work.document.journal.path
    assert Work(path).state() == work.state()
    for k in range(len(steps)):
        work.do(kind="undo")
        assert work.state()[:2] == states[-2 - k]
    with pytest.raises(UsageError, match="nothing to undo"):
        work.do(kind="undo")
    for k in range(len(steps)):
        work.do(kind="redo")
        assert work.state()[:2] == states[k + 1]
    again = Work(path)
    assert again.state() == work.state() and again.document.can("ann") == (True, False)
    again.do(kind="undo")
    again.do(kind="set", objects=[1], locked=False)
    assert again.document.can("ann") == (True, False)  # what was undone is no longer to be redone


def test_shapes_are_on_the_sphere(work: Work) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    mask = work.mask(1)
    assert mask[:, 0].any() and mask[:, -1].any() and not mask[:, WIDTH // 2].any()
    work.do(kind="polygon", points=AROUND_POLE)
    assert work.mask(2)[-1].all()  # the pole is inside


def test_edits_that_make_no_sense_are_refused_and_change_nothing(work: Work) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    work.do(kind="brush", points=POLE, radius_deg=6)
    work.do(kind="set", objects=[2], locked=True)
    before = work.state()
    length = work.document.journal.path.stat().st_size
    for said, words in (
        ({"kind": "brush", "object": 2, "points": SEAM, "radius_deg": 1}, "locked"),
        ({"kind": "delete", "objects": [1, 2]}, "locked"),
        ({"kind": "brush", "points": SEAM, "radius_deg": 1, "erase": True}, "choose the object"),
        ({"kind": "split", "object": 1}, "one connected part"),
        ({"kind": "merge", "objects": [1, 1]}, "two objects"),
        ({"kind": "polygon", "points": [[0, 0]] * 3}, "three different"),
        ({"kind": "polygon", "object": 1, "points": AROUND_POLE, "mode": "cut"}, "a part outside"),
        ({"kind": "click", "lon_deg": 0, "lat_deg": 0, "positive": False}, "on the object first"),
        ({"kind": "set", "objects": [1]}, "nothing is said"),
    ):
        with pytest.raises(UsageError, match=words):
            work.do(**said)
    with pytest.raises(Stale, match="object 9 is gone"):
        work.do(kind="delete", objects=[9])
    assert work.state() == before and work.document.journal.path.stat().st_size == length


def test_drawing_is_kept_when_the_object_is_clicked_on(tmp_path: Path) -> None:
    found = np.zeros((HEIGHT, WIDTH), bool)
    found[60:70, 100:120] = True
    work = Work(tmp_path / "j", lambda wanted: found)
    work.do(kind="click", lon_deg=0, lat_deg=0)
    assert len(work.document.objects[1].clicks) == 1 and np.array_equal(work.mask(1), found)
    work.do(kind="brush", object=1, points=[[90, 0]], radius_deg=5)
    drawn = work.mask(1)
    assert not work.document.objects[1].clicks
    found[:] = False
    found[20:30] = True
    work.do(kind="click", object=1, lon_deg=0, lat_deg=60)
    assert np.array_equal(work.mask(1), drawn | found)
    work.do(kind="click", object=1, lon_deg=0, lat_deg=60, positive=False)
    assert np.array_equal(work.mask(1), drawn & ~found)


def test_two_people_merge_or_are_told(work: Work) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    seen = work.document.version
    work.do("bob", base=seen, kind="set", objects=[1], name="bob's")
    work.do("ann", base=seen, kind="brush", points=POLE, radius_deg=3)  # another object: both stand
    assert set(work.document.objects) == {1, 2}
    with pytest.raises(Stale, match="Bob has changed object 1 meanwhile"):
        work.do("ann", base=seen, kind="set", objects=[1], name="ann's")
    assert work.document.objects[1].name == "bob's"
    work.do("ann", base=seen, kind="set", objects=[2], name="own")  # her own is no news
    work.do("ann", kind="undo")
    work.do("ann", kind="undo")  # her own last change, not his
    assert set(work.document.objects) == {1} and work.document.objects[1].name == "bob's"
    with pytest.raises(Stale, match="to undo “brush” would lose"):
        work.do("ann", kind="undo")
    with pytest.raises(Stale, match="has seen version 99"):
        work.do("ann", base=99, kind="status", status="done")


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_rest_stands(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    work = Work(path)
    for k in range(3):
        work.do(kind="brush", points=[[k * 30, 0]], radius_deg=3)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(whole), 7):
        path.write_bytes(whole[:cut])
        document = Document.open(path, HEADING)
        assert document.version == 2 and document.journal.torn == cut - last
        assert path.read_bytes() == whole[:last]
        Work(path).do(kind="status", status="done")  # and it goes on
        assert Document.open(path, HEADING).version == 3
    for damage in (whole.replace(b"brush", b"brusx", 1), whole[: last // 2] + whole[last:]):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"line \d of \d is damaged, \d before it are whole"):
            Document.open(path, HEADING)
        assert path.read_bytes() == damage


def test_a_damaged_journal_is_refused_or_shorter_never_wrong(work: Work) -> None:
    rng = np.random.default_rng(0)
    states = [dict(work.document.objects)]
    for k in range(4):
        work.do(kind="brush", points=[[k * 30, 0]], radius_deg=3)
        states.append(dict(work.document.objects))
    path = work.document.journal.path
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        place = int(rng.integers(len(data)))
        how = rng.integers(3)
        if how == 0:
            data[place] ^= int(rng.integers(1, 256))
        elif how == 1:
            del data[place : place + int(rng.integers(1, 50))]
        else:
            data[place:place] = rng.bytes(int(rng.integers(1, 50)))
        path.write_bytes(data)
        try:
            document = Document.open(path, HEADING)
        except DataError as error:
            refused += "\n" not in str(error)
            assert path.read_bytes() == data
        else:
            assert document.objects == states[document.version]
    assert refused > 200


def test_a_picture_that_was_replaced_is_refused(work: Work) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    other = HEADING.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(DataError, match="not the picture that the work in"):
        Document.open(work.document.journal.path, other)


def test_a_full_disk_loses_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    path, before = work.document.journal.path, work.document.journal.path.read_bytes()

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return os_write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    os_write = os.write
    monkeypatch.setattr(journal_module.os, "write", half)
    with pytest.raises(StorageError, match="the disk is full"):
        work.do(kind="brush", points=POLE, radius_deg=3)
    monkeypatch.undo()
    assert path.read_bytes() == before and set(work.document.objects) == {1}
    work.do(kind="brush", points=POLE, radius_deg=3)
    assert set(Document.open(path, HEADING).objects) == {1, 2}


def test_a_journal_never_grows_beyond_what_is_read(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.do(kind="brush", points=SEAM, radius_deg=6)
    path = work.document.journal.path
    monkeypatch.setattr(journal_module, "MAX_JOURNAL_BYTES", path.stat().st_size + 10)
    with pytest.raises(StorageError, match="import it in a new work folder"):
        work.do(kind="brush", points=POLE, radius_deg=3)
    assert set(Document.open(path, HEADING).objects) == {1}


def test_the_worker_is_fair_and_takes_work_back() -> None:
    order: list[str] = []
    gate, begun = threading.Event(), threading.Event()

    def slow(cancel: Cancel) -> None:
        begun.set()
        while not gate.wait(0.01):
            cancel.check()

    def note(name: str) -> Callable[[Cancel], None]:
        return lambda cancel: order.append(name)

    with Worker() as worker:
        first = worker.submit("ann", "r0", slow)
        assert begun.wait(10)
        for k in range(3):
            worker.submit("ann", f"a{k}", note(f"a{k}"))
        worker.submit("bob", "ready", note("ready"), urgent=False)
        last = worker.submit("bob", "b0", note("b0"))
        gone = worker.submit("cid", "c0", note("c0"))
        assert worker.submit("dee", "d0", note("d0")).cancel()  # nobody waits for it any more
        assert worker.cancel("cid", "c0") == 1
        with pytest.raises(Cancelling):
            gone.result(10)
        gate.set()
        first.result(10)
        last.result(10)
        wait_until(lambda: len(order) == 5)
        assert order == ["b0", "a0", "a1", "a2", "ready"]
        gate.clear()
        begun.clear()
        running = worker.submit("ann", "r1", slow)
        assert begun.wait(10)
        assert worker.cancel("bob") == 0 and worker.cancel("ann") == 1
        with pytest.raises(Cancelling):
            running.result(10)
        worker.submit("dan", "r", slow)
        for k in range(8):
            worker.submit("ann", f"q{k}", note("q"))
        with pytest.raises(TooBusy):
            worker.submit("ann", "q9", note("q"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of three pictures, and the true labels of the first."""
    folder = tmp_path_factory.mktemp("pictures") / "rooms"
    folder.mkdir()
    rgb, labels = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    (folder / "a room.png").write_bytes(encode_product("rgb.png", rgb))
    for name in ("b.png", "c.png"):
        other, _ = synthetic.caps(np.random.default_rng(len(name)), WIDTH, 3)
        (folder / name).write_bytes(encode_product("rgb.png", other))
    return folder, labels


@pytest.fixture
def server(pictures: tuple[Path, np.ndarray], tmp_path: Path) -> Iterator[PanoServer]:
    with serving(Asked(place=pictures[0], work=tmp_path / "work")) as server:
        yield server


def coco_of(labels: np.ndarray, path: Path, name: str) -> Path:
    """A COCO file of a label map, as others write them."""
    annotations = []
    for id_ in np.unique(labels[labels > 0]).tolist():
        rle = coco_mask.encode(np.asfortranarray(labels == id_, np.uint8))
        annotations.append(
            {
                "id": id_,
                "image_id": 1,
                "category_id": 1 + id_ % 2,
                "iscrowd": 0,
                "area": int((labels == id_).sum()),
                "bbox": coco_mask.toBbox(rle).tolist(),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    height, width = labels.shape
    images = [{"id": 1, "file_name": name, "width": width, "height": height}]
    categories = [{"id": 1, "name": "lamp"}, {"id": 2, "name": "sofa"}]
    document = {"images": images, "categories": categories, "annotations": annotations}
    path.write_text(json.dumps(document))
    return path


def test_people_work_on_their_own_pictures(server: PanoServer) -> None:
    ann, bob = Annotator(server.server_port, "Ann"), Annotator(server.server_port, "Bob")
    a, b = ann.picture("a room.png"), ann.picture("b.png")
    ann.look(a)
    bob.look(b)
    ann.edit(a, "brush", points=SEAM, radius_deg=5)
    bob.edit(b, "brush", points=POLE, radius_deg=5)
    assert [len(ann.look(one)["objects"]) for one in (a, b)] == [1, 1]
    state = ann.look(b)
    assert state["people"] == ["Bob"]
    listed = {one["name"]: one for one in ann.pictures()}
    assert listed["a room.png"]["status"] == "open" and listed["c.png"]["status"] == "new"
    assert listed["b.png"]["objects"] == 1
    # a request for one picture is never applied to another, whatever else it says
    with pytest.raises(Refusal) as refused:
        bob.edit(a, "delete", object=1, objects=[1])
    assert refused.value.status == 400
    bob.versions[a] = 0
    with pytest.raises(Refusal, match="Ann has changed object 1"):
        bob.edit(a, "delete", objects=[1])
    with pytest.raises(Refusal, match="there is no picture"):
        ann.edit("nowhere", "undo")


def test_nobody_waits_for_other_peoples_pictures(
    server: PanoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, gate = Annotator(server.server_port), threading.Event()
    a = ann.picture("a room.png")
    ann.look(a)
    slow = [ann.picture(name) for name in ("b.png", "c.png")]
    decode = desks_module.decode
    monkeypatch.setattr(desks_module, "decode", lambda *args: gate.wait(60) and decode(*args))
    others = [
        threading.Thread(target=Annotator(server.server_port).look, args=(picture,))
        for picture in slow * 10
    ]
    for other in others:
        other.start()
    try:
        for k in range(3):  # twenty are waiting, and she works on
            ann.edit(a, "brush", points=[[k, 0]], radius_deg=3)
        assert all(other.is_alive() for other in others)
    finally:
        gate.set()
        for other in others:
            other.join(60)


def test_a_request_that_comes_twice_is_made_once(server: PanoServer) -> None:
    ann = Annotator(server.server_port)
    a = ann.picture("a room.png")
    first = ann.edit(a, "brush", "same-request", points=SEAM, radius_deg=5)
    ann.versions[a] = 0
    again = ann.edit(a, "brush", "same-request", points=SEAM, radius_deg=5)
    assert again["version"] == first["version"] == 1 and again["touched"] == [1]


def test_masks_go_out_and_come_back_equal(
    server: PanoServer, pictures: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    """COCO by pycocotools, LabelMe and PNG; overlapping masks stay whole in the first two."""
    ann, labels = Annotator(server.server_port), pictures[1]
    a = ann.picture("a room.png")
    ann.look(a)
    state = ann.take_in(a, coco_of(labels, tmp_path / "in.json", "rooms/a room.png"))
    assert [one["category"] for one in state["objects"]] == ["sofa", "lamp"] * 3
    assert {one["review"] for one in state["objects"]} == {"proposed"}
    for one, id_ in zip(state["objects"], np.unique(labels[labels > 0]), strict=True):
        assert np.array_equal(ann.mask(a, one, WIDTH, HEIGHT), labels == id_)
    ann.edit(a, "brush", points=SEAM, radius_deg=30, category="seam")  # over others
    ann.edit(a, "set", objects=[2], review="rejected")
    state = ann.look(a)
    kept = {
        one["id"]: ann.mask(a, one, WIDTH, HEIGHT) for one in state["objects"] if one["id"] != 2
    }
    (tmp_path / "out.json").write_bytes(ann.save(a, "coco.json"))
    with contextlib.redirect_stdout(None):
        coco = COCO(tmp_path / "out.json")
    found = [coco.annToMask(entry).astype(bool) for entry in coco.loadAnns(coco.getAnnIds())]
    assert all(np.array_equal(x, y) for x, y in zip(found, kept.values(), strict=True))
    (tmp_path / "labelme.json").write_bytes(ann.save(a, "labelme.json"))
    b = ann.picture("b.png")
    for path in (tmp_path / "out.json", tmp_path / "labelme.json"):
        ann.look(b)
        ann.edit(b, "status", status="open")
        state = ann.take_in(b, path)
        back = [ann.mask(b, one, WIDTH, HEIGHT) for one in state["objects"]]
        assert all(np.array_equal(x, y) for x, y in zip(back, kept.values(), strict=True)), path
        assert [one["category"] for one in state["objects"]][-1] == "seam"
        ann.edit(b, "delete", objects=[one["id"] for one in state["objects"]])
    ann.edit(a, "delete", objects=[7])
    headers, png = ann.raw(
        "GET", f"/api/export/{a}/mask.png?session={ann.session}&version={ann.versions[a]}"
    )
    assert "1%20rejected" in headers["x-pano-left-out"]
    (tmp_path / "out.mask.png").write_bytes(png)
    state = ann.take_in(b, tmp_path / "out.mask.png")
    back = [ann.mask(b, one, WIDTH, HEIGHT) for one in state["objects"]]
    kept.pop(7)
    assert all(np.array_equal(x, y) for x, y in zip(back, kept.values(), strict=True))
    assert cv2.imdecode(np.frombuffer(ann.save(a, "overlay.jpg"), np.uint8), 1).shape[1] == WIDTH


def test_labelme_itself_reads_what_is_saved(server: PanoServer, tmp_path: Path) -> None:
    toolkit("labelme")
    ann = Annotator(server.server_port)
    a = ann.picture("a room.png")
    ann.edit(a, "brush", points=SEAM, radius_deg=9, category="door")
    state = ann.edit(a, "polygon", points=AROUND_POLE, category="floor")
    (tmp_path / "a room.png").write_bytes(
        encode_product("rgb.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    )
    (tmp_path / "x.json").write_bytes(ann.save(a, "labelme.json"))
    found = dict(labelme_reads(tmp_path / "x.json", WIDTH, HEIGHT))
    assert set(found) == {"door", "floor"}
    for one in state["objects"]:
        assert np.array_equal(found[one["category"]], ann.mask(a, one, WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.txt", b"hello", "no COCO or LabelMe JSON and no PNG"),
        ("x.json", b'{"shapes": 3}', "x.json is not LabelMe JSON"),
        ("x.json", b'{"images": [{', "x.json is not JSON"),
        ("x.png", b"\x89PNG\r\n\x1a\n", "x.png"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(
    server: PanoServer, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    ann = Annotator(server.server_port)
    a = ann.picture("a room.png")
    ann.look(a)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Refusal) as refused:
        ann.take_in(a, tmp_path / name)
    said = refused.value.answer["error"]
    assert refused.value.status == 400 and words in said and "\n" not in said and "/tmp" not in said
    assert ann.look(a)["version"] == 0


def test_masks_of_another_size_are_refused(server: PanoServer, tmp_path: Path) -> None:
    ann = Annotator(server.server_port)
    a = ann.picture("a room.png")
    ann.look(a)
    (tmp_path / "small.png").write_bytes(
        encode_product("instance.png", np.ones((64, 128), np.uint16))
    )
    with pytest.raises(Refusal, match="masks are 128×64 and the picture is 256×128"):
        ann.take_in(a, tmp_path / "small.png")


def test_pictures_are_dropped_once_and_kept(server: PanoServer, tmp_path: Path) -> None:
    ann = Annotator(server.server_port)
    rgb, _ = synthetic.caps(np.random.default_rng(9), WIDTH, 3)
    data = encode_product("rgb.png", rgb)
    path = f"/api/upload?session={ann.session}&name=C:%5Cx%5C..%5Cnew.png"
    for _ in range(2):
        picture = json.loads(ann.raw("POST", path, data)[1])["picture"]
    assert [one["name"] for one in ann.pictures()].count("new.png") == 1
    ann.edit(picture, "brush", points=SEAM, radius_deg=5)
    for wrong, words in (
        (encode_product("rgb.png", rgb[::-1].copy()), "another one"),
        (b"hello", "none of JPEG"),
    ):
        name = "other.png" if wrong == b"hello" else "new.png"
        with pytest.raises(Refusal, match=words):
            ann.raw("POST", f"/api/upload?session={ann.session}&name={name}", wrong)


def test_a_16k_picture_is_refused_and_a_crop_is_placed(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("1", (16400, 8200)).save(folder / "large.png")
    crop = np.full((64, 128, 3), 200, np.uint8)
    tags = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
        '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
        ' GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="256"'
        ' GPano:FullPanoHeightPixels="128" GPano:CroppedAreaImageWidthPixels="128"'
        ' GPano:CroppedAreaImageHeightPixels="64" GPano:CroppedAreaLeftPixels="64"'
        ' GPano:CroppedAreaTopPixels="32"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(crop).save(folder / "crop.jpg", xmp=tags.encode(), quality=95)
    with serving(Asked(place=folder, work=tmp_path / "work")) as server:
        ann = Annotator(server.server_port)
        with pytest.raises(Refusal, match="outside of the cap"):
            ann.look(ann.picture("large.png"))
        picture = ann.picture("crop.jpg")
        assert ann.look(picture)["width"] == 256
        inside = np.zeros((64, 128), np.uint16)
        inside[10:20, 30:40] = 1
        (tmp_path / "ids.png").write_bytes(encode_product("instance.png", inside))
        (one,) = ann.take_in(picture, tmp_path / "ids.png")["objects"]
        mask = ann.mask(picture, one, 256, 128)
        assert mask[42:52, 94:104].all() and mask.sum() == 100  # where the crop lies


def test_a_click_without_weights_follows_edges(
    server: PanoServer, pictures: tuple[Path, np.ndarray]
) -> None:
    ann, labels = Annotator(server.server_port), pictures[1]
    a = ann.picture("a room.png")
    v, u = 56, WIDTH - 1  # the cap on the seam
    id_ = labels[v, u]
    assert id_
    lon, lat = (u + 0.5) / WIDTH * 360 - 180, 90 - (v + 0.5) / HEIGHT * 180
    state = ann.edit(a, "click", lon_deg=lon, lat_deg=lat)
    mask = ann.mask(a, state["objects"][0], WIDTH, HEIGHT)
    true = labels == id_
    assert (mask & true).sum() / (mask | true).sum() > 0.8
    assert mask[:, 0].any() and mask[:, -1].any()
    box = [[lon - 30, 40], [lon - 360 + 30, 40], [lon - 360 + 30, -20], [lon - 30, -20]]
    state = ann.edit(a, "box", corners=box)
    assert state["objects"][1]["pixels"] > 0


def test_open_pictures_are_bounded_in_bytes(pictures: tuple[Path, np.ndarray], tmp_path: Path):
    with serving(Asked(place=pictures[0], work=tmp_path / "work")) as server:
        studio = server.studio
        studio.desks.max_bytes = 1
        ann = Annotator(server.server_port)
        for name in ("a room.png", "b.png", "c.png", "a room.png"):
            picture = ann.picture(name)
            ann.edit(picture, "brush", points=SEAM, radius_deg=5)
            assert len(studio.desks) == 1
        assert len(ann.look(ann.picture("a room.png"))["objects"]) == 2  # nothing is lost by it


Acknowledged = dict[str, tuple[int, list[dict]]]  # by picture: the version, and its objects


def told(ann: Annotator, state: dict) -> list[dict]:
    """An answer's objects, and a hash of the pixels of each mask."""
    found = []
    for one in state["objects"]:
        mask = one["mask"] and pixels_hash(ann.mask(state["picture"], one, WIDTH, HEIGHT))
        found.append({**{word: one[word] for word in WORDS}, "mask": mask})
    return found


def scripted(
    ann: Annotator, rng: random.Random, answered: dict[str, int], done: Acknowledged
) -> None:
    """A little work on a random picture; `done` is what was acknowledged.

    The version is noted at once, in `answered`: a kill may come before the masks are looked at.
    """
    picture = ann.picture(rng.choice(("a room.png", "b.png")))
    state = ann.look(picture)
    kind = rng.choice(("brush", "brush", "polygon", "set", "undo"))
    if kind in ("set", "undo") and not state["objects"]:
        kind = "brush"
    lon = rng.uniform(-180, 180)
    said = {
        "brush": {"points": [[lon, rng.uniform(-90, 90)]], "radius_deg": rng.uniform(1, 20)},
        "polygon": {"points": [[lon, 10], [lon / 2, 40], [-lon, -30]]},
        "set": {"objects": [1], "name": secrets.token_hex(4)},
        "undo": {},
    }[kind]
    with contextlib.suppress(Refusal):
        answer = ann.edit(picture, kind, **said)
        answered[picture] = answer["version"]
        done[picture] = answer["version"], told(ann, answer)


def kill_and_look(folder: Path, work: Path, times: int) -> None:
    """kill -9 at random moments; whatever was acknowledged is there afterwards, to the pixel."""
    rng, answered, done = random.Random(times), dict[str, int](), Acknowledged()
    process = Process(folder, "--work", str(work))
    ann = Annotator(process.port)
    try:
        for _ in range(times):
            stop = threading.Timer(rng.uniform(0.0, 1.0), process.process.kill)
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                while True:
                    scripted(ann, rng, answered, done)
                    if done and not stop.ident:
                        stop.start()
            stop.join()
            process.kill()
            process.start()
            ann.join()
            for picture, (version, objects) in done.items():
                journal = work / "pictures" / picture / "journal.jsonl"
                assert objects_of(replayed(journal, version), None) == objects
                state = ann.look(picture)
                # one may have been unanswered
                assert answered[picture] <= state["version"] <= answered[picture] + 1
                now = objects_of(replayed(journal, state["version"]), None)
                assert told(ann, state) == now
                answered[picture], done[picture] = state["version"], (state["version"], now)
        assert done
    finally:
        process.kill()


def test_killed_at_random_moments_nothing_acknowledged_is_lost(
    pictures: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    kill_and_look(pictures[0], tmp_path / "work", 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_a_hundred_times(pictures: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    kill_and_look(pictures[0], tmp_path / "work", 100)


def test_a_journal_line_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(
        journal_module.os, "fsync", lambda d: (synced.append(os.fstat(d).st_size), fsync(d))
    )
    journal, _ = Journal.open(tmp_path / "j")
    journal.append(b"{}")
    assert journal.length in synced


def test_a_box_in_which_nothing_stands_out_is_the_thing_inside(tmp_path: Path) -> None:
    """Met by a labeller: a stone on a patterned floor; the object was made, of no pixel."""
    folder = tmp_path / "flat"
    folder.mkdir()
    grey = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    (folder / "grey.png").write_bytes(encode_product("rgb.png", grey))
    with serving(Asked(place=folder, work=tmp_path / "work")) as server:
        ann = Annotator(server.server_port)
        picture = ann.picture("grey.png")
        state = ann.edit(picture, "box", corners=[[-20, 20], [20, 20], [20, -20], [-20, -20]])
        mask = ann.mask(picture, state["objects"][0], WIDTH, HEIGHT)
        assert mask[HEIGHT // 2, WIDTH // 2] and not mask[:, : WIDTH // 3].any()


def test_a_predictor_that_finds_nothing_makes_no_object(
    server: PanoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Annotator(server.server_port)
    picture = ann.picture("b.png")
    before = ann.look(picture)
    monkeypatch.setattr(EdgeFollower, "mask", lambda self, clicks: np.zeros((HEIGHT, WIDTH), bool))
    with pytest.raises(Refusal, match="nothing was found there, so no object was made"):
        ann.edit(picture, "click", lon_deg=0, lat_deg=0)
    assert ann.look(picture)["objects"] == before["objects"]
