"""The run's own videos as sources of clips: whole panoramas in time, and a scan over them.

    video           consecutive frames, `frame_step` apart, whole and turned to one yaw; with
                    `clip.tilt_jitter_deg` the camera leans by the plan's draw
    scan_of_video   frame t of the clip is view t of SAP's scan, of frame t of the video: things
                    move while the camera goes round

Ids are constant through a video, also through absence, so an object's mask may be empty for a while
and come back. Objects are drawn by the solid angle that they show in the first frame. A video that
is shorter than the clip is walked there and back. Where the first frame shows nothing large enough,
the clip begins at the next one that does. No click is carried along: things move.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import View, row_area_sr
from panoforge.core.geometry.views import wrap_panorama
from panoforge.core.names import frame_key
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.types import Floats, Labels, Rgb
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import (
    areas_sr,
    choose_objects,
    clip_views,
    nothing_seen,
    panorama_arrays,
    weighted_count,
)
from panoforge.train.data.plan import ClipPlan, clip_plan
from panoforge.train.data.sources.draw import Draw, as_planned, make_clip, source_seed, walk
from panoforge.train.data.sources.shards import Shards
from panoforge.train.data.sources.whole import StillTurn
from panoforge.train.data.warp import frame_area_sr, is_warped, look

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

Panorama = tuple[Rgb, Labels]  # picture and ids


class OwnVideos(Shards):
    """Whole panoramas of the videos of one split (`kind: video`)."""

    def __init__(
        self, name: str, dataset: Dataset, config: TrainConfig, frame_step: int = 1
    ) -> None:
        super().__init__(name, dataset, config)
        self.seed, self.step = source_seed(config.seed, name), frame_step
        self.videos: list[str] = dataset.videos["video"].to_pylist()
        self.frames: list[int] = dataset.videos["frames"].to_pylist()
        self.widths = dataset.videos["width"].to_pylist()
        if not self.videos:
            raise DataError(
                f"mixture.{name}: {dataset.folder} holds no videos in the split that is trained on:"
                " render some (video: in a render config), or take the entry out of the mixture"
            )

    def __len__(self) -> int:
        return len(self.videos) * self.config.clip.clips_per_panorama

    def plan(self, position: int) -> ClipPlan:
        """The clip at `position`, before any pixel; its sample is the number of a video."""
        return clip_plan(self.config.clip, self.seed, position, self.widths)

    def key(self, position: int) -> str:
        """The video that is drawn at `position`."""
        return self.videos[self.plan(position).sample]

    def sample(self, plan: ClipPlan) -> Sample:
        """The first frame of the plan's video."""
        return self.dataset.by_key(frame_key(self.videos[plan.sample], 0), ("rgb", "instance"))

    def panorama(self, plan: ClipPlan, frame: int) -> Panorama:
        """Picture and ids of one frame."""
        key = frame_key(self.videos[plan.sample], frame)
        return panorama_arrays(self.dataset.by_key(key, ("rgb", "instance")))

    def paths(self, plan: ClipPlan) -> list[list[int]]:
        """The frames of the clip from each place where it may begin, the drawn one first."""
        frames = list(range(0, self.frames[plan.sample], self.step))
        length = self.config.clip.frames
        starts = max(1, len(frames) - length + 1)
        first = int(np.random.default_rng(plan.object_seed).integers(starts))
        found = (
            walk(len(frames), length, (first + shift) % starts, plan.reverse)
            for shift in range(starts)
        )
        return [[frames[t] for t in path] for path in found]

    def clip(self, position: int) -> "VideoDatapoint":
        """The clip at `position`, a pure function of seed and position."""
        plan = self.plan(position)
        for path in self.paths(plan):
            rgb, labels = self.panorama(plan, path[0])
            height, width = labels.shape
            areas = weighted_count(labels, np.repeat(row_area_sr(width, height), width))
            ids = self.choose(areas, plan)
            if ids:
                break
        else:
            raise nothing_seen(self.videos[plan.sample], "frame", self.config.clip)
        shown = [(rgb, labels), *(self.panorama(plan, t) for t in path[1:])]
        images, seen = self.turned(shown, plan)
        return self.made(plan, images, seen, ids)

    def choose(self, areas: Floats, plan: ClipPlan) -> list[int]:
        """The ids that a clip follows, of those that its first frame shows."""
        return choose_objects(areas, self.config.clip, np.random.default_rng(plan.object_seed))

    def turned(self, shown: list[Panorama], plan: ClipPlan) -> tuple[list[NDArray], list[NDArray]]:
        """Pictures and ids of the frames, turned to the plan's yaw and leant."""
        turn = StillTurn(plan.yaw0_deg, plan.tilt_deg, plan.tilt_towards_deg)
        found = [turn.shown(rgb, [ids], self.config.model.image_size) for rgb, ids in shown]
        return [image for image, _ in found], [ids for _, (ids,) in found]

    def made(
        self, plan: ClipPlan, images: list[NDArray], seen: list[NDArray], ids: list[int]
    ) -> "VideoDatapoint":
        """The clip of pictures and ids."""
        flip = as_planned(self.config.clip, plan)
        return make_clip(
            plan.position,
            images,
            {i: [ids_of_frame == i for ids_of_frame in seen] for i in ids},
            Draw(plan.object_seed, flip, self.config.model.image_size, 0.0),
            np.random.default_rng(plan.colour_seed),
        )


class ScansOfVideos(OwnVideos):
    """SAP's scan over moving frames (`kind: scan_of_video`)."""

    def clip(self, position: int) -> "VideoDatapoint":
        """The clip at `position`, a pure function of seed and position."""
        plan, size = self.plan(position), self.config.model.image_size
        views = clip_views(self.config.clip, plan, size)
        path = self.paths(plan)[0]
        labels = wrap_panorama(self.panorama(plan, path[0])[1])
        for first in range(len(views)):
            seen = look(labels, views[first], plan, labels=True)
            ids = self.choose(shown_sr(seen, views[first], plan), plan)
            if ids:
                break
        else:
            raise nothing_seen(self.videos[plan.sample], "view of its scan", self.config.clip)
        order = (views[first:] + views[:first]) * 2
        images, found = [], []
        for view, t in zip(order, path, strict=False):
            rgb, labels_t = self.panorama(plan, t)
            images.append(look(wrap_panorama(rgb), view, plan))
            found.append(look(wrap_panorama(labels_t), view, plan, labels=True))
        return self.made(plan, images, found, ids)


def shown_sr(seen: NDArray[np.uint16], view: View, plan: ClipPlan) -> Floats:
    """Steradians of every id in a plan's frame, by id."""
    if is_warped(plan):
        return weighted_count(seen, frame_area_sr(plan, view))
    return areas_sr(seen, view.fov_deg)
