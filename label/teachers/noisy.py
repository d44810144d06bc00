"""Noisy truth: a teacher that is wrong at stated rates.

Each view is spoilt by a generator of its own, made from the seed, the panorama's key and the view's
index. So the same view is spoilt the same way again, and two views of one thing differently, as a
model's are. In order: instances go missing, are merged with one that they touch, split along a line
through their middle, eroded, and called something else. Depth is multiplied and shifted by view,
and has noise by pixel. Confidence says nothing about what was spoilt.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import Field

from panoforge.core.models import FrozenModel, Probability, Rate
from panoforge.core.types import Mask
from panoforge.label.outlines import grown
from panoforge.label.teachers.base import Dense, Entities, Panoptic, Segment, ViewImage
from panoforge.label.teachers.truth import TruthTeacher


class NoiseRates(FrozenModel):
    """How often, and how much, truth is spoilt."""

    seed: int = Field(0, ge=0, description="Of the errors; another seed is another teacher.")
    missing: Probability = Field(0.0, description="Share of a view's instances that are not seen.")
    merged: Probability = Field(
        0.0, description="Share that are joined with an instance that they touch."
    )
    split: Probability = Field(0.0, description="Share that fall into two.")
    eroded: Probability = Field(0.0, description="Share that lose their rim.")
    erode_px: int = Field(3, ge=1, le=64, description="How wide a rim, pixels of the view.")
    mislabelled: Probability = Field(
        0.0, description="Share that are called as another class of the same panorama."
    )
    depth_scale: float = Field(
        1.0, ge=1, le=10, description="Each view's depth is multiplied by 1/x to x, log-uniform."
    )
    depth_shift: Rate = Field(
        0.0, description="And shifted by up to this, either way: a share of its median depth."
    )
    depth_noise: Rate = Field(0.0, description="Standard deviation by pixel, a share of depth.")


@dataclass(frozen=True)
class NoisyTruth:
    """Truth, spoilt at stated rates."""

    truth: TruthTeacher
    rates: NoiseRates
    name: str = "noisy truth"

    @property
    def digest(self) -> str:
        """Of its rates, its seed and what it knows."""
        said = f"{self.truth.digest} {self.rates.model_dump_json()}"
        return hashlib.sha256(said.encode()).hexdigest()

    def entities(self, view: ViewImage) -> Entities:
        """The view's instances, spoilt."""
        found = self._spoilt(view)
        masks = np.zeros((len(found), view.height, view.width), bool)
        for mask, (own, _) in zip(masks, found, strict=True):
            mask[:] = own
        confidence = self._generator(view, "confidence").uniform(0.5, 1, len(found))
        return Entities(masks, confidence.astype(np.float32))

    def panoptic(self, view: ViewImage) -> Panoptic:
        """The view's instances, spoilt, each a segment."""
        found = self._spoilt(view)
        ids = np.zeros((view.height, view.width), np.int32)
        for number, (own, _) in enumerate(found, start=1):
            ids[own] = number
        confidence = self._generator(view, "confidence").uniform(0.5, 1, len(found))
        segments = tuple(
            replace(what, id=number, confidence=float(share))
            for number, ((_, what), share) in enumerate(zip(found, confidence, strict=True), 1)
        )
        return Panoptic(ids, tuple(s for s in segments if (ids == s.id).any()))

    def dense(self, view: ViewImage) -> Dense:
        """Depth scaled, shifted and noisy; normals and classes as they are."""
        said = self.truth.dense(view)
        if said.depth is None:
            return said
        rng, rates, values = self._generator(view, "depth"), self.rates, said.depth.values
        scale = rates.depth_scale ** rng.uniform(-1, 1)
        finite = values[np.isfinite(values)]
        middle = float(np.median(finite)) if finite.size else 0.0
        shift = rng.uniform(-1, 1) * rates.depth_shift * middle
        noise = 1 + rates.depth_noise * rng.standard_normal(values.shape)
        spoilt = values * noise + shift
        least = 1e-3 * middle  # depth stays positive
        spoilt = scale * np.maximum(spoilt, least if least > 0 else 1e-3)
        return replace(said, depth=replace(said.depth, values=spoilt.astype(np.float32)))

    def _generator(self, view: ViewImage, what: str) -> np.random.Generator:
        key = hashlib.sha256(f"{view.panorama}\n{what}".encode()).digest()
        return np.random.default_rng([self.rates.seed, view.index, *key[:8]])

    def _spoilt(self, view: ViewImage) -> list[tuple[Mask, Segment]]:
        """Each instance's mask and what it is called, after all errors."""
        said, rng = self.truth.panoptic(view), self._generator(view, "instances")
        classes = sorted({thing.class_name for thing in self.truth.truths(view.panorama)
                          .things.values()})  # fmt: skip
        found = [(said.segment_ids == segment.id, segment) for segment in said.segments]
        found = [one for one in found if rng.random() >= self.rates.missing]
        found = self._merged(found, rng)
        parts: list[tuple[Mask, Segment]] = []
        for mask, segment in found:
            halves = _halves(mask, rng) if rng.random() < self.rates.split else (mask,)
            parts += [(half, segment) for half in halves]
        spoilt = []
        for mask, segment in parts:
            own = mask
            if rng.random() < self.rates.eroded:
                own = grown(mask, -self.rates.erode_px, wraps=False)
            if not own.any():
                continue
            if rng.random() < self.rates.mislabelled:
                segment = replace(segment, class_name=_another(segment.class_name, classes, rng))
            spoilt.append((own, segment))
        return spoilt

    def _merged(
        self, found: list[tuple[Mask, Segment]], rng: np.random.Generator
    ) -> list[tuple[Mask, Segment]]:
        """Some instances joined with one that they touch, whose name they take."""
        left = list(found)
        for mask, segment in found:
            if rng.random() >= self.rates.merged:
                continue
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            own = next((k for k, one in enumerate(left) if one[1].id == segment.id), None)
            beside = [k for k, one in enumerate(left) if k != own and (one[0] & ring).any()]
            if own is None or not beside:
                continue
            other = beside[int(rng.integers(len(beside)))]
            left[other] = (left[other][0] | left[own][0], left[other][1])
            del left[own]
        return left


def _halves(mask: Mask, rng: np.random.Generator) -> tuple[Mask, ...]:
    """A mask cut by a line of random direction through its middle."""
    row, column = np.nonzero(mask)
    angle = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    side = (columns - column.mean()) * np.cos(angle) + (rows - row.mean()) * np.sin(angle) >= 0
    halves = (mask & side, mask & ~side)
    return tuple(half for half in halves if half.any())


def _another(name: str, classes: Sequence[str], rng: np.random.Generator) -> str:
    """Another class; the same where there is no other."""
    others = [other for other in classes if other != name]
    return others[int(rng.integers(len(others)))] if others else name
