"""The scores J_sphere and F_sphere of 360VOTS (Xu et al., 2025).

J and boundary F with every pixel weighing its solid angle.

In mode `seam-aware` a row weighs exactly the solid angle of its pixels and outlines go on across
the seam. The published toolkit (`eval/sphgrid.py`, `eval/OPEBenchmark_360VOS.py`) differs, and mode
`official` with it. Its rows are `linspace(0, H−1, H, endpoint=False)`, that is v·(H−1)/H, so
weights are shifted by up to a row. Its outlines end at the seam. The toolkit's commit 46df313 also
integrates sin φ instead of cos φ over each row: the equator weighs nothing and the poles most. Mode
`official-sin` is that. Masks are scored at their own size; the published numbers are of 960×1920.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import row_lat
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.types import Bools
from panoforge.eval.scoring.metrics.boundary import TOLERANCE, Mode, f_measure, match_boundaries
from panoforge.eval.scoring.metrics.crops import crop_mask

SphereMode = Literal["official", "official-sin", "seam-aware"]


def row_weight_sr(height: int, width: int, mode: SphereMode = "seam-aware") -> NDArray[np.float64]:
    """What a pixel of each row weighs, (H,), in steradians.

    With `official-sin`, in nothing that means anything.
    """
    if mode == "seam-aware":
        return row_area_sr(width, height)
    row = np.linspace(0, height - 1, height, endpoint=False)
    lat, half = row_lat(row, height), np.pi / height / 2
    antiderivative = np.sin if mode == "official" else np.cos
    return np.abs(antiderivative(lat + half) - antiderivative(lat - half)) * (2 * np.pi / width)


def jaccard_sphere(predicted: Bools, true: Bools, mode: SphereMode = "seam-aware") -> float:
    """J_sphere of two bool H×W masks: solid angle of both / of either; 1 where both are empty."""
    height, width = true.shape
    weight = row_weight_sr(height, width, mode)
    both = weight @ np.count_nonzero(predicted & true, axis=1)
    either = weight @ np.count_nonzero(predicted | true, axis=1)
    nothing = (
        either <= 0 if mode == "seam-aware" else np.isclose(either, 0)
    )  # official: up to 1e-8 sr is nothing
    return 1.0 if nothing else float(both / either)


def boundary_f_sphere(
    predicted: Bools, true: Bools, mode: SphereMode = "seam-aware", *, tolerance: float = TOLERANCE
) -> float:
    """F_sphere of two bool H×W masks.

    Boundary F with every boundary pixel weighing its solid angle.
    """
    wrap = mode == "seam-aware"
    a, b = (crop_mask(mask, wrap=wrap) for mask in (predicted, true))
    height, width = true.shape
    flat: Mode = "seam-aware" if wrap else "official"
    matched = match_boundaries(a, b, height, width, flat, tolerance=tolerance)
    return f_measure(matched, row_weight_sr(height, width, mode))
