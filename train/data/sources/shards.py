"""The panorama shards as a source of clips.

`panoforge.train.data.plan` lays scan clips out, `panoforge.train.data.clips` cuts them. With
`clip.frames_are: panorama` a clip is the whole panorama, turning
(`panoforge.train.data.sources.whole`). With `patches` it is windows of the panorama
(`panoforge.train.data.sources.patches`).
"""

import hashlib
from typing import TYPE_CHECKING

from panoforge.core.foreign.left_out import NOTHING
from panoforge.core.shards.read import Dataset, Sample
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import build_clip
from panoforge.train.data.plan import ClipPlan, clip_plan
from panoforge.train.data.sources.patches import patch_clip
from panoforge.train.data.sources.whole import whole_clip

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
        builds = {"views": build_clip, "panorama": whole_clip, "patches": patch_clip}
        return builds[self.config.clip.frames_are](
            self.sample(plan),
            plan,
            self.config.clip,
            self.config.model.image_size,
            clicks=self.config.prompt.sphere_click > 0,
        )

    def sha256(self) -> str:
        """Digest of which samples there are."""
        return data_sha256(self.dataset)


def data_sha256(data: Dataset) -> str:
    """Digest of the samples trained on, in their order: keys and content digests."""
    rows = zip(data.samples["key"].to_pylist(), data.samples["sha256"].to_pylist(), strict=True)
    return hashlib.sha256("\n".join(f"{key} {digest}" for key, digest in rows).encode()).hexdigest()
