"""The small head of each task: features that other tasks may use, and a first prediction.

A head reads its stream at the tokens' resolution. Its prediction is in the form of `RAW_CHANNELS`,
which the losses and `model` share: what a number means stands there once.

Groups are the paper's. What a turn of the camera about itself leaves as it is: semantic, depth,
image gradient, distance to edges. What it turns: normals and the point map.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from panoforge.train.model.mtpano.rays import to_world
from panoforge.train.model.mtpano.streams import ChannelNorm, zeroed
from panoforge.train.model.seam import SeamConv2d
from panoforge.train.settings.mtpano import Auxiliary, Azimuth, DenseTask

Group = Literal["invariant", "variant"]
AnyTask = DenseTask | Auxiliary
GROUPS: dict[AnyTask, Group] = {
    "semantic": "invariant",
    "depth": "invariant",
    "image_gradient": "invariant",
    "edge_distance": "invariant",
    "normal": "variant",
    "point_map": "variant",
}
RAW_CHANNELS: dict[AnyTask, int] = {  # semantic: as many as there are classes
    "depth": 1,
    "normal": 3,
    "image_gradient": 2,
    "edge_distance": 1,
    "point_map": 3,
}
LOG_DEPTH_LIMIT = 9.0  # of the exponent: 0.1 mm to 8 km
LEAST_LENGTH = 1e-6  # below it a normal has no direction


def meaning(task: AnyTask, raw: Tensor, azimuth: Azimuth) -> Tensor:
    """What raw numbers of a head say, B×C×H×W in any resolution.

    Semantic logits B×K×H×W and `image_gradient` B×2×H×W are raw. `depth` in metres B×H×W has a
    logarithm for its raw number. `normal`, unit B×3×H×W, and `point_map`, metres B×3×H×W, are in
    world axes, raw in local frames where the model knows no azimuth. `edge_distance` is B×H×W.
    """
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))  # autocast gives bfloat16
    if task == "depth":
        return raw[:, 0].clamp(-LOG_DEPTH_LIMIT, LOG_DEPTH_LIMIT).exp()
    if task == "edge_distance":
        return raw[:, 0]
    if task in ("normal", "point_map"):
        vectors = to_world(raw) if azimuth == "none" else raw
        return normalize(vectors, dim=1, eps=LEAST_LENGTH) if task == "normal" else vectors
    return raw


class SmallHead(nn.Module):
    """A task's features (B×C×h×w) and first prediction (B×raw×h×w) from its stream's map."""

    def __init__(self, channels: int, raw: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            SeamConv2d(channels, channels, 3), ChannelNorm(channels), nn.GELU()
        )
        self.predict = nn.Conv2d(channels, raw, 1)

    def forward(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Features and raw prediction."""
        features = self.features(stream)
        return features, self.predict(features)


class Adapter(nn.Module):
    """What a task's own features add to one layer: nothing until it is trained."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            SeamConv2d(channels, channels, 3), ChannelNorm(channels), nn.GELU()
        )
        self.outer = zeroed(nn.Conv2d(channels, out, 1))

    def forward(self, features: Tensor) -> Tensor:
        """B×C×h×w → B×out×h×w."""
        out: Tensor = self.outer(self.inner(features))
        return out


def raw_channels(task: AnyTask, classes: int) -> int:
    """How many raw numbers a task has for each pixel."""
    return classes if task == "semantic" else RAW_CHANNELS[task]
