"""What answers on the page: SAM2 as `pano segment` has it, ground truth, edges; within bounds."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
import yaml
from annotating import Annotator, Refusal, serving

from panoforge.core.errors import DataError, UsageError
from panoforge.core.sample.products import encode_product
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.interactive.segment_image import load_predictor, segment_image
from panoforge.eval.interactive.serve import predictors as ready
from panoforge.eval.interactive.serve.edits import Wanted
from panoforge.eval.interactive.serve.objects import Clicked
from panoforge.eval.interactive.serve.opening import DEMO_CHECKPOINT, Asked, opened, predictors_of
from panoforge.eval.interactive.serve.worker import Cancel, Cancelling
from panoforge.eval.predictors.load import load_model
from panoforge.eval.segmentation.prompts import click_instances
from panoforge.train.model.checkpoint_export import export_official

WIDTH, HEIGHT = 256, 128
SCAN = ("scan.size_px=64", "device=cpu")
MODEL = (
    "model.size=tiny",
    "model.image_size=64",
    "scan.overlap=0.0",
    "scan.fov_deg=120",
    "device=cpu",
)
ROOT = Path(__file__).parents[3]
DEMO = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())["train"]["model"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    rgb, labels = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    path = tmp_path_factory.mktemp("room") / "my room.png"
    path.write_bytes(encode_product("rgb.png", rgb))
    return path, labels


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    model = {"size": "tiny", "image_size": 64}
    config = EvalConfig.model_validate({"model": model, "device": "cpu", "seed": 3})
    state = load_model(config).model.state_dict()
    return export_official(tmp_path_factory.mktemp("weights") / "tiny.pt", state, step=0)


def test_a_click_on_the_page_is_a_click_of_pano_segment(
    room: tuple[Path, np.ndarray], checkpoint: Path, tmp_path: Path
) -> None:
    """With a real (small, untrained) SAM2: the same mask, to the bit, and the same clicks."""
    asked = Asked(room[0], tmp_path / "work", checkpoint=checkpoint, overrides=MODEL, method="scan")
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        picture = ann.picture("my room.png")
        ann.edit(picture, "click", lon_deg=-20, lat_deg=10)
        ann.edit(picture, "click", object=1, lon_deg=40, lat_deg=-5, positive=False)
        ann.edit(picture, "box", corners=[[-30, 20], [10, 20], [10, -20], [-30, -20]])
        (tmp_path / "page.json").write_bytes(ann.save(picture, "coco.json"))
        ann.edit(picture, "delete", objects=[2])
        (tmp_path / "page.png").write_bytes(ann.save(picture, "mask.png"))
    again = load_predictor("sam2", checkpoint, "scan", MODEL)
    clicks = [SphereClick(-20, 10), SphereClick(40, -5, positive=False)]
    mask, _, coco = segment_image(room[0], clicks, lambda: again, tmp_path / "again")
    assert mask.read_bytes() == (tmp_path / "page.png").read_bytes()
    ours, theirs = (
        json.loads(path.read_text())["annotations"][0] for path in (tmp_path / "page.json", coco)
    )
    for key in ("segmentation", "clicks", "area", "bbox", "wrap_box"):
        assert ours[key] == theirs[key]


def test_the_demos_weights_answer_on_the_page(
    room: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found where `pano demo` leaves them, and asked as SAM2 with the demo's model is."""
    config = EvalConfig.model_validate({"model": DEMO, "device": "cpu", "seed": 3})
    state = load_model(config).model.state_dict()
    there = tmp_path / DEMO_CHECKPOINT
    there.parent.mkdir(parents=True)
    export_official(there, state, step=0)
    monkeypatch.chdir(tmp_path)
    words = tuple(f"model.{key}={value}" for key, value in DEMO.items())
    found = []
    for asked in (
        Asked(room[0], tmp_path / "demo", predictor="demo", overrides=("device=cpu",)),
        Asked(room[0], tmp_path / "sam2", checkpoint=there, overrides=(*words, "device=cpu")),
    ):
        with serving(asked) as server:
            ann = Annotator(server.server_port)
            page = json.loads(ann.raw("GET", f"/api/pictures?session={ann.session}")[1])
            picture = ann.picture("my room.png")
            state = ann.edit(picture, "click", lon_deg=-20, lat_deg=10)
            (one,) = state["objects"]
            found.append((page["predictor"], ann.mask(picture, one, WIDTH, HEIGHT)))
            assert one["pixels"] > 0 and len(one["clicks"]) == 1
    assert found[0][0] == found[1][0] and "model.pt" in found[0][0]
    assert np.array_equal(found[0][1], found[1][1])


