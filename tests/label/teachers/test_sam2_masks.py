"""SAM2's own mask generator, real class, random weights: masks, confidence and a digest."""

import cv2
import numpy as np
import pytest
import torch

from panoforge.core.geometry.sphere import View
from panoforge.eval.config import ModelConfig
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.label.agree.instances import as_partition
from panoforge.label.teachers.base import ViewImage, ask_entities
from panoforge.label.teachers.sam2_masks import Sam2Masks

RANDOM = ModelConfig(size="tiny", image_size=128, checkpoint="random")
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
VIEW = ViewImage(
    cv2.resize(NOISE, (96, 96), interpolation=cv2.INTER_NEAREST),
    PerspectiveFrame(View(0, 0, 90, 96)),
)


def test_the_generator_s_masks_arrive() -> None:
    """At random weights no mask is sure: the generator's thresholds are opened."""
    state = torch.random.get_rng_state()
    teacher = Sam2Masks.load(
        RANDOM, "cpu", seed=3, points_per_side=4, least_iou=-10, least_stability=0
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    said = ask_entities(teacher, VIEW)
    assert len(said.masks) and said.masks.any(axis=(1, 2)).all()
    true = teacher._generator.generate(VIEW.rgb)
    assert len(true) == len(said.masks)
    for mask, share, one in zip(said.masks, said.confidence, true, strict=True):
        assert np.array_equal(mask, one["segmentation"]) and int(mask.sum()) == one["area"]
        assert share == pytest.approx(min(1, max(0, one["predicted_iou"])))
    partition = as_partition(said)
    assert set(np.unique(partition.segment_ids)) - {0} == {s.id for s in partition.segments}
    again = Sam2Masks(teacher.loaded, points_per_side=4, least_iou=-10, least_stability=0)
    other = Sam2Masks(teacher.loaded, points_per_side=8, least_iou=-10, least_stability=0)
    assert teacher.digest == again.digest != other.digest
    assert teacher.digest != Sam2Masks.load(RANDOM, "cpu", seed=4, points_per_side=4).digest


def test_where_nothing_is_sure_nothing_is_said() -> None:
    teacher = Sam2Masks.load(RANDOM, "cpu", points_per_side=2, least_iou=0.99, least_stability=1)
    assert ask_entities(teacher, VIEW).masks.shape == (0, 96, 96)
