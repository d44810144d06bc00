"""Objects carried through videos: over the seam, by edges, by SAM2 and by truth."""

from collections.abc import Iterator
from pathlib import Path

import clips
import numpy as np
import pytest
import torch

from panoforge.core.errors import UsageError
from panoforge.eval.interactive.following import edges
from panoforge.eval.interactive.following.edges import EdgeFollowing
from panoforge.eval.interactive.following.model import ModelFollowing
from panoforge.eval.interactive.following.moving_view import MovingView, laid_on
from panoforge.eval.interactive.following.truth import TruthFollowing
from panoforge.eval.predictors import FrameInput
from panoforge.eval.views.merge import FrameLogits


class Held:
    """Frames that are in memory; notes which were asked for."""

    fps, sha256, size = 10.0, "", (clips.WIDTH, clips.HEIGHT)

    def __init__(self, pictures: list[np.ndarray], labels: list[np.ndarray] | None = None) -> None:
        self.pictures, self.true = pictures, labels
        self.names = [str(k) for k in range(len(pictures))]
        self.asked: list[int] = []

    def rgb(self, number: int) -> np.ndarray:
        self.asked.append(number)
        return self.pictures[number]

    def labels(self, number: int) -> np.ndarray | None:
        return None if self.true is None else self.true[number]

    def again(self) -> "Held":
        return self

    def close(self) -> None:
        pass


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1)])
def test_edges_follow_over_the_seam_both_ways(order: range) -> None:
    pictures, masks = clips.moving_disc(12)
    frames = Held(pictures)
    begin = order[0]
    following = EdgeFollowing().follow(frames, order, {7: masks[begin]})
    assert frames.asked == []  # nothing is read before it is wanted
    for k, (number, found) in enumerate(zip(order[1:], following, strict=True), start=2):
        assert iou(found[7], masks[number]) > 0.85
        assert len(frames.asked) == k
    at_seam = masks[5]
    assert at_seam[:, 0].any() and at_seam[:, -1].any()


def test_edges_end_where_the_thing_is_gone() -> None:
    pictures, masks = clips.moving_disc(6)
    empty = pictures[0].copy()
    empty[masks[0]] = 50
    frames = Held([*pictures[:3], empty, empty])
    found = [set(one) for one in EdgeFollowing().follow(frames, range(5), {1: masks[0]})]
    assert found == [{1}, {1}, set(), set()]


def test_what_has_none_of_its_colours_is_no_part_of_it() -> None:
    """A mask that has leaked onto the wall beside the thing comes back to the thing."""
    picture = np.full((120, 120, 3), (90, 200, 90), np.uint8)
    picture[40:80, 40:60] = (250, 180, 40)  # the thing
    picture[40:80, 60:80] = (60, 50, 45)  # the wall
    leaked = np.zeros((120, 120), np.uint8)
    leaked[40:80, 40:80] = 1
    found = edges._cut(picture, leaked, np.array([[250, 180, 40]], np.float32))
    assert found[45:75, 45:60].all() and not found[:, 61:].any()


def test_a_view_comes_back_to_where_it_was_sampled() -> None:
    """A disc at the seam, near a pole, and far up: what the view sees lies where it was."""
    for start, lat in ((180.0, 0.0), (90.0, 75.0), (0.0, -88.0)):
        lon = np.radians((np.arange(256) + 0.5) / 256 * 360 - 180)[None]
        phi = np.radians(90 - (np.arange(128) + 0.5) / 128 * 180)[:, None]
        near = np.sin(phi) * np.sin(np.radians(lat)) + np.cos(phi) * np.cos(
            np.radians(lat)
        ) * np.cos(lon - np.radians(start))
        mask = near > np.cos(np.radians(12))
        from panoforge.core.geometry.views import sample_view, wrap_panorama

        view = MovingView.around(mask, 256).view
        seen = sample_view(wrap_panorama(mask.astype(np.uint8)), view, labels=True)
        for size in (256, 64):
            soft = seen.reshape(size, 256 // size, size, 256 // size).mean(axis=(1, 3))
            back = laid_on(soft.astype(np.float32) - 0.5, view, np.zeros_like(mask))
            assert iou(back, mask) > (0.95 if size == 256 else 0.9)
        other = np.ones_like(mask)
        kept = laid_on(np.full((64, 64), -1, np.float32), view, other)
        assert kept.any() and not kept[mask].any()  # only what the view sees is said anew


class Bright:
    """A predictor that finds what is bright, and notes when frames are read."""

    name, sees_labels = "bright", False

    def predict(self, frames, prompts) -> Iterator[FrameLogits]:
        (prompt,) = prompts
        assert set(prompt.masks) == {0} and (prompt.masks[0] > 0).any()
        for t in range(len(frames)):
            frame: FrameInput = frames[t]
            found = (frame.image[..., 0] > 150) & (frame.image[..., 2] < 120)
            logits = torch.from_numpy(np.where(found, 5.0, -5.0).astype(np.float32))[None]
            there = found.any()
            yield FrameLogits(t, np.arange(int(there)), logits[: int(there)])


def test_a_model_sees_the_object_in_a_view_that_goes_with_it() -> None:
    pictures, masks = clips.moving_disc(30, step_deg=5.0)  # five twelfths around
    hidden = pictures[0].copy()
    hidden[masks[0]] = 50
    pictures[10] = hidden
    following = ModelFollowing(Bright(), 256, "bright").follow(
        Held(pictures), range(30), {1: masks[0], 2: masks[0]}
    )
    for number, found in enumerate(following, start=1):
        assert set(found) == (set() if number == 10 else {1, 2})
        for mask in found.values():
            assert iou(mask, masks[number]) > 0.9


def test_sam2_itself_follows(tmp_path: Path) -> None:
    """The real model, never trained: every frame is answered, one at a time, at its own size."""
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.load import load_model

    model = {"size": "tiny", "image_size": 64}
    loaded = load_model(EvalConfig.model_validate({"model": model, "device": "cpu"}))
    pictures, masks = clips.moving_disc(4)
    frames = Held(pictures)
    following = ModelFollowing(BatchedSam2(loaded.model, encode_batch=1), 64, "SAM2")
    found = []
    for one in following.follow(frames, range(4), {1: masks[0]}):
        found.append(one)
        assert max(frames.asked) == len(found)  # no frame ahead: the view turns in between
    assert len(found) == 3
    assert all(mask.shape == masks[0].shape for one in found for mask in one.values())


def test_truth_follows_the_thing_that_is_covered_most() -> None:
    pictures, masks = clips.moving_disc(4)
    labels = [np.where(mask, 9, 2).astype(np.uint16) for mask in masks]
    frames = Held(pictures, labels)
    found = list(TruthFollowing().follow(frames, range(4), {1: masks[0]}))
    assert all(np.array_equal(one[1], mask) for one, mask in zip(found, masks[1:], strict=True))
    with pytest.raises(UsageError, match="no labels"):
        next(TruthFollowing().follow(Held(pictures), range(4), {1: masks[0]}))