def test_ground_truth_answers_clicks_and_boxes(
    room: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, labels = room
    (tmp_path / "ids.png").write_bytes(encode_product("instance.png", labels))
    asked = Asked(
        path, tmp_path / "w", predictor="truth", labels=tmp_path / "ids.png", overrides=SCAN
    )
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        picture = ann.picture("my room.png")
        click = click_instances(labels, [3])[0].clicks[0]
        state = ann.edit(picture, "click", lon_deg=click.lon_deg, lat_deg=click.lat_deg)
        mask, true = ann.mask(picture, state["objects"][0], WIDTH, HEIGHT), labels == 3
        assert (mask & true).sum() / (mask | true).sum() > 0.9
        lon, lat = click.lon_deg, click.lat_deg
        corners = [[lon - 8, lat + 8], [lon + 8, lat + 8], [lon + 8, lat - 8], [lon - 8, lat - 8]]
        state = ann.edit(picture, "box", corners=corners)
        assert np.array_equal(ann.mask(picture, state["objects"][1], WIDTH, HEIGHT), mask)
        v, u = np.argwhere(labels == 0)[0]
        before = ann.look(picture)
        with pytest.raises(Refusal, match="hold nothing at"):
            ann.edit(
                picture,
                "click",
                lon_deg=(u + 0.5) / WIDTH * 360 - 180,
                lat_deg=90 - (v + 0.5) / HEIGHT * 180,
            )
        assert ann.look(picture) == before


def test_getting_ready_is_bounded_and_can_be_taken_back(
    room: tuple[Path, np.ndarray], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, _ = synthetic.caps(np.random.default_rng(1), WIDTH, 3)
    predictors = predictors_of(Asked(checkpoint=checkpoint, overrides=MODEL, method="scan"))
    for name in "abcd":
        predictors.get_ready(name, lambda: (rgb.copy(), None), Cancel())
    assert all(map(predictors.is_ready, "abcd"))  # small pictures fit
    held = predictors._ready["d"][0].held_bytes()
    kept = predictors._ready["d"][0].predictor._kept
    features = [t for _, one in kept.values() for t in (*one.high_res, one.top, one.position)]
    pixels = 4 * (rgb.nbytes + 2 * WIDTH * HEIGHT)
    assert 4 * held > sum(one.nbytes for one in features) + pixels
    monkeypatch.setattr(ready, "MAX_READY_BYTES", int(2.5 * held))
    one = Wanted((Clicked(lon_deg=0, lat_deg=0),))
    predictors.answer("a", lambda: (rgb, None), one, Cancel())
    assert [predictors.is_ready(name) for name in "abcd"] == [True, False, False, True]
    frames = predictors._ready["d"][0].frames
    assert len(kept) == 2 * frames  # of both pictures, and of no other
    monkeypatch.setattr(ready, "MAX_READY_BYTES", 1)
    stop = Cancel()

    def open_() -> tuple[np.ndarray, None]:
        threading.Timer(0.0, stop.set).start()
        stop._event.wait(10)
        return rgb, None

    with pytest.raises(Cancelling):
        predictors.get_ready("e", open_, stop)
    assert not predictors.is_ready("e") and not predictors.progress
    assert predictors.answer("e", lambda: (rgb, None), one, Cancel()).shape == (HEIGHT, WIDTH)
    assert [predictors.is_ready(name) for name in "abcde"] == [False] * 4 + [True]  # the last stays


def test_twenty_people_click_on_pictures_of_their_own_without_encoding_anew(
    checkpoint: Path,
) -> None:
    """One view each: their second clicks cost no encoding."""
    rng = np.random.default_rng(1)
    pictures = {str(k): synthetic.caps(rng, WIDTH, 3)[0] for k in range(20)}
    predictors = predictors_of(Asked(checkpoint=checkpoint, overrides=MODEL))
    one = Wanted((Clicked(lon_deg=0, lat_deg=0),))
    encoded = []
    for _ in range(2):
        for name, rgb in pictures.items():
            predictors.answer(name, lambda rgb=rgb: (rgb, None), one, Cancel())
        sam2 = predictors._ready["0"][0]._predictor
        real, sam2.keep = sam2.keep, lambda frames: encoded.append(len(frames))
    sam2.keep = real
    assert not encoded and len(sam2._kept) == 20


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(predictor="magic"), "expected one of sam2, demo, truth, edges"),
        (Asked(predictor="sam2"), "SAM2 needs weights"),
        (Asked(predictor="edges", checkpoint=Path("x.pt")), "--checkpoint x.pt means nothing"),
        (Asked(overrides=("scan.overlap=0",)), "scan.overlap=0 means nothing"),
        (Asked(predictor="demo", checkpoint=Path("no.pt")), "run `pano demo` first"),
    ],
)
def test_words_that_fit_no_predictor_are_refused(asked: Asked, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        predictors_of(asked)


def test_places_that_hold_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for place, words in ((tmp_path, "holds no pictures"), (tmp_path / "no", "does not exist")):
        with pytest.raises(DataError, match=words), opened(Asked(place, tmp_path / "work")):
            pass
    ids = tmp_path / "ids.png"
    ids.write_bytes(encode_product("instance.png", np.ones((HEIGHT, WIDTH), np.uint16)))
    with (
        pytest.raises(UsageError, match="--labels are of one picture"),
        opened(Asked(tmp_path, tmp_path / "work", labels=ids)),
    ):
        pass


def test_a_dataset_is_annotated_with_its_own_truth(tmp_path: Path) -> None:
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=WIDTH)
    asked = Asked(dataset, tmp_path / "work", predictor="truth", overrides=SCAN)
    before = sorted(dataset.rglob("*"))
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        picture = ann.pictures()[0]["id"]
        state = ann.edit(picture, "click", lon_deg=179.9, lat_deg=11)  # the cap on the seam
        assert state["objects"][0]["pixels"] > 0
    assert sorted(dataset.rglob("*")) == before  # nothing is written there
