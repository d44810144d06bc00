"""The panorama shards as a source of clips.

`panoforge.train.data.plan` lays scan clips out, `panoforge.train.data.clips` cuts them. With
`clip.frames_are: panorama` a clip is the whole panorama, which turns `turn_deg` a frame: for
PanoSAM2's parts and for ablations. With `patches` it is windows of the panorama
(`panoforge.train.data.sources.patches`), another of SAP's ablations.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.left_out import NOTHING
from panoforge.core.geometry.pixels import whole_columns
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.shards.read import Dataset, Sample
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import build_clip, choose_objects, weighted_count
from panoforge.train.data.plan import ClipPlan, clip_plan
from panoforge.train.data.sources.draw import Draw, make_clip
from panoforge.train.data.sources.patches import patch_clip
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint


class Shards:
    """Scan clips of one split.

    Draws with the run's own seed: alone in a mixture it is a run without one.
    """

    def __init__(self, name: str, dataset: Dataset, config: TrainConfig) -> None:
        self.name, self.dataset, self.config = name, dataset, config
        self.left_out = NOTHING
        self.widths: list[int] = dataset.samples["width"].to_pylist()

    def __len__(self) -> int:
        return len(self.dataset) * self.config.clip.clips_per_panorama

    def plan(self, position: int) -> ClipPlan:
        """The clip at `position`, before any pixel."""
        return clip_plan(self.config.clip, self.config.seed, position, self.widths)

    def key(self, position: int) -> str:
        """The key of the panorama that is drawn at `position`."""
        return self.dataset.samples["key"][self.plan(position).sample].as_py()

    def sample(self, plan: ClipPlan) -> Sample:
        """What the plan's clip is cut from. Depth and normals, most of its bytes, are not read."""
        return self.dataset.read(plan.sample, ("rgb", "instance"))

    def clip(self, position: int) -> "VideoDatapoint":
        """The clip at `position`, a pure function of seed and position."""
        plan = self.plan(position)
        sample = self.sample(plan)
        if self.config.clip.frames_are == "panorama":
            return whole_clip(sample, plan, self.config.clip, self.config.model.image_size)
        build = patch_clip if self.config.clip.frames_are == "patches" else build_clip
        return build(
            sample,
            plan,
            self.config.clip,
            self.config.model.image_size,
            clicks=self.config.prompt.sphere_click > 0,
        )

    def sha256(self) -> str:
        """Digest of which samples there are."""
        return data_sha256(self.dataset)


def whole_clip(
    sample: Sample, plan: ClipPlan, settings: ClipSettings, size_px: int
) -> "VideoDatapoint":
    """A clip of whole panoramas squeezed to S×S.

    Frame t looks at the plan's yaw and t turns more, so objects cross the seam. They are drawn by
    their solid angle among those of at least `min_area_sr`.
    """
    rgb, labels = sample.read("rgb"), sample.read("instance")
    height, width = labels.shape
    areas = weighted_count(labels, np.repeat(row_area_sr(width, height), width))
    ids = choose_objects(areas, settings, np.random.default_rng(plan.object_seed))
    if not ids:
        raise DataError(
            f"{sample.key}: it shows no instance of at least clip.min_area_sr ="
            f" {settings.min_area_sr} sr, so there is nothing to prompt: lower clip.min_area_sr, or"
            " leave the panorama out of the dataset"
        )
    turn = -settings.turn_deg if plan.reverse else settings.turn_deg
    shifts = [whole_columns(plan.yaw0_deg + t * turn, width)[0] for t in range(settings.frames)]
    turned = [np.roll(labels, -shift, axis=1) for shift in shifts]
    draw = Draw(
        plan.object_seed, settings.model_copy(update={"flip": float(plan.flip)}), size_px, 0.0
    )
    return make_clip(
        plan.position,
        [np.roll(rgb, -shift, axis=1) for shift in shifts],
        {i: [t == i for t in turned] for i in ids},
        draw,
        np.random.default_rng(plan.colour_seed),
    )


def data_sha256(data: Dataset) -> str:
    """Digest of the samples trained on, in their order: keys and content digests."""
    rows = zip(data.samples["key"].to_pylist(), data.samples["sha256"].to_pylist(), strict=True)
    return hashlib.sha256("\n".join(f"{key} {digest}" for key, digest in rows).encode()).hexdigest()
