"""A batch of panoramas with all that the dense losses compare with, as tensors.

Targets of two auxiliary tasks are made here from the picture that the model sees, on the loader's
threads (MTPano's, as far as they are known):

- `image_gradient`: Sobel differences of the grey picture, its columns wrapped, its first and last
  row repeated; the outer rows are 0.
- `edge_distance`: log(1 + d), d the distance in pixels to the nearest pixel whose gradient is
  stronger than `EDGE`. Edges in the `POLAR_ROWS` outermost rows at either pole do not count, as one
  thing is smeared over whole rows there. It goes over the seam.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.train.data.panoramas import DensePanorama
from panoforge.train.settings.mtpano import Auxiliary

if TYPE_CHECKING:
    from torch import Tensor

EDGE = 0.5
POLAR_ROWS = 8


@dataclass(frozen=True)
class DenseBatch:
    """B panoramas of H×W; None for what is not learnt.

    Attributes:
        rgb: float32 B×3×H×W in [0, 1].
        semantic: int64 B×H×W, 255 void.
        depth_m: float32 B×H×W, +inf unknown.
        normal: float32 B×3×H×W, 0 unknown.
        image_gradient: float32 B×2×H×W.
        edge_distance: float32 B×H×W.
        fit_depth: bool B, whether depth is known up to scale and shift only.
    """

    rgb: "Tensor"
    semantic: "Tensor | None"
    depth_m: "Tensor | None"
    normal: "Tensor | None"
    image_gradient: "Tensor | None"
    edge_distance: "Tensor | None"
    fit_depth: "Tensor"

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        """The same on another device."""
        moved: dict[str, Any] = {
            field.name: value if value is None else value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }
        return type(self)(**moved)

    def __len__(self) -> int:
        return len(self.rgb)


def collate_panoramas(
    panoramas: Sequence[DensePanorama], auxiliary: Sequence[Auxiliary]
) -> DenseBatch:
    """Panoramas of one size as a batch, with the auxiliary targets that are asked for."""
    import torch

    gradients = [image_gradient(one.rgb) for one in panoramas]

    def stacked(arrays: Sequence[NDArray | None], dtype: Any = None) -> "Tensor | None":
        found = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays if a is not None]
        return torch.stack(found).to(dtype) if found else None

    rgb = stacked([one.rgb.transpose(2, 0, 1) for one in panoramas])
    assert rgb is not None
    return DenseBatch(
        rgb=rgb,
        semantic=stacked([one.semantic for one in panoramas], torch.int64),
        depth_m=stacked([one.depth_m for one in panoramas]),
        normal=stacked(
            [None if one.normal is None else one.normal.transpose(2, 0, 1) for one in panoramas]
        ),
        image_gradient=stacked(gradients) if "image_gradient" in auxiliary else None,
        edge_distance=stacked([edge_distance(gradient) for gradient in gradients])
        if "edge_distance" in auxiliary
        else None,
        fit_depth=torch.tensor([one.fit_depth for one in panoramas]),
    )


def image_gradient(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sobel differences along columns and rows, float32 2×H×W, of a picture H×W×3 in [0, 1]."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    wide = np.concatenate([grey[:, -1:], grey, grey[:, :1]], axis=1)
    both = [
        cv2.Sobel(wide, cv2.CV_32F, *order, ksize=3, borderType=cv2.BORDER_REPLICATE)[:, 1:-1]
        for order in ((1, 0), (0, 1))
    ]
    found = np.stack(both)
    found[:, [0, -1]] = 0
    return found


def edge_distance(gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + pixels to the nearest edge), float32 H×W, from `image_gradient`'s 2×H×W.

    At most W/2: as far as another column can be. That too where there is no edge.
    """
    edges = np.hypot(*gradient) > EDGE
    rows = min(POLAR_ROWS, len(edges) // 4)
    edges[:rows] = edges[-rows:] = False
    width = edges.shape[1]
    around = np.concatenate([edges[:, width // 2 :], edges, edges[:, : width // 2]], axis=1)
    if not edges.any():
        return np.full(edges.shape, np.log1p(width / 2), np.float32)
    far = cv2.distanceTransform((~around).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Roots of whole numbers; OpenCV's differ in the last bit from call to call.
    squares = np.rint(np.square(far[:, width - width // 2 :][:, :width], dtype=np.float64))
    here = np.sqrt(squares)
    return np.log1p(np.minimum(here, width / 2)).astype(np.float32)
