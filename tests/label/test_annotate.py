"""`pano annotate` from files to a dataset: what is written, going on, and what goes wrong."""

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from answering import server
from disks import fill, small_disk
from kills import killed_and_given_again
from videos import dataset_of_videos

from panoforge.core.errors import DataError, StorageError
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.numbers import percent
from panoforge.core.sample.revisions import decode_revisions
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.label import labelling, loading
from panoforge.label.annotating import AnnotateSummary, annotate
from panoforge.label.by_file import FileTask, Label, run_here
from panoforge.label.config import AnnotateConfig
from panoforge.label.inputs import items_of
from panoforge.label.teachers.base import Entities, Panoptic, Segment, ViewImage

TRUTH = {
    "entities": [{"kind": "truth", "name": "a"}],
    "panoptic": [{"kind": "truth", "name": "b"}, {"kind": "truth", "name": "c"}],
    "follow": {"kind": "noisy_truth"},
    "least_free_mb": 1,
}


def config(**keys: object) -> AnnotateConfig:
    return AnnotateConfig.model_validate({**TRUTH, **keys})


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_of_videos(tmp_path_factory.mktemp("videos"), scenes=2, frames=5)


@pytest.fixture(scope="module")
def whole(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AnnotateSummary]:
    out = tmp_path_factory.mktemp("labels") / "out"
    return out, annotate(truth, out, config())


def test_what_is_written_is_a_dataset_with_the_truth_in_it(
    truth: Path, whole: tuple[Path, AnnotateSummary]
) -> None:
    out, _ = whole
    assert not verify(out / "dataset").faults
    ours, theirs = Dataset.open(out / "dataset"), Dataset.open(truth)
    assert len(ours) == len(theirs) == 10
    for one, other in zip(
        ours.videos["video"].to_pylist(), theirs.videos["video"].to_pylist(), strict=True
    ):
        seen: set[tuple[int, int]] = set()
        for key, true_key in zip(
            ours.video(one).frame_keys, theirs.video(other).frame_keys, strict=True
        ):
            pair = ours.by_key(key).read("instance"), theirs.by_key(true_key).read("instance")
            seen |= set(zip(*(labels.ravel().tolist() for labels in pair), strict=True))
        assert len(seen) == len({a for a, _ in seen}) == len({b for _, b in seen}) == 3
    meta = ours[0].meta
    assert {row.category for row in meta.instances} <= {"wall", "pillar", "ball"}
    assert all(row.source_object == "agreed: b, c" for row in meta.instances)
    assert any("true ids with stated faults" in note for note in meta.notes)


def test_labelme_and_coco_lie_beside_it(whole: tuple[Path, AnnotateSummary]) -> None:
    out, _ = whole
    dataset = Dataset.open(out / "dataset")
    for key in dataset.keys:
        file = read_labelme(out / "labelme" / f"{key}.json")
        labels = dataset.by_key(key).read("instance")
        assert all(np.array_equal(file.mask(s), labels == int(s.group or 0)) for s in file.shapes)
    coco = json.loads((out / "coco" / "annotations" / "instances.json").read_text())
    assert len(coco["images"]) == 10 and coco["annotations"]


def test_the_report_says_what_was_done_and_that_truth_taught(
    whole: tuple[Path, AnnotateSummary],
) -> None:
    out, summary = whole
    page = (out / "report.html").read_text()
    for words in ("Contact sheet", "What changed", "Truth as teacher", "Stand-in", "agreed"):
        assert words in page
    assert decode_revisions((out / "revise.json").read_bytes()).entries == summary.revise


