"""Dense answers of overlapping views as one panorama: depth, normals and classes, with confidence.

Depth: at each pixel the surest view is heard, and all that agree with it within 5 %; their mean by
confidence is the answer. So an edge that two views see half a pixel apart does not become a slope.
Normals are the mean direction. Classes are votes. Confidence is the share of the views' say (by
how near their middles are) that is for the answer, times how sure their teachers are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from panoforge.core.types import Depth, Normals, Values
from panoforge.eval.views.frames import Projection
from panoforge.label.agree.alignment import DepthAlignment
from panoforge.label.agree.votes import Votes
from panoforge.label.teachers.base import ClassScores, Dense, DepthMap
from panoforge.label.views.carry import carry_confidence, carry_depth, carry_normals, carry_scores
from panoforge.label.views.landing import Landing, land

AGREE = 0.05  # relative: a view that is farther off sees something else
CLASSES_HEARD = 3  # of each view at each pixel
_FAR = 1e-4  # of the median inverse depth: what is farther is sky


@dataclass(frozen=True)
class MergedDepth:
    """Depth of a panorama: float32 (H, W), along the ray, +inf for sky; and its confidence."""

    distance: Depth
    confidence: Values


@dataclass(frozen=True)
class MergedNormals:
    """Normals of a panorama: float32 (H, W, 3), its own frame, zero for none; and confidence."""

    normals: Normals
    confidence: Values


@dataclass(frozen=True)
class MergedClasses:
    """Classes of a panorama.

    Attributes:
        classes: int32 (H, W), places in `names`; −1 where nothing was said.
        names: Of the classes.
        confidence: float32 (H, W).
    """

    classes: Int32[np.ndarray, "height width"]
    names: tuple[str, ...]
    confidence: Values


def merge_depth(
    frames: Sequence[Projection],
    answers: Sequence[Dense],
    alignment: DepthAlignment,
    width: int,
    height: int,
) -> MergedDepth:
    """Aligned depth of all views as one map.

    Args:
        frames: The views.
        answers: What a teacher says of each, with depth.
        alignment: What each view's depth is multiplied by and shifted by.
        width: Columns of the panorama.
        height: Its rows.
    """
    pixels = width * height
    surest, first = np.zeros(pixels, np.float32), np.full(pixels, np.inf, np.float32)
    heard = [k for k in range(len(frames)) if alignment.scale[k] > 0]
    for k in heard:
        landing = land(frames[k], width, height)
        meant, weight = _meant(answers[k], landing, alignment, k)
        better = weight > surest[landing.pixels]
        at = landing.pixels[better]
        surest[at], first[at] = weight[better], meant[better]
    sums, agreeing, border = np.zeros((3, pixels))
    for k in heard:
        landing = land(frames[k], width, height)
        meant, weight = _meant(answers[k], landing, alignment, k)
        at, wanted = landing.pixels, first[landing.pixels]
        border[at] += landing.border
        sky = np.isinf(wanted)
        with np.errstate(invalid="ignore"):
            agrees = np.where(sky, np.isinf(meant), np.abs(meant - wanted) <= AGREE * wanted)
        agreeing[at] += np.where(agrees, weight, 0)
        sums[at] += np.where(agrees & ~sky, weight * np.where(sky, 0, meant), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.where(np.isinf(first), np.inf, sums / agreeing).astype(np.float32)
    distance[agreeing == 0] = np.inf
    share = (agreeing / np.maximum(border, 1e-12)).astype(np.float32)
    shape = (height, width)
    return MergedDepth(distance.reshape(shape), np.clip(share, 0, 1).reshape(shape))


def _meant(
    said: Dense, landing: Landing, alignment: DepthAlignment, k: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance that a view means at a landing's pixels after alignment, and its weight."""
    assert said.depth is not None, "dense answers without depth have no place here"
    distance = aligned_distance(said.depth, landing, alignment.scale[k], alignment.shift[k])
    return distance, carry_confidence(said, landing)


def aligned_distance(
    depth: DepthMap, landing: Landing, scale: float, shift: float
) -> NDArray[np.float32]:
    """Distance along the ray (P,) that a view's scaled and shifted depth means; +inf for sky."""
    carried, factor = carry_depth(depth, landing)
    meant = scale * carried.astype(np.float64) + shift * factor
    if depth.unit != "inverse":
        return np.where(meant > 0, meant, np.inf).astype(np.float32)
    far = _FAR * max(float(np.median(meant)) if meant.size else 0.0, 1e-12)
    return np.where(meant > far, 1 / np.maximum(meant, far), np.inf).astype(np.float32)


def merge_normals(
    frames: Sequence[Projection], answers: Sequence[Dense], width: int, height: int
) -> MergedNormals:
    """Normals of all views as one map, in the panorama's frame."""
    sums, border = np.zeros((width * height, 3)), np.zeros(width * height)
    for frame, said in zip(frames, answers, strict=True):
        assert said.normals is not None, "dense answers without normals have no place here"
        landing = land(frame, width, height)
        weight = carry_confidence(said, landing)
        sums[landing.pixels] += weight[:, None] * carry_normals(said.normals, landing)
        border[landing.pixels] += landing.border
    length = np.linalg.norm(sums, axis=1)
    share = length / np.maximum(border, 1e-12)
    surface = share > 0.05
    normals = np.where(surface[:, None], sums / np.maximum(length, 1e-30)[:, None], 0)
    return MergedNormals(
        normals.astype(np.float32).reshape(height, width, 3),
        np.clip(share, 0, 1).astype(np.float32).reshape(height, width),
    )


class ClassVotes:
    """Votes of views for the classes of a panorama's pixels, view after view.

    A view's three likeliest classes at each pixel are heard.
    """

    def __init__(self, names: Sequence[str], width: int, height: int) -> None:
        self.names, self.width, self.height = tuple(names), width, height
        self._place = {name: place for place, name in enumerate(self.names)}
        self._votes, self._border = Votes(width * height), np.zeros(width * height, np.float32)

    def add(self, frame: Projection, said: Dense, numbers: Iterable[int] | None = None) -> None:
        """Count a view's scores. `numbers` are the places of its classes in `names`, −1 for none.

        Without them the classes are found by name; those that are not there say nothing.
        """
        assert said.scores is not None, "dense answers without classes have no place here"
        landing = land(frame, self.width, self.height)
        weight = carry_confidence(said, landing)
        self._border[landing.pixels] += landing.border
        places = np.array(self._places(said.scores) if numbers is None else list(numbers))
        scores = carry_scores(said.scores, landing)
        heard = min(CLASSES_HEARD, len(scores))
        top = np.argpartition(-scores, heard - 1, axis=0)[:heard]
        for rank in top:
            vote = np.take_along_axis(scores, rank[None], 0)[0] * weight
            known = (places[rank] >= 0) & (vote > 0)
            self._votes.add(
                landing.pixels[known], places[rank[known]].astype(np.int32), vote[known]
            )

    def result(self) -> MergedClasses:
        """The class of most votes at every pixel."""
        keys, weight = self._votes.winners()
        shape = (self.height, self.width)
        share = np.clip(weight / np.maximum(self._border, 1e-12), 0, 1)
        return MergedClasses(keys.reshape(shape), self.names, share.reshape(shape))

    def _places(self, scores: ClassScores) -> list[int]:
        return [self._place.get(name, -1) for name in scores.names]
