"""Hostile pictures through the verbs that take pictures: `segment`, `eval`, `train` and `serve`, as
real processes. Each is refused in one line, by its exit code, without a gigabyte and without long
work; the server goes on serving.
"""

import json
import signal
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from annotating import Annotator, Process, Refusal
from hostile_pictures import PICTURES, plain, png, zeros_png
from PIL import Image
from repository import ROOT
from verbs_in_a_child import run_verbs

MOST_BYTES, MOST_SECONDS = 700 << 20, 10  # more than for a good picture: 16K as RGB is 400 MB
GEOMETRY = ROOT / "configs" / "eval" / "geometry.yaml"
BOX = {"segmentation": [[8, 8, 40, 8, 40, 24, 8, 24]], "iscrowd": 0, "category_id": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile pictures, a good one, and an id map of its size."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, make in PICTURES.items():
        (folder / name).write_bytes(make())
    (folder / "good.png").write_bytes(plain("PNG"))
    Image.fromarray(np.ones((32, 64), np.uint8)).save(folder / "ids.png")
    return folder


def coco(root: Path, picture: Path) -> Path:
    """A COCO folder with that picture and an object in it."""
    (root / "images").mkdir(parents=True)
    (root / "images" / picture.name).write_bytes(picture.read_bytes())
    content = {
        "images": [{"id": 1, "file_name": picture.name}],
        "annotations": [{"id": 1, "image_id": 1, **BOX}],
        "categories": [{"id": 1, "name": "box"}],
    }
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def evaluation(root: Path) -> list[str]:
    keys = ["benchmark=folder", f"root={root}", f"run={root}/run", "methods=[direct]"]
    return ["eval", str(GEOMETRY), *keys, "instances.min_pixels=1"]


def check(verbs: dict[str, list[str]], wanted: dict[str, str]) -> None:
    """The first verb is of what is good; each other ends with 1 and one line that has `wanted`."""
    ended = run_verbs(list(verbs.values()), timeout_s=280)
    assert ended.codes == [0, *[1] * (len(verbs) - 1)], ended.stderr
    assert "Traceback" not in ended.stderr
    grown = [peak - ended.peaks_bytes[0] for peak in ended.peaks_bytes]
    assert max(grown) < MOST_BYTES, dict(zip(verbs, grown, strict=True))
    for name, told, seconds in list(zip(verbs, ended.told, ended.seconds, strict=True))[1:]:
        line = told.splitlines()[-1]
        assert line.startswith("error: ") and wanted[name] in line, (name, told)
        assert told.count("error: ") == 1 and seconds < MOST_SECONDS, (name, told, seconds)


@pytest.mark.timeout(300)
def test_segment_refuses_each_in_one_line(folder: Path, tmp_path: Path) -> None:
    def words(name: str) -> list[str]:
        labels = ["--predictor", "truth", "--labels", str(folder / "ids.png")]
        return ["segment", str(folder / name), "--click", "0,0", *labels, "--out", str(tmp_path)]

    verbs = {"good.png": [*words("good.png"), "--method", "direct"]}
    verbs |= {name: words(name) for name in PICTURES}
    check(verbs, {name: name for name in PICTURES})
    assert {path.name for path in tmp_path.iterdir()} == {
        "good.mask.png", "good.overlay.jpg", "good.coco.json",
    }  # fmt: skip


@pytest.mark.timeout(300)
def test_predict_refuses_each_before_it_reads_a_model(folder: Path, tmp_path: Path) -> None:
    def words(name: str) -> list[str]:
        model = ["--checkpoint", str(tmp_path / "no-model.pt")]
        return ["predict", str(folder / name), *model, "--out", str(tmp_path / "out")]

    labels = ["--predictor", "truth", "--labels", str(folder / "ids.png"), "--method", "direct"]
    good = ["segment", str(folder / "good.png"), "--click", "0,0", *labels]
    verbs = {"good.png": [*good, "--out", str(tmp_path)]}
    verbs |= {name: words(name) for name in PICTURES}
    check(verbs, {name: name for name in PICTURES})
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(300)
def test_eval_refuses_a_folder_with_such_a_picture(folder: Path, tmp_path: Path) -> None:
    """The pictures of a COCO folder, and id maps that are bombs or of another size."""
    names = {"good.png": folder / "good.png", **{name: folder / name for name in PICTURES}}
    verbs = {name: evaluation(coco(tmp_path / name, path)) for name, path in names.items()}
    wanted = {name: name.partition(".")[0] for name in PICTURES}  # files, or panoramas by key
    masks = {
        "deep colours": (png(16384, 8192, (None, b"IDAT", b""), (None, b"IEND", b""), bits=16),
                         "save them as grey of 16 bits"),
        "16K": (zeros_png(16384, 8192, 0, 1), "its id map"),
        "a lying chunk": (PICTURES["chunk.png"](), "claims 2000000000 bytes"),
    }  # fmt: skip
    for name, (data, said) in masks.items():
        for part, content in {"images": plain("PNG"), "masks": data}.items():
            (tmp_path / name / part).mkdir(parents=True)
            (tmp_path / name / part / "a.png").write_bytes(content)
        verbs[name], wanted[name] = evaluation(tmp_path / name), said
    check(verbs, wanted)


@pytest.mark.timeout(300)
def test_a_coco_file_of_many_large_objects_keeps_one_in_the_memory(tmp_path: Path) -> None:
    """A few kilobytes that ask for 120 masks of 5 million pixels: 570 MB at once."""
    Image.fromarray(np.zeros((1536, 3072, 3), np.uint8)).save(tmp_path / "large.png")
    good = coco(tmp_path / "one", tmp_path / "large.png")
    many = coco(tmp_path / "many", tmp_path / "large.png")
    runs = {"size": [1536, 3072], "counts": [0, 1536 * 3072]}
    for root, objects in ((good, 1), (many, 120)):
        content = json.loads((root / "annotations.json").read_text())
        content["annotations"] = [
            {"id": k, "image_id": 1, "category_id": 1, "segmentation": runs, "iscrowd": 0}
            for k in range(objects)
        ]
        (root / "annotations.json").write_text(json.dumps(content))
    ended = run_verbs([evaluation(root) for root in (good, many)])
    assert ended.codes == [0, 0], ended.stderr
    assert ended.peaks_bytes[1] - ended.peaks_bytes[0] < 300 << 20


def most_memory(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.mark.timeout(300)
def test_serve_refuses_each_and_goes_on(folder: Path, tmp_path: Path) -> None:
    """In a served folder and as what is dropped onto the page: a line, and the server lives."""
    place = tmp_path / "place"
    place.mkdir()
    stems = {f"{k}-{name}": folder / name for k, name in enumerate(PICTURES)}
    for name, path in [*stems.items(), ("good.png", folder / "good.png")]:
        (place / name).write_bytes(path.read_bytes())
    server = Process(place, "--work", str(tmp_path / "work"))
    try:
        ann = Annotator(server.port)
        assert ann.look(ann.picture("good.png"))["version"] == 0
        before = most_memory(server.process.pid)
        for name, path in stems.items():
            with pytest.raises(Refusal) as told:
                ann.look(ann.picture(name))
            assert told.value.status == 400 and path.name in told.value.answer["error"]
            query = f"session={ann.session}&name={quote(path.name)}"
            with pytest.raises(Refusal) as told:
                ann.raw("POST", f"/api/upload?{query}", path.read_bytes())
            assert told.value.status in (400, 411), path.name  # an empty body has no length
            assert "\n" not in told.value.answer["error"]
        assert most_memory(server.process.pid) - before < MOST_BYTES
        ann.edit(ann.picture("good.png"), "brush", points=[[0, 0]], radius_deg=20)
        server.process.send_signal(signal.SIGINT)
        assert "Traceback" not in server.process.communicate(timeout=60)[1]
    finally:
        server.kill()