def test_the_same_command_labels_nothing_again_and_another_config_does(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = labelling._label
    monkeypatch.setattr(
        labelling, "_label", lambda task, *rest: (calls.append(task.name), real(task, *rest))[1]
    )
    out = tmp_path / "out"
    annotate(truth, out, config(write=[]))
    first = (out / "dataset" / "manifest.json").read_bytes()
    annotate(truth, out, config(write=[]))
    assert len(calls) == 2 and (out / "dataset" / "manifest.json").read_bytes() == first
    annotate(truth, out, config(write=[], rules={"max_objects": 2}))
    assert len(calls) == 4
    instances = Dataset.open(out / "dataset").instances()
    assert set(instances["id"].to_pylist()) == {1, 2}


@pytest.mark.real
def test_after_kill_9_the_same_command_goes_on(truth: Path, tmp_path: Path) -> None:
    file = tmp_path / "annotate.yaml"
    file.write_text(json.dumps({**TRUTH, "write": []}))  # JSON is YAML
    killed_and_given_again(tmp_path / "out", "annotate", str(truth), "--config", str(file))


class Halves:
    """The left half of each view is one thing, the right another."""

    name, digest = "halves", "0" * 64

    def entities(self, view: ViewImage) -> Entities:
        left = np.zeros((view.height, view.width), bool)
        left[:, : view.width // 2] = True
        return Entities(np.stack([left, ~left]), np.array([0.9, 0.9], np.float32))

    def panoptic(self, view: ViewImage) -> Panoptic:
        """What is bright is a face, the rest a wall."""
        bright = view.rgb.min(axis=2) > 200
        ids = np.where(bright, 2, 1).astype(np.int32)
        known = (Segment(1, "wall", False, 0.9), Segment(2, "face", True, 0.9))
        return Panoptic(ids, tuple(s for s in known if (ids == s.id).any()))


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Another teacher in the place of those of the config."""

    def teach(kind: type) -> None:
        monkeypatch.setattr(loading, "load_teacher", lambda choice, place, *words: kind())

    return teach


ALONE = {
    "entities": [],
    "panoptic": [{"kind": "truth"}],
    "follow": {"kind": "edges"},
    "write": [],
    "rules": {"sdr": False},
}


def picture(width: int = 128, height: int = 64) -> np.ndarray:
    rgb = np.random.default_rng(0).integers(0, 90, (height, width, 3)).astype(np.uint8)
    rgb[height // 3 : height // 2, : width // 8] = 240
    rgb[height // 3 : height // 2, -width // 8 :] = 240  # over the seam
    return rgb


def save(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def film(path: Path, frames: int, width: int = 128) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8, options={"g": "4", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, width // 2, "yuv420p"
        for k in range(frames):
            rgb = np.roll(picture(width, width // 2), k, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def test_a_file_that_cannot_be_labelled_stops_no_other(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    taught(Halves)
    place = tmp_path / "in"
    place.mkdir()
    save(place / "good.png", picture())
    save(place / "square.png", picture(100, 100))
    (place / "cut.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(50))
    found = annotate(place, tmp_path / "out", config(**ALONE))
    assert [record.name for record in found.records] == ["good.png"]
    assert set(found.failures) == {"square.png", "cut.mp4"}
    assert "100×100" in found.failures["square.png"] and "cut.mp4" in found.failures["cut.mp4"]
    assert "square.png" in (tmp_path / "out" / "report.html").read_text()
    assert len(Dataset.open(tmp_path / "out" / "dataset")) == 1


def test_a_video_file_that_ends_early_is_labelled_up_to_there(
    tmp_path: Path, taught: Callable[[type], None], capsys: pytest.CaptureFixture[str]
) -> None:
    taught(Halves)
    path = tmp_path / "walk.mp4"
    film(path, 12)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    found = annotate(path, tmp_path / "out", config(**ALONE))
    (record,) = found.records
    assert 0 < record.frames < 12 and f"labelled are {record.frames} of" in record.ended
    said = capsys.readouterr().err  # of the file, and of the frames in it
    assert f"walk.mp4: {record.frames}/" in said and "labelling: 1/1 in " in said
    dataset = Dataset.open(tmp_path / "out" / "dataset")
    video = dataset.video(dataset.videos["video"].to_pylist()[0])
    assert video.meta.frames == record.frames == len(dataset) and video.meta.fps == 8
    assert not verify(tmp_path / "out" / "dataset").faults


def test_of_a_partial_sphere_only_what_is_shown_is_asked_for(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    class Shown(Halves):
        """A wall where the picture is, nothing where it is black."""

        def panoptic(self, view: ViewImage) -> Panoptic:
            ids = (view.rgb.max(axis=2) > 20).astype(np.int32)
            return Panoptic(ids, (Segment(1, "wall", False, 0.9),) if ids.any() else ())

    taught(Shown)
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
        b' GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="128"'
        b' GPano:FullPanoHeightPixels="64" GPano:CroppedAreaImageWidthPixels="128"'
        b' GPano:CroppedAreaImageHeightPixels="32" GPano:CroppedAreaLeftPixels="0"'
        b' GPano:CroppedAreaTopPixels="16"/></rdf:RDF></x:xmpmeta>'
    )
    from PIL import Image

    Image.fromarray(np.full((32, 128, 3), 120, np.uint8)).save(
        tmp_path / "crop.jpg", quality=95, xmp=xmp
    )
    found = annotate(tmp_path / "crop.jpg", tmp_path / "out", config(**ALONE))
    (record,) = found.records
    assert (record.width, record.height) == (128, 64)
    assert record.coverage[0] > 0.99 and not any(r.kind == "uncovered" for r in found.revise)
    labels = Dataset.open(tmp_path / "out" / "dataset")[0].read("instance")
    assert not labels[:14].any() and labels[18:46].all()


@pytest.mark.parametrize("fault", ["size", "nan"])
def test_a_teacher_that_answers_nonsense_fails_its_file_in_one_line(
    tmp_path: Path, taught: Callable[[type], None], fault: str
) -> None:
    class Odd(Halves):
        def panoptic(self, view: ViewImage) -> Panoptic:
            said = super().panoptic(view)
            if fault == "size":
                return Panoptic(said.segment_ids[:-1], said.segments)
            return Panoptic(
                said.segment_ids, tuple(Segment(s.id, "x", True, np.nan) for s in said.segments)
            )

    taught(Odd)
    save(tmp_path / "a.png", picture())
    with pytest.raises(
        DataError, match=r"nothing of .* could be labelled: halves, view 0: expected"
    ):
        annotate(tmp_path / "a.png", tmp_path / "out", config(**ALONE))
    assert not list((tmp_path / "out").glob("staged/*"))
    taught(Halves)  # nothing was lost: the same command goes on
    assert len(annotate(tmp_path / "a.png", tmp_path / "out", config(**ALONE)).records) == 1


def test_a_full_disk_stops_everything_and_loses_nothing(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(StorageError, match="MB are free, and least_free_mb asks for 999999999"):
        annotate(truth, out, config(write=[], least_free_mb=999999999))
    real, calls = labelling.stage_labels, []

    def full(*args: object, **keys: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise StorageError(f"{out} cannot be written: No space left on device")
        return real(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(labelling, "stage_labels", full)
    with pytest.raises(StorageError, match="No space left"):
        annotate(truth, out, config(write=[]))
    (done,) = (out / "items").glob("*.json")
    before = done.stat().st_mtime_ns
    assert len(annotate(truth, out, config(write=[])).records) == 2
    assert len(calls) == 3 and done.stat().st_mtime_ns == before


def test_on_a_disk_that_is_full_while_it_writes_nothing_is_lost(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of 4 MB, filled to its last byte: once before a file is staged, once before all are
    packed.
    """
    with small_disk(tmp_path / "disk", 4) as disk:
        out, ballast = disk / "out", disk / "ballast"
        real = labelling.require_space

        def then_full(place: Path, least_mb: int) -> None:
            real(place, least_mb)
            if list(place.glob("items/*.json")):
                fill(ballast)

        with monkeypatch.context() as patched:
            patched.setattr(labelling, "require_space", then_full)
            with pytest.raises(StorageError, match="the disk is full: free some space"):
                annotate(truth, out, config(write=[]))
        (done,) = (out / "items").glob("*.json")
        before = done.stat().st_mtime_ns
        assert ballast.exists() and not (out / "dataset").exists()
        ballast.unlink()

        def filled_at_the_end(label: Label, tasks: Sequence[FileTask], on_done: Callable) -> None:
            run_here(label, tasks, on_done)
            fill(ballast)

        with pytest.raises(StorageError, match="the disk is full: free some space"):
            annotate(truth, out, config(write=[]), filled_at_the_end)
        ballast.unlink()
        times = {path: path.stat().st_mtime_ns for path in (out / "items").glob("*.json")}
        assert len(times) == 2 and times[done] == before
        assert len(annotate(truth, out, config(write=[])).records) == 2
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        assert not verify(out / "dataset").faults


def test_faces_are_unreadable_in_what_is_written_and_nothing_else_is(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    taught(Halves)
    rgb = picture()
    face = rgb.min(axis=2) > 200
    rgb[face] -= np.random.default_rng(1).integers(0, 40, (int(face.sum()), 3)).astype(np.uint8)
    save(tmp_path / "a.png", rgb)
    hide = {"classes": ["face"], "teachers": [{"kind": "truth"}]}
    written = {}
    for name, keys in (("plain", {}), ("hidden", {"hide": hide})):
        annotate(tmp_path / "a.png", tmp_path / name, config(**ALONE, **keys))
        written[name] = Dataset.open(tmp_path / name / "dataset")[0].read("rgb").astype(int)
    step = {k: np.abs(np.diff(v, axis=0))[22:30, 2:14].mean() for k, v in written.items()}
    assert step["hidden"] < 0.5 * step["plain"]
    away = np.abs(written["plain"] - written["hidden"])[:, 40:90]
    assert not away.any()


@pytest.mark.real
def test_sam2_itself_proposes_refines_and_carries_along(tmp_path: Path) -> None:
    """Random weights, real classes: what they say is nothing to keep, and nothing of it fails."""
    model = {"size": "micro", "image_size": 128, "checkpoint": "random"}
    sam2 = {"kind": "sam2", "model": model, "points_per_side": 2}
    keys = {"entities": [sam2], "follow": {"kind": "sam2", "model": model}, "write": []}
    truth = dataset_of_videos(tmp_path / "videos", scenes=1, frames=3)
    (record,) = annotate(truth, tmp_path / "out", config(**keys)).records
    assert record.frames == 3 and record.objects >= 3 and record.seconds["propagation"] > 0
    said = record.changes["initial"]
    assert said.get("refined", 0) + said.get("kept", 0) == said["begun"] == 3
    notes = Dataset.open(tmp_path / "out" / "dataset")[0].meta.notes
    assert any(note.startswith("teacher sam2, ") for note in notes)
    assert any(note.startswith("carried along by SAM2.1 micro at 128², random") for note in notes)
    assert "A model has random weights" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_as_a_video_is_hidden_on_every_frame_and_in_what_lies_beside_it(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    taught(Halves)
    rgb, turn = picture(), 9
    face = rgb.min(axis=2) > 200
    rgb[face] -= np.random.default_rng(1).integers(0, 40, (int(face.sum()), 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for k in range(2):
        save(tmp_path / "in" / f"{k}.png", np.roll(rgb, turn * k, axis=1))
    hide = {"classes": ["Face"], "teachers": [{"kind": "truth"}]}

    def roughness(pictures: Sequence[np.ndarray]) -> list[float]:
        """Of the face on each frame."""
        still = [np.roll(one.astype(int), -turn * k, axis=1) for k, one in enumerate(pictures)]
        return [float(np.abs(np.diff(one, axis=0))[22:30, 2:14].mean()) for one in still]

    found: dict[str, dict[str, list[float]]] = {}
    for name, keys in (("plain", {}), ("hidden", {"hide": hide})):
        wanted = {**ALONE, "write": ["labelme", "coco"], "video": True, "fps": 30.0, **keys}
        out = tmp_path / name
        annotate(tmp_path / "in", out, config(**wanted))
        dataset = Dataset.open(out / "dataset")
        (video,) = dataset.videos["video"].to_pylist()
        assert (dataset.video(video).meta.frames, dataset.video(video).meta.fps) == (2, 30)
        shown = {"dataset": [dataset.by_key(key).read("rgb") for key in sorted(dataset.keys)]}
        for to in ("labelme", "coco"):
            files = sorted(
                path for path in (out / to).rglob("*") if path.suffix in (".jpg", ".png")
            )
            assert len(files) == 2
            shown[to] = [cv2.imread(str(path)) for path in files]
        found[name] = {place: roughness(pictures) for place, pictures in shown.items()}
    for place, rough in found["plain"].items():
        assert all(h < 0.5 * p for h, p in zip(found["hidden"][place], rough, strict=True)), place


class Quarrels(Halves):
    """No two of them say the same."""

    count = 0

    def __init__(self) -> None:
        Quarrels.count += 1
        self.word = ("wall", "chair")[Quarrels.count % 2]
        self.name = self.word

    def panoptic(self, view: ViewImage) -> Panoptic:
        ids = np.ones((view.height, view.width), np.int32)
        return Panoptic(ids, (Segment(1, self.word, True, 0.9),))


TWO = [{"kind": "truth", "name": "b"}, {"kind": "truth", "name": "c"}]


def test_what_the_checker_says_is_the_label_with_where_it_comes_from(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    taught(Quarrels)
    save(tmp_path / "a.png", picture())
    text = json.dumps({"label": "couch", "comment": "or a bed"})
    with server(lambda asked: {"choices": [{"message": {"content": text}}]}) as said:
        keys = {**ALONE, "panoptic": TWO, "checker": {"address": said.address, "model": "looks"}}
        found = annotate(tmp_path / "a.png", tmp_path / "out", config(**keys))
    (record,) = found.records
    assert record.asked == record.answered == len(said.asked) >= 1
    shown = said.asked[0]["messages"][0]["content"][0]["text"]
    assert "wall (wall)" in shown and "chair (chair)" in shown
    things = Dataset.open(tmp_path / "out" / "dataset")[0].meta.instances
    assert {(row.category, row.source_object) for row in things} == {("sofa", "model: looks")}
    whys = {one.kind: one.why for one in found.revise}
    assert whys["comment"] == "or a bed"
    assert whys["label"] == "taken is sofa (model: looks), teachers say chair, wall"
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{record.asked}, answered {record.answered}" in page and "or a bed" in page
    coverage = percent(record.coverage[0])
    rows = [row for row in page.split("<tr") if ">a.png<" in row]
    assert any(row.count(f">{coverage}<") == 2 for row in rows)  # its mean, and its lowest


def test_a_checker_that_is_down_is_gone_on_without_and_it_is_said(
    tmp_path: Path, taught: Callable[[type], None]
) -> None:
    taught(Quarrels)
    save(tmp_path / "a.png", picture())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"  # bound, and nobody listens
        keys = {**ALONE, "panoptic": TWO, "checker": {"address": address, "timeout_s": 2}}
        found = annotate(tmp_path / "a.png", tmp_path / "out", config(**keys))
    (record,) = found.records
    assert record.asked >= 1 and record.answered == 0 and address in record.checker_failure
    meta = Dataset.open(tmp_path / "out" / "dataset")[0].meta
    assert {row.category for row in meta.instances} == {"unknown"}
    assert "The checker did not answer" in (tmp_path / "out" / "report.html").read_text()
    assert any(one.kind == "label" for one in found.revise)


def test_files_with_one_name_but_for_its_ending_have_keys_of_their_own(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    film(tmp_path / "a.mp4", 2)
    found = items_of(tmp_path)
    assert sorted(one.name for one in found) == ["a.mp4", "a.png"]
    assert len({one.scene for one in found}) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        items_of(tmp_path / "empty")


@pytest.mark.ray
def test_two_ray_workers_write_the_same_labels(
    truth: Path, tmp_path: Path, whole: tuple[Path, AnnotateSummary]
) -> None:
    from panoforge.cluster.config.labelling import AnnotateJobConfig
    from panoforge.stages import annotate_stage

    job = AnnotateJobConfig(annotate=config(write=[]), run=tmp_path / "out", workers=2)
    annotate_stage(job, truth)
    one, two = Dataset.open(whole[0] / "dataset"), Dataset.open(tmp_path / "out" / "dataset")
    assert one.keys == two.keys
    for key in one.keys:
        ours, theirs = (d.by_key(key, ("instance",)).read("instance") for d in (one, two))
        assert np.array_equal(ours, theirs)
