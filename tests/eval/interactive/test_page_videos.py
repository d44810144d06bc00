"""Videos on the page, behind the network: frames, propagation, undo, crashes, files out and in."""

import contextlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import clips
import cv2
import numpy as np
import pytest
from annotating import Annotator, Process, Refusal, serving, wait_until
from pycocotools.coco import COCO

from panoforge.core.errors import DataError
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.following.edges import EdgeFollowing
from panoforge.eval.interactive.serve import propagating
from panoforge.eval.interactive.serve.library import Library
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.server import PanoServer

FRAMES, WIDTH, HEIGHT = 12, clips.WIDTH, clips.HEIGHT
DISC = {"points": [[160.0, 0.0]], "radius_deg": 14.0}  # where it is on frame 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a video file, and one of DAVIS' layout."""
    root = tmp_path_factory.mktemp("videos")
    pictures, masks = clips.moving_disc(FRAMES)
    (root / "films").mkdir()
    clips.write_clip(root / "films" / "walk.mp4", pictures)
    for folder in ("JPEGImages", "Annotations"):
        (root / "davis" / folder / "disc").mkdir(parents=True)
    for k, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        frames = root / "davis" / "JPEGImages" / "disc"
        (frames / f"{k:05d}.png").write_bytes(encode_product("rgb.png", picture))
        ids = np.where(mask, 5, 0).astype(np.uint16)
        true = root / "davis" / "Annotations" / "disc" / f"{k:05d}.png"
        true.write_bytes(encode_product("instance.png", ids))
    return root


@pytest.fixture
def server(place: Path, tmp_path: Path) -> Iterator[PanoServer]:
    with serving(Asked(place=place / "films", work=tmp_path / "work")) as found:
        yield found


def begun(server: PanoServer) -> tuple[Annotator, str]:
    """Somebody who has drawn the disc on frame 0."""
    ann = Annotator(server.server_port)
    video = ann.picture("walk.mp4")
    state = ann.look(video)
    assert state["video"] == {"frame": 0, "frames": FRAMES, "fps": pytest.approx(10)}
    ann.edit(video, "brush", frame=0, category="ball", **DISC)
    return ann, video


def masks_of(ann: Annotator, video: str) -> dict[int, np.ndarray]:
    """The mask of object 1 on each frame that shows it."""
    found = {}
    for frame in range(FRAMES):
        (one,) = ann.look(video, frame)["objects"]
        if one["mask"]:
            found[frame] = ann.mask(video, one, WIDTH, HEIGHT)
    return found


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_an_object_goes_through_the_video_with_one_id(server: PanoServer) -> None:
    ann, video = begun(server)
    state = ann.propagate(video, 0, [1])
    assert (state["frames_done"], state["looks"]) == (FRAMES - 1, FRAMES - 1)
    assert state["lost"] == {} and not state["cancelled"]
    (one,) = state["objects"]
    assert one["spans"] == [[0, FRAMES - 1]] and one["keys"] == [0] and one["category"] == "ball"
    true = clips.moving_disc(FRAMES)[1]
    for frame, mask in masks_of(ann, video).items():
        assert iou(mask, true[frame]) > 0.85
    # all of it is one change
    state = ann.edit(video, "undo", frame=3)
    assert state["objects"][0]["spans"] == [[0, 0]] and state["at_frames"] == [1, FRAMES - 1]
    state = ann.edit(video, "redo", frame=3)
    assert state["objects"][0]["spans"] == [[0, FRAMES - 1]]


