"""`pano pseudolabel`: panoramas → teachers → samples of our format, with confidence and origin."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from answering import server
from kills import killed_and_given_again
from pydantic import ValidationError
from train_small import small_dense

from bench import round_room
from panoforge.cli import main
from panoforge.core.categories.table import Categories
from panoforge.core.errors import ConfigError, DataError
from panoforge.core.export import ExportOptions, export
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged
from panoforge.label.pseudo import run
from panoforge.label.pseudo.config import PseudolabelConfig
from panoforge.label.pseudo.run import PseudoSummary, pseudolabel
from panoforge.label.teachers.truth import TruthTeacher, to_world_frame
from panoforge.train.data.dense_source import PanoramaSource

WIDTH, HEIGHT = 256, 128
ROOM = round_room.truth(WIDTH)
TURN = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # the camera looks elsewhere
COLOURS = np.random.default_rng(0).integers(40, 255, (32, 3)).astype(np.uint8)
VIEWS = {"kind": "scan", "size_px": 128}
TRUTH: dict[str, Any] = {
    role: {"kind": "truth"} for role in ("depth", "normals", "classes", "panoptic")
} | {"views": VIEWS}


def stage(folder: Path, scene: int) -> None:
    pose = Pose(position_m=(1.0, 2.0, 1.5), yaw_deg=90.0, world_from_pano=TURN)
    arrays = {
        "rgb.png": COLOURS[ROOM.labels],
        "instance.zst": ROOM.labels,
        "depth.delta.zst": ROOM.depth_m,
        "normal.oct.zst": to_world_frame(ROOM.normals, pose),
    }
    names = {
        id_: InstanceLabel(
            f"{one.class_name} {id_}", one.class_name, "", () if one.is_thing else ("structure",)
        )
        for id_, one in ROOM.things.items()
    }
    meta = SampleMeta(
        key=f"room-{scene:03d}-c0", width=WIDTH, height=HEIGHT, source="bench/round_room",
        scene=f"room-{scene:03d}", seed=scene, camera=0, pose=pose,
        products=tuple(sorted(arrays)), instances=instance_table(ROOM.labels, names),
        config_sha256="0" * 64, versions={"panoforge": "test"},
    )  # fmt: skip
    write_staged(folder, meta, arrays)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the same room twice."""
    folder = tmp_path_factory.mktemp("rooms")
    for scene in range(2):
        stage(folder / "staged", scene)
    pack(folder / "staged", folder / "dataset", PackOptions())
    return folder / "dataset"


def config(**changes: Any) -> PseudolabelConfig:
    return PseudolabelConfig.model_validate({**TRUTH, **changes})


@pytest.fixture(scope="module")
def labelled(
    rooms: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PseudoSummary, Sample]:
    out = tmp_path_factory.mktemp("out")
    noisy = {"kind": "noisy_truth", "noise": {"depth_scale": 2.0, "depth_shift": 0.1}}
    summary = pseudolabel(rooms, out, config(depth=noisy))
    return out, summary, Dataset.open(out / "dataset")[0]


def test_depth_normals_and_classes_are_those_of_the_truth(
    labelled: tuple[Path, PseudoSummary, Sample],
) -> None:
    """Through views that each have their own scale and shift of depth, in the world's frame."""
    _, _, sample = labelled
    ratio = sample.read("depth") / ROOM.depth_m
    assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.01
    true = to_world_frame(ROOM.normals, sample.meta.pose)
    dot = np.clip((sample.read("normal").astype(float) * true).sum(axis=-1), -1, 1)
    assert np.degrees(np.arccos(dot)).mean() < 1.5
    assert sample.meta.pose.world_from_pano == TURN
    known = Categories.load().by_name
    wanted = np.zeros(32, np.uint16)
    for id_, thing in ROOM.things.items():
        wanted[id_] = known[thing.class_name].id
    assert (sample.read("semantic") == wanted[ROOM.labels]).mean() > 0.99
    ids = sample.read("instance")
    for id_ in range(7, 12):
        own = np.bincount(ids[ROOM.labels == id_]).argmax()
        row = next(one for one in sample.meta.instances if one.id == own)
        assert row.category == ROOM.things[id_].class_name and "structure" not in row.flags
        assert ((ids == own) == (ROOM.labels == id_)).mean() > 0.995


