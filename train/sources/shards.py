"""The panorama shards as a source: scan clips, as `train.plan` lays them out and `train.clips` cuts them."""

import hashlib
from typing import TYPE_CHECKING

from pano.shards.read import Dataset
from train.clips import build_clip
from train.config import TrainConfig
from train.plan import ClipPlan, clip_plan

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint


class Shards:
    """Scan clips of one split. Draws with the run's own seed: alone in a mixture it is a run without one."""

    def __init__(self, name: str, dataset: Dataset, config: TrainConfig) -> None:
        self.name, self.dataset, self.config = name, dataset, config
        self.widths: list[int] = dataset.samples["width"].to_pylist()

    def __len__(self) -> int:
        return len(self.dataset) * self.config.clip.clips_per_panorama

    def plan(self, position: int) -> ClipPlan:
        """The clip at `position`, before any pixel."""
        return clip_plan(self.config.clip, self.config.seed, position, self.widths)

    def key(self, position: int) -> str:
        return self.dataset.samples["key"][self.plan(position).sample].as_py()

    def clip(self, position: int) -> "VideoDatapoint":
        plan = self.plan(position)
        return build_clip(self.dataset[plan.sample], plan, self.config.clip, self.config.model.image_size,
                          clicks=self.config.prompt.sphere_click > 0)

    def sha256(self) -> str:
        return data_sha256(self.dataset)


def data_sha256(data: Dataset) -> str:
    """Digest of the samples trained on, in their order: keys and content digests."""
    rows = zip(data.samples["key"].to_pylist(), data.samples["sha256"].to_pylist(), strict=True)
    return hashlib.sha256("\n".join(f"{key} {digest}" for key, digest in rows).encode()).hexdigest()