def test_what_a_hand_has_made_is_never_painted_over(server: PanoServer) -> None:
    ann, video = begun(server)
    ann.edit(video, "brush", frame=6, object=1, points=[[0, 60]], radius_deg=8)
    by_hand = masks_of(ann, video)[6]
    state = ann.propagate(video, 0, [1])
    assert state["objects"][0]["spans"] == [[0, 6]]  # the keyframe ends it
    assert np.array_equal(masks_of(ann, video)[6], by_hand)
    state = ann.propagate(video, 6, [1], direction="backward", frames=2)
    assert state["objects"][0]["keys"] == [0, 6]
    assert iou(masks_of(ann, video)[5], by_hand) > 0.5  # from the other side, and no further
    state = ann.edit(video, "clear", frame=3, objects=[1], span="propagated")
    assert state["objects"][0]["spans"] == [[0, 0], [6, 6]]
    ann.edit(video, "clear", frame=3, objects=[1], span="after")
    state = ann.edit(video, "clear", frame=3, objects=[1], span="before")
    assert state["objects"][0]["spans"] == []
    with pytest.raises(Refusal, match="on none of these frames"):
        ann.edit(video, "clear", frame=3, objects=[1])


def test_two_people_work_on_one_object_on_different_frames(server: PanoServer) -> None:
    ann, video = begun(server)
    bob = Annotator(server.server_port, "Bob")
    bob.look(video)
    ann.edit(video, "brush", frame=2, object=1, points=[[0, 0]], radius_deg=5)
    bob.edit(video, "brush", frame=3, object=1, points=[[0, 0]], radius_deg=5)
    ann.versions[video] -= 1
    ann.edit(video, "brush", frame=2, object=1, points=[[9, 0]], radius_deg=5)
    bob.versions[video] -= 2
    with pytest.raises(Refusal, match="Ann has changed object 1 on frame 2"):
        bob.edit(video, "brush", frame=2, object=1, points=[[0, 0]], radius_deg=5)


def test_words_merging_deleting_and_splitting_in_a_video(server: PanoServer) -> None:
    ann, video = begun(server)
    ann.propagate(video, 0, [1])
    before = masks_of(ann, video)
    other = {"points": [[-60, -30], [-20, 40]], "radius_deg": 4}
    ann.edit(video, "brush", frame=4, **other)
    ann.edit(video, "set", frame=2, objects=[2], name="other")
    state = ann.edit(video, "merge", frame=9, objects=[1, 2])
    assert [one["id"] for one in state["objects"]] == [1]
    after = masks_of(ann, video)
    assert np.array_equal(after[3], before[3]) and after[4].sum() > before[4].sum()
    state = ann.edit(video, "split", frame=4, object=1)
    assert len(state["objects"]) == 2 and state["objects"][1]["spans"] == [[4, 4]]
    state = ann.edit(video, "delete", frame=0, objects=[1, 3])
    assert state["objects"] == []
    for _ in range(3):
        state = ann.edit(video, "undo", frame=4)
    assert [one["name"] for one in state["objects"]] == ["", "other"]
    assert state["objects"][0]["spans"] == [[0, FRAMES - 1]]


class Slowly(EdgeFollowing):
    """Follows when it is let."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)

    def follow(self, frames, order, masks):
        for found in super().follow(frames, order, masks):
            self.gate.acquire(timeout=60)
            yield found


def test_a_propagation_is_cancelled_and_keeps_what_it_has(
    server: PanoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others click and draw meanwhile; progress is told; what is done by then stays."""
    monkeypatch.setattr(propagating, "COMMIT_FRAMES", 2)
    monkeypatch.setattr(propagating, "COMMIT_S", 1e9)
    ann, video = begun(server)
    slow = server.studio.predictors.following = Slowly()
    answers: list[dict] = []
    run = threading.Thread(
        target=lambda: answers.append(ann.propagate(video, 0, [1], "propagation-1"))
    )
    run.start()
    for _ in range(5):
        slow.gate.release()
    bob = Annotator(server.server_port, "Bob")
    wait_until(lambda: bob.look(video)["progress"] == [5, FRAMES - 1])
    assert bob.look(video)["objects"][0]["spans"] == [[0, 4]]  # written two by two
    bob.edit(video, "brush", frame=1, points=[[0, -50]], radius_deg=5)
    bob.post("/api/cancel", session=bob.session, request="propagation-1")  # not his
    ann.post("/api/cancel", session=ann.session, request="propagation-1")
    slow.gate.release()
    run.join(30)
    (state,) = answers
    assert state["cancelled"] and state["objects"][0]["spans"] == [[0, 6]]  # one was under way
    assert ann.look(video)["progress"] == [0, 0]
    state = ann.edit(video, "undo", frame=0)
    assert state["objects"][0]["spans"] == [[0, 0]] and len(state["objects"]) == 2


