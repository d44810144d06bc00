"""Truth as a teacher: what the renderer knows of a panorama, seen through any view.

Ids are those of the panorama pixel that a view pixel's centre falls into. Depth and normals are
interpolated within a surface, never across its edge. For tests, and for ceilings: what labels lose
with truth as teacher is lost by views and agreement alone. `panoforge.label.teachers.noisy` spoils
it at stated rates.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import view_rotation
from panoforge.core.geometry.views import WrappedPanorama, wrap_panorama
from panoforge.core.sample.metadata import Pose
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.types import Depth, Labels, Normals
from panoforge.eval.views.frames import Projection
from panoforge.label.surfaces import unit_within_surface, within_surface
from panoforge.label.teachers.base import (
    ClassScores,
    Dense,
    DepthAlong,
    DepthMap,
    Entities,
    Panoptic,
    Segment,
    ViewImage,
    camera_of,
)

UNNAMED = "nothing"  # the class of pixels of no instance, in class scores


@dataclass(frozen=True)
class TrueThing:
    """What an id of a panorama is."""

    class_name: str
    is_thing: bool


@dataclass(frozen=True)
class Truth:
    """What is true of one panorama.

    Attributes:
        labels: uint16 (H, W), 0 for nothing.
        things: What each id is; every id of the map must be there.
        depth_m: float32 (H, W), along the ray, +inf for sky; or None.
        normals: float32 (H, W, 3), panorama frame, zero for none; or None.
    """

    labels: Labels
    things: Mapping[int, TrueThing]
    depth_m: Depth | None = None
    normals: Normals | None = None

    @cached_property
    def wrapped_labels(self) -> WrappedPanorama:
        """The ids, laid out for sampling."""
        return wrap_panorama(self.labels)

    @cached_property
    def wrapped_depth(self) -> tuple[WrappedPanorama, WrappedPanorama] | None:
        """Depth with 0 for sky, and as it is."""
        if self.depth_m is None:
            return None
        near = np.where(np.isfinite(self.depth_m), self.depth_m, 0).astype(np.float32)
        return wrap_panorama(near), wrap_panorama(self.depth_m.astype(np.float32))

    @cached_property
    def wrapped_normals(self) -> WrappedPanorama | None:
        """The normals, laid out for sampling."""
        return None if self.normals is None else wrap_panorama(self.normals.astype(np.float32))


Truths = Callable[[str], Truth]


@dataclass(frozen=True)
class TruthTeacher:
    """Answers with what is true of the panorama that a view is of.

    Attributes:
        truths: The truth of a panorama by its key.
        least_px: Pixels that an instance must have in a view to be seen there.
        along: What its depth is measured along.
        name: What it is called.
    """

    truths: Truths
    least_px: int = 1
    along: DepthAlong = "ray"
    name: str = "truth"

    @property
    def digest(self) -> str:
        """Of its settings: its weights are the data."""
        return hashlib.sha256(f"truth {self.least_px} {self.along}".encode()).hexdigest()

    def entities(self, view: ViewImage) -> Entities:
        """The mask of every instance that the view shows, structure too."""
        ids = self.truths(view.panorama).wrapped_labels
        seen = view.frame.sample(ids, labels=True)
        found = self._shown(seen)
        masks = seen[None] == found[:, None, None]
        return Entities(masks, np.ones(len(found), np.float32))

    def panoptic(self, view: ViewImage) -> Panoptic:
        """The instances that the view shows, each a segment whose id is its own."""
        truth = self.truths(view.panorama)
        seen = view.frame.sample(truth.wrapped_labels, labels=True)
        found = self._shown(seen)
        ids = np.where(np.isin(seen, found), seen, 0).astype(np.int32)
        things = [(id_, truth.things[id_]) for id_ in found.tolist()]
        return Panoptic(
            ids, tuple(Segment(id_, is_.class_name, is_.is_thing, 1.0) for id_, is_ in things)
        )

    def dense(self, view: ViewImage) -> Dense:
        """Depth in metres, normals in camera axes and the classes, as far as they are known."""
        truth = self.truths(view.panorama)
        return Dense(
            depth=true_depth(truth, view.frame, self.along),
            normals=true_normals(truth, view.frame),
            scores=true_scores(truth, view.frame),
        )

    def _shown(self, seen: NDArray[np.uint16]) -> NDArray[np.int64]:
        ids, pixels = np.unique(seen, return_counts=True)
        return ids[(ids > 0) & (pixels >= self.least_px)].astype(np.int64)


def true_depth(truth: Truth, frame: Projection, along: DepthAlong) -> DepthMap | None:
    """The depth that a view sees; None where the panorama has none."""
    if truth.wrapped_depth is None:
        return None
    near, exact = truth.wrapped_depth
    values = within_surface(frame.sample(near), frame.sample(exact, labels=True))
    if along == "axis":
        values = (values / camera_of(frame).range_per_depth()).astype(np.float32)
    return DepthMap(values, along, "metres")


def true_normals(truth: Truth, frame: Projection) -> Normals | None:
    """The normals that a view sees, in its camera axes; None where there are none, or no camera."""
    if truth.wrapped_normals is None:
        return None
    between = frame.sample(truth.wrapped_normals)
    values = unit_within_surface(between, frame.sample(truth.wrapped_normals, labels=True))
    return (values @ view_rotation(camera_of(frame))).astype(np.float32)


def true_scores(truth: Truth, frame: Projection) -> ClassScores | None:
    """1 for the class of each pixel's instance; pixels of none have a class of their own."""
    seen = frame.sample(truth.wrapped_labels, labels=True)
    ids = np.unique(seen).tolist()
    names = [*sorted({truth.things[id_].class_name for id_ in ids if id_}), UNNAMED]
    lookup = np.full(int(truth.labels.max(initial=0)) + 1, len(names) - 1)
    for id_ in ids:
        if id_:
            lookup[id_] = names.index(truth.things[id_].class_name)
    scores = lookup[seen][None] == np.arange(len(names))[:, None, None]
    return ClassScores(tuple(names), scores.astype(np.float32))


