"""The bridge: a stream's tokens attend to the features of all tasks (BridgeNet).

Keys and values are the tasks' features, halved by a convolution of stride 2. Features of tasks of
the *other* group come in without their gradient: what a normal's loss would have depth's features
be is not asked of them. Without truncation they come in whole.

    T' = T + attention(norm(T), norm(features of all tasks))      4 heads
    T'' = T' + mlp(norm(T'))                                       ratio 4

Rotary angles on the sphere (`vit.sphere_rotary`) tell queries and keys how far apart they look;
the paper does not say how it tells them. The result goes back into each layer of the stream by 1×1
convolutions that begin at zero.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from panoforge.train.model.mtpano.heads import GROUPS, AnyTask, Group
from panoforge.train.model.mtpano.streams import zeroed
from panoforge.train.model.mtpano.vit import rotate, sphere_rotary
from panoforge.train.model.seam import SeamConv2d
from panoforge.train.settings.mtpano import LEVELS

HEADS = 4
MLP_RATIO = 4


class Bridge(nn.Module):
    """One stream's bridge, and its way back into the stream's layers.

    Args:
        group: the stream's.
        tasks: all tasks of both groups, in a fixed order.
        channels: of streams and features; layer_channels: of the backbone's layers.
        truncation: whether the other group's features come in without their gradient.
    """

    def __init__(
        self,
        group: Group,
        tasks: tuple[AnyTask, ...],
        channels: int,
        layer_channels: int,
        truncation: bool,
    ) -> None:
        super().__init__()
        self.group, self.tasks, self.truncation = group, tasks, truncation
        self.squeeze = nn.ModuleDict(
            {task: SeamConv2d(channels, channels, 3, stride=2) for task in tasks}
        )
        self.norm_query, self.norm_key, self.norm_mlp = (nn.LayerNorm(channels) for _ in range(3))
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, MLP_RATIO * channels),
            nn.GELU(),
            nn.Linear(MLP_RATIO * channels, channels),
        )
        self.inject = nn.ModuleList(
            zeroed(nn.Conv2d(channels, layer_channels, 1)) for _ in range(LEVELS)
        )

    def forward(self, stream: Tensor, features: dict[AnyTask, Tensor]) -> Tensor:
        """The stream's map (B×C×h×w) after it has seen all tasks' features (B×C×h×w each)."""
        batch, channels, height, width = stream.shape
        seen = [self._squeezed(task, features[task]) for task in self.tasks]
        keys = torch.cat([part.flatten(2).mT for part in seen], dim=1)
        tokens = stream.flatten(2).mT
        query = self._heads(self.query(self.norm_query(tokens)))
        key, value = map(self._heads, self.key_value(self.norm_key(keys)).chunk(2, dim=-1))
        query = rotate(query, *sphere_rotary(height, width, query.shape[-1]))
        cos, sin = sphere_rotary(height // 2, width // 2, key.shape[-1])
        repeats = (len(self.tasks), 1)
        key = rotate(key, cos.repeat(repeats), sin.repeat(repeats))
        found = scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(self.norm_mlp(tokens))
        return tokens.mT.reshape(batch, channels, height, width)

    def injected(self, layers: list[Tensor], bridged: Tensor) -> list[Tensor]:
        """The stream's layers with the bridge's result in each."""
        return [layer + inject(bridged) for layer, inject in zip(layers, self.inject, strict=True)]

    def _squeezed(self, task: AnyTask, features: Tensor) -> Tensor:
        other = GROUPS[task] != self.group
        squeezed: Tensor = self.squeeze[task](
            features.detach() if other and self.truncation else features
        )
        return squeezed

    def _heads(self, tokens: Tensor) -> Tensor:
        """B×N×C → B×heads×N×C/heads."""
        return tokens.unflatten(-1, (HEADS, -1)).transpose(1, 2)