def test_a_killed_propagation_loses_no_written_frame(place: Path, tmp_path: Path) -> None:
    process = Process(place / "films", "--work", str(tmp_path / "work"))
    try:
        ann = Annotator(process.port)
        video = ann.picture("walk.mp4")
        ann.edit(video, "brush", frame=0, **DISC)
        errors: list[Exception] = []

        def propagate() -> None:
            try:
                ann.propagate(video, 0, [1])
            except (OSError, ValueError) as error:
                errors.append(error)

        run = threading.Thread(target=propagate)
        run.start()
        bob = Annotator(process.port, "Bob")
        state: dict = {}
        with contextlib.suppress(OSError, ValueError):
            while run.is_alive() and not (state and state["version"] > 1):
                state = bob.look(video)
        process.kill()
        run.join(30)
        process.start()
        ann.join()
        now = ann.look(video)
        assert now["version"] >= state["version"]
        (before,), (one,) = state["objects"], now["objects"]
        assert one["spans"][0][1] >= before["spans"][0][1]
        ann.propagate(video, one["spans"][0][1], [1]) if one["spans"][0][1] < FRAMES - 1 else None
        assert len(masks_of(ann, video)) == FRAMES
    finally:
        process.kill()


def test_a_video_goes_out_and_comes_back_equal(server: PanoServer, tmp_path: Path) -> None:
    """COCO by pycocotools, a PNG and a LabelMe file for each frame; the id is one in all."""
    ann, video = begun(server)
    ann.propagate(video, 0, [1])
    ann.edit(video, "set", frame=0, objects=[1], name="the ball")
    masks = masks_of(ann, video)
    (tmp_path / "out.json").write_bytes(ann.save(video, "coco.json"))
    with contextlib.redirect_stdout(None):
        coco = COCO(tmp_path / "out.json")
    assert coco.dataset["videos"] == [
        {"id": 1, "name": "walk.mp4", "length": FRAMES, "width": WIDTH, "height": HEIGHT}
    ]
    assert [image["frame_id"] for image in coco.dataset["images"]] == list(range(FRAMES))
    for entry in coco.loadAnns(coco.getAnnIds()):
        assert entry["instance_id"] == 1 and entry["video_id"] == 1
        assert np.array_equal(coco.annToMask(entry), masks[entry["image_id"] - 1])
    with zipfile.ZipFile(io.BytesIO(ann.save(video, "mask.png"))) as files:
        assert files.namelist() == [f"walk/{k:05d}.png" for k in range(FRAMES)]
        files.extractall(tmp_path)
    with zipfile.ZipFile(io.BytesIO(ann.save(video, "labelme.json"))) as files:
        files.extractall(tmp_path)
    for k, mask in masks.items():
        assert np.array_equal(read_labels(tmp_path / f"walk/{k:05d}.png"), mask.astype(int))
        file = read_labelme(tmp_path / f"walk/{k:05d}.json")
        assert file.shapes[0].group == "1" and np.array_equal(file.mask(file.shapes[0]), mask)
    overlay = np.frombuffer(ann.save(video, "overlay.jpg", 4), np.uint8)
    assert cv2.imdecode(overlay, 1).shape[1] == WIDTH
    ann.edit(video, "delete", frame=0, objects=[1])
    state = ann.take_in(video, tmp_path / "out.json")
    (one,) = state["objects"]
    assert one["keys"] == [0] and one["spans"] == [[0, FRAMES - 1]] and one["name"] == "the ball"
    back = masks_of(ann, video)
    assert all(np.array_equal(back[k], mask) for k, mask in masks.items())
    ann.edit(video, "delete", frame=0, objects=[one["id"]])
    state = ann.take_in(video, tmp_path / "walk" / "00003.png", frame=3)  # of one frame
    assert state["objects"][0]["spans"] == [[3, 3]] and state["objects"][0]["keys"] == [3]