def sample_truth(sample: Sample) -> Truth:
    """The truth of a sample of ours: ids, categories, and depth and normals where it has them.

    The shell of a room and the ground (`structure`) are stuff, everything else things.
    """
    held = {suffix.split(".")[0] for suffix in sample.members}
    things = {
        row.id: TrueThing(row.category or row.name, "structure" not in row.flags)
        for row in sample.meta.instances
    }
    depth = sample.read("depth").astype(np.float32) if "depth" in held else None
    normals = sample.read("normal").astype(np.float32) if "normal" in held else None
    return Truth(
        sample.read("instance"),
        things,
        depth,
        None if normals is None else to_panorama_frame(normals, sample.meta.pose),
    )


def to_panorama_frame(normals: Normals, pose: Pose) -> Normals:
    """Normals of the world (H, W, 3) → of the panorama that was taken with that pose."""
    return (normals @ np.array(pose.world_from_pano, np.float32)).astype(np.float32)


def to_world_frame(normals: Normals, pose: Pose) -> Normals:
    """Normals of a panorama's frame (H, W, 3) → of the world."""
    return (normals @ np.array(pose.world_from_pano, np.float32).T).astype(np.float32)


def dataset_truths(dataset: Dataset) -> Truths:
    """The truths of a dataset of ours by key; the last two are kept."""
    places = {key: place for place, key in enumerate(dataset.keys)}

    @lru_cache(maxsize=2)
    def find(key: str) -> Truth:
        if key not in places:
            raise DataError(
                f"truth as a teacher knows the panoramas of its own dataset, and {key!r} is none of"
                f" its {len(places)}: label that dataset, or name another teacher"
            )
        return sample_truth(dataset[places[key]])

    return find
