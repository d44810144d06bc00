"""SAM3 on the annotation page: a tiny random model of the real class, as when asked by hand."""

import threading
from pathlib import Path

import numpy as np
import pytest
import synthetic
import tiny_models
import torch
from annotating import Annotator

from panoforge.core.errors import DataError, UsageError
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.interactive.near import NearSegmenter
from panoforge.eval.interactive.serve.opening import Asked, opened, predictors_of
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.label.loading import sam3_of
from panoforge.label.page import sam3_predictors
from panoforge.label.video.sam3_clicks import Sam3Clicks

SIDE, WIDTH, HEIGHT = 112, 128, 64
CLICKS = (np.array([[30.0, 40.0], [80.0, 20.0]]), np.array([1, 0], np.int32))
BOX = (np.array([[10.0, 20.0], [90.0, 70.0]]), np.array([2, 3], np.int32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sam3_tracker(tmp_path_factory.mktemp("sam3"))


def view(seed: int) -> FrameInput:
    image = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    return FrameInput(image, np.zeros((SIDE, SIDE), np.uint16))


def by_hand(folder: Path, image: np.ndarray, **asked: object) -> torch.Tensor:
    """The real model and processor, as their documentation asks them about a streamed frame."""
    import transformers

    model = transformers.Sam3TrackerVideoModel.from_pretrained(folder).eval()
    tool = transformers.Sam3TrackerVideoProcessor.from_pretrained(folder)
    session = tool.init_video_session()
    pixels = tool(images=image, return_tensors="pt")
    tool.add_inputs_to_inference_session(
        session, frame_idx=0, obj_ids=1, original_size=pixels.original_sizes[0].tolist(), **asked
    )
    with torch.inference_mode():
        return model(inference_session=session, frame=pixels["pixel_values"][0]).pred_masks[0, 0]


def test_clicks_and_boxes_are_answered_as_by_hand_and_each_question_stands_alone(
    folder: Path,
) -> None:
    clicks, frame, other = Sam3Clicks(sam3_of(folder).loaded), view(0), view(1)
    points = {"input_points": [[CLICKS[0].tolist()]], "input_labels": [[CLICKS[1].tolist()]]}
    true = {
        "points": by_hand(folder, frame.image, **points),
        "box": by_hand(folder, frame.image, input_boxes=[[BOX[0].flatten().tolist()]]),
        "other": by_hand(folder, other.image, **points),
    }
    clicks.keep([frame, other])
    for _ in range(2):  # the second time after other questions
        asked = [(frame, CLICKS), (frame, BOX), (other, CLICKS)]
        said = [clicks.look([f], [ObjectPrompt(1, {0: prompt})])[0] for f, prompt in asked]
        for ours, theirs in zip(said, true.values(), strict=True):
            assert ours is not None and torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(true["points"], true["box"]), "prompts change nothing: no test"
    assert not torch.allclose(true["points"], true["other"]), "pictures change nothing: no test"


def test_a_view_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, encoded = sam3_of(folder).loaded, []
    real = loaded.model.get_image_features
    monkeypatch.setattr(
        loaded.model,
        "get_image_features",
        lambda *args, **rest: (encoded.append(1), real(*args, **rest))[1],
    )
    clicks, frame = Sam3Clicks(loaded), view(0)
    clicks.keep([frame])
    for prompt in (CLICKS, BOX, CLICKS):
        clicks.look([frame], [ObjectPrompt(1, {0: prompt})])
    assert len(encoded) == 1
    clicks.forget([frame])
    clicks.look([frame], [ObjectPrompt(1, {0: CLICKS})])
    assert len(encoded) == 2


def test_what_it_does_not_see_is_nothing(tmp_path: Path) -> None:
    clicks = Sam3Clicks(sam3_of(tiny_models.sam3_tracker(tmp_path / "blind", seen=-1.0)).loaded)
    assert clicks.look([view(0)], [ObjectPrompt(1, {0: CLICKS})]) == [None]


def test_it_answers_on_the_page(folder: Path, tmp_path: Path) -> None:
    """Through the server: a click of somebody is the mask of that click, over the sphere."""
    place = tmp_path / "place"
    place.mkdir()
    rgb, _ = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    (place / "a.png").write_bytes(encode_product("rgb.png", rgb))
    asked = Asked(place, tmp_path / "work", predictor="sam3", checkpoint=folder)
    with opened(asked, {"sam3": sam3_predictors}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            assert "SAM3's tracker at 112²" in server.studio.predictors.words
            ann = Annotator(server.server_port)
            picture = ann.picture("a.png")
            state = ann.edit(picture, "click", lon_deg=170, lat_deg=60)
            mask = ann.mask(picture, state["objects"][0], WIDTH, HEIGHT)
        finally:
            server.shutdown()
            thread.join(30)
    near = NearSegmenter(rgb, Sam3Clicks(sam3_of(folder).loaded), SIDE)
    assert mask.any() and np.array_equal(mask, near.mask([SphereClick(170, 60)]))


def test_what_is_wrong_is_one_line(folder: Path, tmp_path: Path) -> None:
    for checkpoint in (None, tmp_path / "gone", tmp_path):
        error = UsageError if checkpoint != tmp_path else DataError
        with pytest.raises(error, match=r"expected --checkpoint FOLDER|holds no config\.json"):
            sam3_predictors(Asked(predictor="sam3", checkpoint=checkpoint))
    for more in ({"model": "tiny"}, {"method": "scan"}, {"overrides": ("scan.overlap=1",)}):
        with pytest.raises(UsageError, match="means nothing to --predictor sam3"):
            sam3_predictors(Asked(predictor="sam3", checkpoint=folder, **more))
    with pytest.raises(UsageError, match="expected one of sam2, demo, truth, edges, sam3"):
        predictors_of(Asked(predictor="sam4"), {"sam3": sam3_predictors})