def test_frames_are_looked_at_and_kept_within_bounds(
    server: PanoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panoforge.eval.interactive.serve import desks

    monkeypatch.setattr(desks, "MAX_FRAME_TILES_BYTES", 1)
    ann = Annotator(server.server_port)
    video = ann.picture("walk.mp4")
    ann.look(video)
    for frame in (0, 7, 3, 11):
        tile = ann.raw("GET", f"/api/tile/{video}/0/0/0?frame={frame}")[1]
        picture = cv2.imdecode(np.frombuffer(tile, np.uint8), 1)
        assert clips.number_in(picture) == frame
        assert len(server.studio.desks.opened(video).tiles._kept) == 1
    for path in (f"/api/tile/{video}/0/0/0?frame=12", f"/api/tile/{video}/0/0/0?frame=-1"):
        with pytest.raises(Refusal):
            ann.raw("GET", path)
    with pytest.raises(Refusal, match="there is no frame 99"):
        ann.edit(video, "brush", frame=99, **DISC)


def test_truth_of_a_folder_of_frames(place: Path, tmp_path: Path) -> None:
    asked = Asked(place=place / "davis", work=tmp_path / "work", predictor="truth")
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        (listed,) = ann.pictures()
        assert listed["name"] == "disc/"
        state = ann.edit(listed["id"], "click", frame=2, lon_deg=168.0, lat_deg=0.0)
        true = clips.moving_disc(FRAMES)[1]
        one = state["objects"][0]
        assert np.array_equal(ann.mask(listed["id"], one, WIDTH, HEIGHT), true[2])
        ann.propagate(listed["id"], 2, [1], direction="both")
        for frame, mask in masks_of(ann, listed["id"]).items():
            assert np.array_equal(mask, true[frame])
        document = json.loads(ann.save(listed["id"], "coco.json"))
        assert document["images"][1]["file_name"] == "disc/00001.png"


def test_what_cannot_be_is_said_in_one_line(
    place: Path, server: PanoServer, tmp_path: Path
) -> None:
    ann, video = begun(server)
    ann.edit(video, "set", frame=0, objects=[1], locked=True)
    with pytest.raises(Refusal, match="is locked"):
        ann.propagate(video, 0, [1])
    ann.edit(video, "set", frame=0, objects=[1], locked=False)
    with pytest.raises(Refusal, match="is not on frame 3"):
        ann.propagate(video, 3, [1])
    with pytest.raises(Refusal, match="no frame in that direction"):
        ann.propagate(video, 0, [1], direction="backward")
    for name, data, words in (
        ("film.mp4", b"hello", "film.mp4 cannot be opened as a video"),
        ("flat.mp4", None, "flat.mp4"),
    ):
        if data is None:
            flat = [np.zeros((64, 96, 3), np.uint8)] * 2
            data = clips.write_clip(tmp_path / name, flat).read_bytes()
        with pytest.raises(Refusal, match=words):
            ann.raw("POST", f"/api/upload?session={ann.session}&name={name}", data)
    film = (place / "films" / "walk.mp4").read_bytes()
    path = f"/api/upload?session={ann.session}&name=other.mp4"
    for _ in range(2):
        dropped = json.loads(ann.raw("POST", path, film)[1])["picture"]
    assert ann.look(dropped, 5)["video"]["frame"] == 5
    frames = tmp_path / "frames"
    frames.mkdir()
    for k, width in enumerate((64, 128)):
        data = encode_product("rgb.png", np.zeros((width // 2, width, 3), np.uint8))
        (frames / f"{k}.png").write_bytes(data)
    (listed,) = Library(frames, tmp_path / "w", video=True)
    with pytest.raises(DataError, match="128×64 and the first frame is 64×32"):
        listed.video().rgb(1)
