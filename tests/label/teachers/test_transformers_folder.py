"""Real classes of transformers, on folders with random weights: what they say is what we pass on.

Each answer is held against the model's own, asked by hand as its documentation does.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_models
import torch

from panoforge.core.errors import ConfigError, DataError
from panoforge.core.geometry.sphere import View
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.label.teachers.base import (
    TeacherError,
    ViewImage,
    ask_dense,
    ask_panoptic,
)
from panoforge.label.teachers.moge import MogeTeacher
from panoforge.label.teachers.transformers_folder import (
    Sam3Words,
    TransformersClasses,
    TransformersDepth,
    TransformersPanoptic,
    folder_digest,
)

transformers = pytest.importorskip(
    "transformers", reason="the extra `label` is not installed: pip install 'panoforge[label]'"
)
CPU = torch.device("cpu")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
RGB = cv2.resize(NOISE, (96, 96), interpolation=cv2.INTER_CUBIC)
VIEW = ViewImage(RGB, PerspectiveFrame(View(0, 0, 90, 96)), index=2)


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is a fault: models come from folders."""
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a connection was made to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def by_hand(model: Any, processor: Any, folder: Path, **more: Any) -> tuple[Any, Any]:
    """(processor, output) as the model's documentation asks it."""
    network = model.from_pretrained(folder).eval()
    tool = processor.from_pretrained(folder)
    with torch.inference_mode():
        return tool, network(**tool(images=RGB, return_tensors="pt", **more))


@pytest.mark.parametrize("kind", ["mask2former", "oneformer"])
def test_panoptic_models_say_what_they_say_by_hand(tmp_path: Path, kind: str) -> None:
    folder = getattr(tiny_models, kind)(tmp_path / kind)
    stuff = frozenset({"wall", "sky-other-merged"})
    teacher = TransformersPanoptic.load(folder, CPU, stuff=stuff, threshold=0.05)
    said = ask_panoptic(teacher, VIEW)
    more = {"task_inputs": ["panoptic"]} if kind == "oneformer" else {}
    model = {"mask2former": "Mask2Former", "oneformer": "OneFormer"}[kind]
    tool, output = by_hand(
        getattr(transformers, model + "ForUniversalSegmentation"),
        transformers.OneFormerProcessor if more else transformers.Mask2FormerImageProcessor,
        folder,
        **more,
    )
    true = tool.post_process_panoptic_segmentation(
        output, threshold=0.05, label_ids_to_fuse={0, 2}, target_sizes=[(96, 96)]
    )[0]
    theirs = true["segmentation"].numpy()
    assert said.segments, "random weights found nothing: the test would see nothing"
    for segment in said.segments:
        mask = said.segment_ids == segment.id
        own = set(np.unique(theirs[mask]).tolist())
        assert len(own) == 1
        info = next(one for one in true["segments_info"] if one["id"] == own.pop())
        assert np.array_equal(mask, theirs == info["id"])
        assert segment.class_name == tiny_models.NAMES[info["label_id"]]
        assert segment.is_thing == (segment.class_name == "chair")
        assert segment.confidence == pytest.approx(info["score"], abs=1e-6)
    nothing = np.isin(theirs, [one["id"] for one in true["segments_info"]], invert=True)
    assert np.array_equal(said.segment_ids == 0, nothing)
    assert sorted(teacher.classes.values()) == sorted(tiny_models.NAMES.values())


