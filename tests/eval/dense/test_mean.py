"""The mean predictor on a round room, whose normals all look at the camera."""

import numpy as np

from panoforge.core.categories.class_sets import class_set
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.eval.dense.mean import MeanPredictor
from panoforge.eval.maps import DenseMaps, DenseSample


def test_its_normals_turn_with_the_column_and_its_guesses_are_those_of_the_row():
    rays = pixel_to_direction(np.arange(256)[None], np.arange(128)[:, None], 256, 128)
    depth = np.linspace(1, 8, 128, dtype=np.float32)[:, None] * np.ones(256, np.float32)
    semantic = np.where(np.arange(128)[:, None] < 64, 21, 1) * np.ones((1, 256), int)
    truth = DenseMaps(semantic.astype(np.uint8), depth, (-rays).astype(np.float32))
    sample = DenseSample("k", np.zeros((128, 256, 3), np.uint8), truth)
    tasks = ("semantic", "depth", "normal")
    found = MeanPredictor.fit([sample], tasks, class_set("nyu40"), 10.0).predict(sample)
    assert np.sum(found.normal * rays, axis=-1).max() < -0.999
    assert np.array_equal(found.semantic, truth.semantic)
    assert np.abs(found.depth_m / depth - 1).max() < 0.08  # two rows are one band
