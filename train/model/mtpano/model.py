"""MTPano: one panorama in, every dense task out.

    layers      = backbone(rgb)                                          4 × C×h×w
    own[g]      = stream g of the layers, g invariant or variant
    features[t] = small head of task t on the sum of its stream, with a first prediction
    bridged[g]  = bridge g: the sum attends to the features of all tasks
    final[t]    = own[g] + inject(bridged[g]) + adapter_t(features[t])   4 × C×h×w
    result[t]   = DPT neck and head of task t on final[t]                at the picture's size

Auxiliary tasks end at their small head. With everything off, DPT reads the backbone's layers; with
new weights, what stands between adds exactly nothing.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from panoforge.core.errors import DataError
from panoforge.train.model.mtpano.backbone import Backbone
from panoforge.train.model.mtpano.bridge import Bridge
from panoforge.train.model.mtpano.dpt import DptHead
from panoforge.train.model.mtpano.heads import (
    GROUPS,
    Adapter,
    AnyTask,
    Group,
    SmallHead,
    meaning,
    raw_channels,
)
from panoforge.train.model.mtpano.streams import Stream
from panoforge.train.settings.mtpano import MtpanoSettings


@dataclass(frozen=True)
class DensePrediction:
    """What the model says of B panoramas of H×W pixels; None for tasks that it does not have.

    Attributes:
        semantic: logits float32 B×K×H×W, in the order of the label set `settings.classes`.
        depth_m: metres along the ray, float32 B×H×W, positive.
        normal: unit vectors float32 B×3×H×W in world axes, the camera upright.
        intermediate: first predictions of all tasks, auxiliary ones too, at the tokens' resolution
            h×w: in the same units; `image_gradient` B×2×h×w, `edge_distance` B×h×w,
            `point_map` B×3×h×w in metres.
    """

    semantic: Tensor | None
    depth_m: Tensor | None
    normal: Tensor | None
    intermediate: dict[AnyTask, Tensor]


class Mtpano(nn.Module):
    """The model.

    Args:
        settings: its parts.
        classes: number of classes of the semantic task.
        backbone_config: text of the backbone's config.json, where it is from a folder.
    """

    def __init__(
        self, settings: MtpanoSettings, classes: int, backbone_config: str | None = None
    ) -> None:
        super().__init__()
        self.settings, self.classes = settings, classes
        self.backbone = Backbone(settings.backbone, backbone_config)
        layer, channels = self.backbone.channels, settings.channels
        self.tasks: tuple[AnyTask, ...] = settings.tasks
        if settings.streams:
            self.tasks = (*settings.tasks, *settings.auxiliary)
        groups: list[Group] = [
            group
            for group in ("invariant", "variant")
            if settings.streams and any(GROUPS[task] == group for task in self.tasks)
        ]
        azimuth = {"invariant": None, "variant": settings.azimuth}
        self.streams: Any = nn.ModuleDict(
            {g: Stream(layer, channels, settings.mixers, azimuth[g]) for g in groups}
        )
        self.first = nn.ModuleDict(
            {
                task: SmallHead(channels, raw_channels(task, classes))
                for task in (self.tasks if settings.streams else ())
            }
        )
        self.bridges: Any = nn.ModuleDict(
            {
                group: Bridge(group, self.tasks, channels, layer, settings.truncation)
                for group in (groups if settings.bridge else ())
            }
        )
        self.adapters: Any = nn.ModuleDict(
            {
                task: nn.ModuleList(Adapter(channels, layer) for _ in range(4))
                for task in (settings.tasks if settings.streams else ())
            }
        )
        self.heads = nn.ModuleDict(
            {
                task: DptHead(
                    layer, channels, raw_channels(task, classes), settings.backbone.patch_px
                )
                for task in settings.tasks
            }
        )

    def forward(self, rgb: Tensor) -> DensePrediction:
        """Predict all tasks.

        Args:
            rgb: float32 B×3×H×W in [0, 1], W = 2·H, H a multiple of two tokens.

        Returns:
            The predictions.

        Raises:
            DataError: the pictures are of another shape.
        """
        self.check_shape(rgb)
        final, first = self.features(rgb)
        azimuth = self.settings.azimuth
        full = {task: meaning(task, self.heads[task](final[task]), azimuth) for task in final}
        return DensePrediction(
            full.get("semantic"),
            full.get("depth"),
            full.get("normal"),
            {task: meaning(task, raw, azimuth) for task, raw in first.items()},
        )

    def features(self, rgb: Tensor) -> tuple[dict[AnyTask, list[Tensor]], dict[AnyTask, Tensor]]:
        """The four layers that each task's neck reads, and the raw first predictions."""
        layers = self.backbone(rgb)
        if not self.settings.streams:
            return {task: layers for task in self.settings.tasks}, {}
        own: dict[Group, list[Tensor]] = {g: s(layers) for g, s in self.streams.items()}
        sums = {g: stream.aggregate(own[g]) for g, stream in self.streams.items()}
        features: dict[AnyTask, Tensor] = {}
        first: dict[AnyTask, Tensor] = {}
        for task in self.tasks:
            features[task], first[task] = self.first[task](sums[GROUPS[task]])
        for group, bridge in self.bridges.items():
            own[group] = bridge.injected(own[group], bridge(sums[group], features))
        final: dict[AnyTask, list[Tensor]] = {
            task: [
                layer + adapter(features[task])
                for layer, adapter in zip(own[GROUPS[task]], self.adapters[task], strict=True)
            ]
            for task in self.settings.tasks
        }
        return final, first

    def check_shape(self, rgb: Tensor) -> None:
        """DataError unless these are whole panoramas of whole tokens."""
        step = 2 * self.settings.backbone.patch_px
        if rgb.dim() != 4 or rgb.shape[1] != 3 or rgb.shape[-1] != 2 * rgb.shape[-2]:
            raise DataError(
                "expected equirectangular panoramas B×3×H×W, twice as wide as high, got"
                f" {'×'.join(map(str, rgb.shape))}: the model sees whole spheres only"
            )
        if rgb.shape[-2] % step:
            raise DataError(
                f"expected a height that is a multiple of {step} px (two tokens), got"
                f" {rgb.shape[-2]}: resize the panorama, the model was made for"
                f" {2 * self.settings.height_px}×{self.settings.height_px}"
            )