@pytest.mark.parametrize("kind", ["depth_anything", "dpt"])
def test_depth_models_say_what_they_say_by_hand(tmp_path: Path, kind: str) -> None:
    folder = getattr(tiny_models, kind)(tmp_path / kind)
    said = ask_dense(TransformersDepth.load(folder, CPU), VIEW).depth
    _, output = by_hand(
        transformers.AutoModelForDepthEstimation, transformers.DPTImageProcessor, folder
    )
    true = torch.nn.functional.interpolate(
        output.predicted_depth[:, None], (96, 96), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    assert true.std() > 0, "random weights say one depth: the test would see nothing"
    assert said.unit == "inverse" and said.along == "axis"
    assert np.allclose(said.values, true, atol=1e-6)
    metric = ask_dense(TransformersDepth.load(folder, CPU, unit="metres"), VIEW).depth
    assert metric.unit == "metres" and (metric.values > 0).all()


def test_what_depth_means_is_asked_of_the_configuration(tmp_path: Path) -> None:
    folder = tiny_models.depth_anything(tmp_path / "metric")
    config = json.loads((folder / "config.json").read_text())
    config |= {"depth_estimation_type": "metric", "max_depth": 20}
    (folder / "config.json").write_text(json.dumps(config))
    said = ask_dense(TransformersDepth.load(folder, CPU), VIEW).depth
    assert said.unit == "metres" and said.values.max() <= 20


def test_class_scores_are_the_model_s(tmp_path: Path) -> None:
    folder = tiny_models.segformer(tmp_path / "classes")
    said = ask_dense(TransformersClasses.load(folder, CPU), VIEW)
    tool, output = by_hand(
        transformers.SegformerForSemanticSegmentation, transformers.SegformerImageProcessor, folder
    )
    true = tool.post_process_semantic_segmentation(output, target_sizes=[(96, 96)])[0].numpy()
    assert len(np.unique(true)) > 1
    assert said.scores.names == tuple(tiny_models.NAMES.values())
    assert (said.scores.values.argmax(axis=0) == true).mean() > 0.999
    assert np.allclose(said.scores.values.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(said.confidence, said.scores.values.max(axis=0))


def test_sam3_finds_each_word_s_instances(tmp_path: Path) -> None:
    folder = tiny_models.sam3(tmp_path / "sam3")
    teacher = Sam3Words.load(folder, CPU, ("chair", "lamp"), threshold=0.0)
    said = ask_panoptic(teacher, VIEW)
    assert {segment.class_name for segment in said.segments} == {"chair", "lamp"}
    every: list[tuple[float, str, np.ndarray]] = []
    for word in ("chair", "lamp"):
        tool, output = by_hand(
            transformers.Sam3Model, transformers.Sam3Processor, folder, text=word
        )
        true = tool.post_process_instance_segmentation(
            output, threshold=0.0, target_sizes=[(96, 96)]
        )[0]
        every += [(float(s), word, m.numpy() > 0)
                  for s, m in zip(true["scores"], true["masks"], strict=True)]  # fmt: skip
    covered = np.zeros((96, 96), bool)
    for score, word, mask in sorted(every, key=lambda one: -one[0]):
        left = mask & ~covered
        if left.any():
            ids = np.unique(said.segment_ids[left])
            segment = next(s for s in said.segments if s.id == ids[0])
            assert len(ids) == 1 and segment.class_name == word
            assert segment.confidence == pytest.approx(score, abs=1e-5)
        covered |= mask
    assert np.array_equal(said.segment_ids > 0, covered)
    assert teacher.digest != Sam3Words(teacher.loaded, ("chair",), "x", 0.0).digest


def test_a_folder_s_digest_is_of_every_byte(tmp_path: Path) -> None:
    folder = tiny_models.segformer(tmp_path / "a")
    before = folder_digest(folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert folder_digest(folder) != before


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = tiny_models.segformer(tmp_path / "classes")
    pickled = tiny_models.segformer(tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    damaged = tiny_models.segformer(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no tensors")
    foreign = tiny_models.segformer(tmp_path / "code")
    config = json.loads((foreign / "config.json").read_text())
    config["auto_map"] = {"AutoModelForDepthEstimation": "evil.Model"}
    (foreign / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    (foreign / "evil.py").write_text("raise SystemExit('code of a folder was run')")
    for load, place in (
        (TransformersClasses.load, empty),
        (TransformersClasses.load, tmp_path / "nowhere"),
        (TransformersPanoptic.load, folder),
        (TransformersDepth.load, folder),
        (TransformersClasses.load, pickled),
        (TransformersClasses.load, damaged),
        (TransformersDepth.load, foreign),
    ):
        with pytest.raises(DataError) as refusal:
            load(place, CPU)
        assert str(place) in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    teacher = TransformersClasses.load(tiny_models.segformer(tmp_path / "a"), CPU)
    for parameter in teacher.loaded.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(TeacherError, match=r"^a, view 2: .* not finite"):
        teacher.dense(VIEW)


def test_moge_is_asked_for_where_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the teacher 'moge' needs MoGe 2, which is not inst"):
        MogeTeacher.load(tmp_path / "model.pt", CPU)
