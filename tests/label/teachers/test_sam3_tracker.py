"""SAM3's video tracker on a tiny random model of the real class: as when it is asked by hand."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models
import torch
from pydantic import ValidationError
from turning_caps import CapFrames

from panoforge.cli import main
from panoforge.cli.labelling import by_words
from panoforge.core.config.load import config_from_overrides
from panoforge.core.errors import DataError, UsageError
from panoforge.core.shards.read import Dataset
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.label.config import AnnotateConfig, FollowChoice
from panoforge.label.loading import following_of
from panoforge.label.video.sam3_tracker import Sam3Tracker

CPU, FRAMES, SIDE = torch.device("cpu"), 20, 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sam3_tracker(tmp_path_factory.mktemp("sam3"))


def shown() -> list[FrameInput]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
    return [FrameInput(image, np.zeros((SIDE, SIDE), np.uint16)) for image in images]


def half() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32) - 10
    mask[:, : SIDE // 2] = 10
    return mask


def test_it_says_what_the_model_says_by_hand_over_more_frames_than_it_remembers(
    folder: Path,
) -> None:
    import transformers

    model = transformers.Sam3TrackerVideoModel.from_pretrained(folder).eval()
    tool = transformers.Sam3TrackerVideoProcessor.from_pretrained(folder)
    session = tool.init_video_session()
    true = []
    for number, one in enumerate(shown()):
        pixels = tool(images=one.image, return_tensors="pt")["pixel_values"][0]
        if number == 0:
            tool.add_inputs_to_inference_session(session, 0, 1, input_masks=half() > 0)
        true.append(model(inference_session=session, frame=pixels))
    tracker = Sam3Tracker.load(folder, CPU)
    said = list(tracker.predict(shown(), [ObjectPrompt(1, {}, {0: half()})]))
    assert [one.frame for one in said] == list(range(FRAMES))
    assert tracker.size_px == 112
    for ours, theirs in zip(said, true, strict=True):
        there = bool(theirs.object_score_logits.item() > 0) or ours.frame == 0
        assert len(ours.objects) == there
        if there:
            assert torch.allclose(ours.logits, theirs.pred_masks[:, 0], atol=1e-5)
    assert any(len(one.objects) for one in said[1:]), "random weights find nothing: no test"
    changes = [(a.logits - b.logits).abs().max() for a, b in pairwise(said)
               if len(a.objects) and len(b.objects)]  # fmt: skip
    assert max(changes) > 1e-4, "the picture makes no difference: no test"


def test_what_it_remembers_does_not_grow_with_the_video(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Sam3Tracker.load(folder, CPU)
    sessions = []
    real = type(tracker.loaded.processor).init_video_session
    monkeypatch.setattr(
        type(tracker.loaded.processor),
        "init_video_session",
        lambda self, **rest: (sessions.append(real(self, **rest)), sessions[-1])[1],
    )
    list(tracker.predict(shown(), [ObjectPrompt(1, {}, {0: half()})]))
    (session,) = sessions
    assert all(frame is None for frame in session.processed_frames.values())
    assert len(session.output_dict_per_obj[0]["non_cond_frame_outputs"]) == 16


def test_annotate_carries_masks_along_with_it(folder: Path) -> None:
    following = following_of(FollowChoice.model_validate({"kind": "sam3", "folder": str(folder)}))
    assert "SAM3's tracker at 112²" in following.words
    frames = CapFrames(3, 64)
    labels = frames.labels(0)
    masks = {int(k): labels == k for k in np.unique(labels) if k}
    found = list(following.follow(frames, [0, 1, 2], masks))
    assert len(found) == 2
    assert all(mask.shape == labels.shape and mask.any() for f in found for mask in f.values())


def test_what_it_does_not_see_is_absent(tmp_path: Path) -> None:
    tracker = Sam3Tracker.load(tiny_models.sam3_tracker(tmp_path / "blind", seen=-1.0), CPU)
    said = list(tracker.predict(shown()[:3], [ObjectPrompt(1, {}, {0: half()})]))
    assert [len(one.objects) for one in said] == [1, 0, 0]


def test_what_it_cannot_do_is_refused(folder: Path, tmp_path: Path) -> None:
    tracker = Sam3Tracker.load(folder, CPU)
    click = {0: (np.zeros((1, 2)), np.ones(1, np.int32))}
    with pytest.raises(UsageError, match="a mask on the first frame"):
        next(tracker.predict(shown(), [ObjectPrompt(1, click)]))
    with pytest.raises(UsageError, match="no pictures"):
        tracker.look([], [])
    with pytest.raises(DataError, match=r"holds no config\.json"):
        Sam3Tracker.load(tmp_path, CPU)
    with pytest.raises(ValidationError, match=r"follow\.folder is of follow\.kind sam3"):
        FollowChoice.model_validate({"kind": "sam3"})
    with pytest.raises(ValidationError, match=r"follow\.folder is of follow\.kind sam3"):
        FollowChoice.model_validate({"kind": "edges", "folder": "x"})


def test_a_word_and_a_folder_are_enough(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--text`: one folder of weights gives the teacher and the tracker, and both are loaded."""
    folder, photo = tiny_models.sam3_video(tmp_path / "sam3"), tmp_path / "a.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (64, 128, 3)))
    command = ["annotate", str(photo), "--text", "chair", "--text", "lamp"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--sam3", str(folder), "least_free_mb=1", "write=[]"])
    assert not end.value.code
    (record,) = Path(f"{photo}.labels").glob("items/*.json")
    assert json.loads(record.read_text())["frames"] == 1
    notes = Dataset.open(f"{photo}.labels/dataset")[0].meta.notes
    assert any(note.startswith("teacher sam3, ") for note in notes)
    assert any(note.startswith("carried along by SAM3's tracker at 112²") for note in notes)
    words = by_words(["chair", "a, lamp"], folder, None, ["rules.sdr=false"])
    config = config_from_overrides(AnnotateConfig, words)
    assert config.panoptic[0].words == ("chair", "a, lamp")
    assert config.follow.kind == "sam3" and config.follow.folder == folder
    edges = by_words(["chair"], folder, None, ["follow.kind=edges"])
    assert not any(word.startswith("follow") for word in edges)
    for wrong, why in (
        (command, "--text and --sam3 go together"),
        ([*command, "--sam3", str(folder), "panoptic=[{kind: truth}]"], "asks SAM3 alone"),
    ):
        with pytest.raises(SystemExit) as end:
            main(wrong)
        assert end.value.code == 2 and why in capfd.readouterr().err


def test_weights_that_are_not_there_are_not_made_up(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "less")
    weights = load_file(tmp_path / "less" / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("mask_downsample.weight"))]
    save_file(weights, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        DataError, match=r"no weights for 1 part of .* first mask_downsample\.weight"
    ):
        Sam3Tracker.load(tmp_path / "less", CPU)