def test_confidence_and_origin_are_recorded(labelled: tuple[Path, PseudoSummary, Sample]) -> None:
    _, summary, sample = labelled
    assert set(sample.meta.products) == {
        "rgb.jpg", "instance.zst", "depth.delta.zst", "normal.oct.zst", "semantic.zst",
        *(f"{name}_confidence.zst" for name in ("depth", "normal", "semantic", "instance")),
    }  # fmt: skip
    for name in ("depth", "normal", "semantic", "instance"):
        values = sample.read(f"{name}_confidence")
        assert values.dtype == np.uint8 and values.mean() > 200
    edges = np.zeros(ROOM.labels.shape, bool)
    edges[:, 1:] = ROOM.labels[:, 1:] != ROOM.labels[:, :-1]
    sure = sample.read("semantic_confidence")
    assert sure[edges].mean() < sure[~edges].mean() - 5  # views differ at borders, half a pixel
    notes = "\n".join(sample.meta.notes)
    assert "labels of teachers, not of a person" in notes and "24 views agree" in notes
    for role in ("depth", "normals", "classes", "panoptic"):
        assert f"{role}: teacher" in notes
    assert notes.count("sha256 ") == 4
    assert TruthTeacher(lambda key: ROOM).digest in notes
    assert summary.records[0].confidence["depth"] > 0.9 and not summary.failures


def test_the_dataset_is_one_of_ours(
    labelled: tuple[Path, PseudoSummary, Sample], tmp_path: Path
) -> None:
    out, _, _ = labelled
    assert not verify(out / "dataset").faults
    export(Dataset.open(out / "dataset"), "coco", tmp_path / "coco", ExportOptions())
    coco = json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())
    assert len(coco["images"]) == 2 and len(coco["annotations"]) > 10
    with pytest.raises(SystemExit) as end:
        main(["stats", str(out / "dataset"), "--out", str(tmp_path / "stats")])
    assert not end.value.code and list((tmp_path / "stats").glob("*.html"))


def test_dense_training_learns_from_it_as_from_truth(
    labelled: tuple[Path, PseudoSummary, Sample], rooms: Path
) -> None:
    """The same places of a batch: depth up to one scale, normals and classes of the truth."""
    out, _, _ = labelled
    teachers = {"dataset": str(out / "dataset"), "depth_supervision": "solved"}
    mixture = {"truth": {"weight": 1}, "teachers": {"weight": 1, **teachers}}
    augment = {"turn": False, "mirror": 0.0, "colour_jitter": 0.0, "grayscale": 0.0}
    model = {"height_px": 64, "classes": "nyu40"}
    asked = small_dense(model=model, mixture=mixture, augment=augment, loss={"scale_shift": True})
    source = PanoramaSource(Dataset.open(rooms), asked)
    of = {source.mixture.at(position)[0].name: position for position in range(2)}
    assert set(of) == {"truth", "teachers"}
    true, said = (source.batch((of[name],)) for name in ("truth", "teachers"))
    assert said.fit_depth.all()
    ratio = (said.depth_m / true.depth_m).numpy()
    assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.01 < abs(np.median(ratio) - 1)
    cosine = (said.normal * true.normal).sum(dim=1).clamp(-1, 1)
    assert np.degrees(np.arccos(cosine.numpy())).mean() < 1.5
    assert (said.semantic == true.semantic).float().mean() > 0.98
    assert len(true.semantic.unique()) > 3


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = run.pseudolabels
    monkeypatch.setattr(
        run, "pseudolabels", lambda rgb, key, *rest: (calls.append(key), real(rgb, key, *rest))[1]
    )
    return calls


