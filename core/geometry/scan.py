"""Scan trajectories: a panorama as a smooth perspective video.

SAP §3, "fixed-trajectory perspective scanning".

A scan is a grid of views in column-first zig-zag order: up one column, down the next. So
consecutive frames always overlap, and the last frame differs from the first in yaw only: the loop
closes. Other orders are there for SAP's ablation (`scan_order`). `scan_views(spec, yaw0_deg)` is
pure; `random_yaw0_deg(rng, …)` draws the yaw of a training scan. With 90° and 50 % the grid has 8
columns × 3 rows.

The overlap asked for is a lower bound: neighbouring views are `fov·(1 − overlap)` apart or less.
Steps must divide the circle, and flat images that only touch at their middles leave gaps at the
corners. The grid is made denser until a conservative test finds no gap, so every pixel of the
sphere is seen by at least one frame.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Literal, get_args

import numpy as np

from panoforge.core.geometry.sphere import View, lonlat_to_direction, view_rotation

Trajectory = Literal["column_first", "row_first", "spiral", "random"]
# of the one shuffle that `random` is: the same for every panorama, or methods would not be
# comparable
RANDOM_SEED = 0


@dataclass(frozen=True)
class ScanSpec:
    """A scan but for its yaw: what SAP fixes at fov 90°, overlap 0.5, and SAM2's input size."""

    fov_deg: float = 90.0
    overlap: float = 0.5
    size_px: int = 1024

    def __post_init__(self) -> None:
        if not 20 <= self.fov_deg <= 120:
            raise ValueError(
                "scan fov_deg must be in [20, 120] (wider views stretch, narrower ones explode),"
                f" got {self.fov_deg}"
            )
        if not 0 <= self.overlap <= 0.9:
            raise ValueError(f"scan overlap must be in [0, 0.9], got {self.overlap}")


@dataclass(frozen=True)
class ScanGrid:
    """Columns at equal yaw steps, rows at `pitches_deg` from the lowest up."""

    columns: int
    pitches_deg: tuple[float, ...]

    @property
    def yaw_step_deg(self) -> float:
        """Degrees of yaw from one column of views to the next."""
        return 360.0 / self.columns


@lru_cache(maxsize=64)
def scan_grid(spec: ScanSpec) -> ScanGrid:
    """The grid of fewest views with at least the overlap asked for that leaves no direction unseen.

    The number of columns is even, so that a zig-zag ends on the row where it began.
    """
    step = spec.fov_deg * (1 - spec.overlap)
    columns = 2 * ceil(180 / step - 1e-9)
    rows = max(1, ceil((180 - spec.fov_deg) / step - 1e-9) + 1)
    sizes = [(columns + 2 * i, rows + j) for i in range(8) for j in range(8)]
    for size in sorted(sizes, key=lambda size: (size[0] * size[1], size[0])):
        grid = _grid(spec.fov_deg, *size)
        if _sees_everything(grid, spec.fov_deg):
            return grid
    raise AssertionError(f"no covering grid found for {spec}")


def _grid(fov_deg: float, columns: int, rows: int) -> ScanGrid:
    highest = max(0.0, 90 - fov_deg / 2)
    pitches = np.linspace(-highest, highest, rows) if rows > 1 else np.zeros(1)
    return ScanGrid(columns, tuple(float(p) for p in pitches))


def _sees_everything(grid: ScanGrid, fov_deg: float, steps: int = 180) -> bool:
    """Whether every direction lies in some view.

    Tested on a grid of directions against views a shade narrower than the real ones. Its points
    hold the lines where gaps open first: column borders, and between rows. The margin covers what
    lies beside them; a property test looks at whole panoramas.
    """
    lat = np.radians(np.linspace(-90, 90, steps + 1))
    half_step = grid.yaw_step_deg / 2
    lon = np.radians(np.linspace(-half_step, half_step, max(3, int(2 * grid.yaw_step_deg) | 1)))
    directions = lonlat_to_direction(*np.meshgrid(lon, lat))
    margin_deg = 0.05
    seen = np.zeros(directions.shape[:2], bool)
    limit = np.tan(np.radians(fov_deg) / 2 - np.radians(margin_deg))
    for column in range(-2, 3):
        for pitch in grid.pitches_deg:
            local = directions @ view_rotation(View(column * grid.yaw_step_deg, pitch, fov_deg, 1))
            forward = local[..., 2]
            seen |= (
                (forward > 1e-6)
                & (np.abs(local[..., 0]) <= limit * forward)
                & (np.abs(local[..., 1]) <= limit * forward)
            )
    return bool(
        seen[1:-1].all()
    )  # the poles are exactly on a border of the outermost views when rows reach just so far


def scan_views(
    spec: ScanSpec, yaw0_deg: float = 0.0, trajectory: Trajectory = "column_first"
) -> tuple[View, ...]:
    """The views of one scan.

    Column k has yaw `yaw0_deg + k·step`, wrapped to [−180, 180). All trajectories (SAP, Fig. 3)
    visit the same views, in the order of `scan_order`.
    """
    grid = scan_grid(spec)
    return tuple(
        View(
            (yaw0_deg + column * grid.yaw_step_deg + 180) % 360 - 180,
            grid.pitches_deg[row],
            spec.fov_deg,
            spec.size_px,
        )
        for column, row in scan_order(grid.columns, len(grid.pitches_deg), trajectory)
    )


def scan_order(
    columns: int, rows: int, trajectory: Trajectory = "column_first"
) -> list[tuple[int, int]]:
    """(column, row from below) of each view in turn, every pair once.

    - `column_first`: up one column, down the next. Neighbours always overlap, the last view differs
      from the first in yaw only.
    - `row_first`: around one row to the right, around the next to the left. Neighbours overlap, the
      loop does not close.
    - `spiral`: around to the right, a row higher after each turn, as a peel comes off an orange.
    - `random`: one fixed shuffle. It shows what memory does when neighbours share nothing.
    """
    if trajectory == "column_first":
        return [
            (c, row)
            for c in range(columns)
            for row in (range(rows) if c % 2 == 0 else reversed(range(rows)))
        ]
    if trajectory == "row_first":
        return [
            (c, row)
            for row in range(rows)
            for c in (range(columns) if row % 2 == 0 else reversed(range(columns)))
        ]
    if trajectory == "spiral":
        return [(c, row) for row in range(rows) for c in range(columns)]
    if trajectory == "random":
        shuffled = np.random.default_rng(RANDOM_SEED).permutation(columns * rows)
        return [(int(k) // rows, int(k) % rows) for k in shuffled]
    raise ValueError(f"trajectory is one of {', '.join(get_args(Trajectory))}, got {trajectory!r}")


def random_yaw0_deg(rng: np.random.Generator, pano_width: int) -> float:
    """A scan's first yaw for training, uniform over whole columns of a panorama.

    A shift by whole columns costs nothing (`panoforge.core.geometry.views`), and is finer than any
    model can tell: 0.09° at 4K.
    """
    return float(rng.integers(pano_width)) * 360.0 / pano_width - 180.0