def test_what_is_done_is_not_done_again_and_another_config_is(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted_calls(monkeypatch)
    small = {"normals": None, "classes": None, "panoptic": None}
    pseudolabel(rooms, tmp_path, config(**small))
    manifest = (tmp_path / "dataset" / "manifest.json").read_bytes()
    pseudolabel(rooms, tmp_path, config(**small))
    assert len(calls) == 2 and (tmp_path / "dataset" / "manifest.json").read_bytes() == manifest
    pseudolabel(rooms, tmp_path, config(**small, views={"kind": "cube", "size_px": 96}))
    assert len(calls) == 4
    record = next((tmp_path / "items").glob("*.json"))
    record.write_text("{}")
    pseudolabel(rooms, tmp_path, config(**small, views={"kind": "cube", "size_px": 96}))
    assert len(calls) == 5
    products = Dataset.open(tmp_path / "dataset")[0].meta.products
    assert set(products) == {"depth.delta.zst", "depth_confidence.zst", "instance.zst", "rgb.jpg"}


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    noise = np.random.default_rng(1).integers(0, 256, (8, 16, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    return path


def plain(question: dict[str, Any]) -> dict[str, Any]:
    """Depth of 3 along rays, and one chair, for any view."""
    size = question["height"], question["width"]
    depth = np.full(size, 3, "<f4").tobytes()
    ids = np.ones(size, "<u2").tobytes()
    chair = {"id": 1, "class": "chair", "thing": True, "confidence": 0.5}
    return {
        "dense": {"depth": base64.b64encode(depth).decode(), "along": "ray",
                  "scores": base64.b64encode(depth).decode(), "classes": ["Chair"]},
        "panoptic": {"ids": base64.b64encode(ids).decode(), "segments": [chair]},
    }  # fmt: skip


def http(address: str, *roles: str, **changes: Any) -> PseudolabelConfig:
    asked = {role: {"kind": "http", "address": address} for role in roles}
    return PseudolabelConfig.model_validate({**asked, "views": VIEWS, **changes})


def test_bad_pictures_stop_no_other(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture(photos / "good.png")
    picture(photos / "narrow.png", 200, 128)
    (photos / "damaged.png").write_bytes((photos / "good.png").read_bytes()[:200])
    with server(plain) as said:
        summary = pseudolabel(photos, tmp_path / "out", http(said.address, "depth", "classes"))
        assert len(said.asked) == 24  # a view is shown once, for both
    assert [record.name for record in summary.records] == ["good.png"]
    assert set(summary.failures) == {"narrow.png", "damaged.png"}
    assert "200×128" in summary.failures["narrow.png"]
    (sample,) = (Dataset.open(tmp_path / "out" / "dataset")[k] for k in range(1))
    assert np.allclose(sample.read("depth"), 3, rtol=1e-3)
    assert not sample.meta.instances and not sample.read("instance").any()
    assert set(np.unique(sample.read("semantic"))) == {Categories.load().by_name["chair"].id}
    confidence = sample.read("semantic_confidence")
    assert abs(float(confidence.mean()) / 255 - 1) < 0.6


def test_outside_of_a_partial_sphere_nothing_is_said(
    tmp_path: Path, gpano_jpeg: Callable[[Path], tuple[Path, np.ndarray]]
) -> None:
    path, seen = gpano_jpeg(tmp_path / "part.jpg")
    with server(plain) as said:
        pseudolabel(path, tmp_path / "out", http(said.address, "depth", "classes", "panoptic"))
        assert 0 < len(said.asked) < 48  # views that see nothing of it are not shown
    sample = Dataset.open(tmp_path / "out" / "dataset")[0]
    assert np.array_equal(np.isfinite(sample.read("depth")), seen)
    assert not sample.read("semantic")[~seen].any() and sample.read("semantic")[seen].all()
    assert not sample.read("instance")[~seen].any()
    for name in ("depth", "semantic", "instance"):
        assert not sample.read(f"{name}_confidence")[~seen].any()
        assert sample.read(f"{name}_confidence")[seen].mean() > 50


@pytest.fixture
def gpano_jpeg() -> Callable[[Path], tuple[Path, np.ndarray]]:
    """Writes a crop of 128×64 of a panorama of 256×128, 40 columns and 32 rows in, with tags."""

    def write(path: Path) -> tuple[Path, np.ndarray]:
        tags = {"ProjectionType": "equirectangular", "CroppedAreaImageWidthPixels": 128,
                "CroppedAreaImageHeightPixels": 64, "FullPanoWidthPixels": 256,
                "FullPanoHeightPixels": 128, "CroppedAreaLeftPixels": 40,
                "CroppedAreaTopPixels": 32}  # fmt: skip
        said = " ".join(f'GPano:{key}="{value}"' for key, value in tags.items())
        packet = (
            b"http://ns.adobe.com/xap/1.0/\x00"
            + (
                '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description'
                f' xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {said}/></x:xmpmeta>'
            ).encode()
        )
        plain_file = picture(path.with_name("plain.jpg"), 128, 64)
        data = plain_file.read_bytes()
        plain_file.unlink()
        head = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
        path.write_bytes(data[:2] + head + data[2:])
        seen = np.zeros((128, 256), bool)
        seen[32:96, 40:168] = True
        return path, seen

    return write


def test_a_teacher_that_answers_wrongly_is_said_and_a_later_run_goes_on(tmp_path: Path) -> None:
    path = picture(tmp_path / "one.png")
    with server(lambda question: {"dense": {"depth": "AAAA"}}) as said:
        wanted = http(said.address, "depth")
        with pytest.raises(DataError, match=r"nothing of .* could be labelled: http: depth is 3 b"):
            pseudolabel(path, tmp_path / "out", wanted)
        said.answer = plain
        assert len(pseudolabel(path, tmp_path / "out", wanted).records) == 1
    silent = {"dense": {}}
    with (
        server(lambda question: silent) as said,
        pytest.raises(DataError, match=r"it was asked for depth and says nothing of it"),
    ):
        pseudolabel(path, tmp_path / "other", http(said.address, "depth"))


def test_words_that_nobody_knows_are_nothing(tmp_path: Path) -> None:
    path = picture(tmp_path / "one.png")

    def strange(question: dict[str, Any]) -> dict[str, Any]:
        answer = plain(question)
        answer["panoptic"]["segments"][0]["class"] = "flux capacitor"
        answer["dense"]["classes"] = ["flux capacitor"]
        return answer

    with server(strange) as said:
        pseudolabel(path, tmp_path / "out", http(said.address, "classes", "panoptic"))
    sample = Dataset.open(tmp_path / "out" / "dataset")[0]
    assert not sample.read("semantic").any()
    assert {one.category for one in sample.meta.instances} == {"unknown:flux capacitor"}


def test_a_vocabulary_without_categories_has_no_semantics(tmp_path: Path, rooms: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sofa: {thing: true}\ngizmo: {thing: true}\n")
    with pytest.raises(ConfigError, match=r"'gizmo' is no category .* add `category: NAME`"):
        pseudolabel(rooms, tmp_path / "out", config(vocabulary=str(file)))
    file.write_text("couch: {thing: true, words: [sofa], category: sofa}\n")
    pseudolabel(rooms, tmp_path / "out", config(vocabulary=str(file), depth=None, normals=None))
    sample = Dataset.open(tmp_path / "out" / "dataset")[0]
    sofa = Categories.load().by_name["sofa"].id
    assert set(np.unique(sample.read("semantic"))) == {0, sofa}
    assert "couch" in {one.category for one in sample.meta.instances}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": ({}, "no teacher is named"),
    "no depth of it": ({"depth": {"kind": "sam2"}}, "says nothing of it"),
    "no folder": ({"depth": {"kind": "depth"}}, "needs folder"),
    "a folder too many": ({"depth": {"kind": "truth", "folder": "x"}}, "folder is of teachers"),
    "no address": ({"depth": {"kind": "http"}}, "needs address"),
    "no words": ({"panoptic": {"kind": "sam3", "folder": "x"}}, "needs words"),
    "slices": ({"depth": {"kind": "truth"}, "views": {"kind": "slices"}}, "need views with a cam"),
    "another key": ({"depth": {"kind": "truth"}, "view": {}}, "Extra inputs"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_config_that_cannot_work_is_refused(case: str) -> None:
    given, said = BAD[case]
    with pytest.raises(ValidationError, match=said):
        PseudolabelConfig.model_validate(given)


def test_truth_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"truth reads the labels of a dataset of ours, and"):
        pseudolabel(picture(tmp_path / "one.png"), tmp_path / "out", config())


def test_the_command_says_what_was_done_and_the_shipped_config_is_read(
    rooms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["depth.kind=truth", "views.kind=cube", "views.size_px=64"]
    with pytest.raises(SystemExit) as end:
        main(["pseudolabel", str(rooms), *words, "--out", str(tmp_path / "out")])
    assert not end.value.code
    printed = capfd.readouterr().out
    assert "6 views, confidence depth " in printed and str(tmp_path / "out/dataset") in printed
    shipped = Path(__file__).parents[2] / "configs" / "label" / "pseudolabel.yaml"
    with pytest.raises(SystemExit) as end:
        main(["pseudolabel", str(rooms), "--config", str(shipped), "--out", str(tmp_path / "b")])
    assert end.value.code == 1 and "config.json" in capfd.readouterr().err


@pytest.mark.real
def test_after_kill_9_the_same_command_goes_on(rooms: Path, tmp_path: Path) -> None:
    words = ("depth.kind=truth", "normals.kind=truth")
    killed_and_given_again(tmp_path / "out", "pseudolabel", str(rooms), *words)


@pytest.mark.ray
def test_two_ray_workers_write_the_same_bytes_and_go_on_where_others_ended(
    rooms: Path, tmp_path: Path
) -> None:
    from panoforge.cluster.config.labelling import PseudolabelJobConfig
    from panoforge.stages import pseudolabel_stage

    small = config(normals=None, panoptic=None, views={"kind": "cube", "size_px": 96})
    pseudolabel(rooms, tmp_path / "one", small)
    job = PseudolabelJobConfig(pseudolabel=small, run=tmp_path / "two", workers=2)
    summary = pseudolabel_stage(job, rooms)
    assert len(summary.records) == 2 and not summary.failures
    one, two = (Dataset.open(tmp_path / name / "dataset") for name in ("one", "two"))
    assert one.keys == two.keys
    for ours, theirs in zip(one, two, strict=True):
        products = set(ours.meta.products)
        assert {"depth.delta.zst", "semantic.zst"} <= products == set(theirs.meta.products)
        for name in products:
            assert ours.members[name] == theirs.members[name]
        assert said(ours) == said(theirs)
    kept, lost = sorted((tmp_path / "two" / "items").glob("*.json"))
    lost.unlink()
    before = kept.stat().st_mtime_ns
    pseudolabel_stage(job, rooms)
    assert kept.stat().st_mtime_ns == before and lost.exists()


def said(sample: Sample) -> dict[str, Any]:
    """What a sample says of itself, but for how long it took."""
    return sample.meta.model_dump(exclude={"timings_s", "cpu_s"})
