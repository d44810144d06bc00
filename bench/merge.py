"""Merging a scan's masks into the panorama: time and memory of gathering in footprints, band by
band, against the plain way.

The work: 24 views × N objects of 256² float32 logits into a panorama (4096×2048 and 100 objects;
--quick 1024×512 and 30). Peer: what one writes first with torch: for each frame a sampling grid
over the whole panorama, `grid_sample` of all objects at full size, weighted sums, one division.
The objects are caps of 15° around random directions, as each view would show them. Until
2026-11-29 each view had masks of its own: their union, `merge.rule=max`, was many objects in every
band, which no scene gives. Asserted first: both equal a float64 reference within 1e-4 at 2,000
pixels spread over the panorama, seam and poles included. Memory: what a forked process needs beyond
its inputs, at its peak; with a GPU, where the logits are then, what is allocated there.
"""

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    spread,
    use_one_thread,
    version,
)

CLAMP = 10.0
LOGITS = 256


def plain(views: Sequence, frames: Sequence, n: int, width: int, height: int) -> Any:
    """Full-panorama grid_sample per frame: merged logits N×H×W."""
    import torch

    from panoforge.core.geometry.sphere import pixel_to_direction, view_rotation
    from panoforge.eval.views.frames import EDGE_WEIGHT

    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(height)[:, None], width, height
    )
    device = frames[0].logits.device
    at = torch.from_numpy(directions.astype(np.float32)).to(device)
    above, total = (
        torch.zeros(n, height, width, device=device),
        torch.zeros(height, width, device=device),
    )
    for frame in frames:
        view = views[frame.frame]
        local = at @ torch.from_numpy(view_rotation(view).astype(np.float32)).to(device)
        place = local[..., :2] / (local[..., 2:] * np.tan(np.radians(view.fov_deg) / 2))
        seen = (local[..., 2] > 1e-6) & (place.abs() <= 1).all(dim=-1)
        tent = (1 - place.abs()).clamp(0, 1)
        weight = torch.where(
            seen, EDGE_WEIGHT + (1 - EDGE_WEIGHT) * tent[..., 0] * tent[..., 1], 0.0
        )
        logits = frame.logits.clamp(-CLAMP, CLAMP)[None]
        sampled = torch.nn.functional.grid_sample(
            logits, place[None], padding_mode="border", align_corners=False
        )[0]
        above[torch.from_numpy(frame.objects).to(device)] += sampled * weight
        total += weight
    return above / total


def reference(
    views: Sequence, frames: Sequence, n: int, u: int, v: int, width: int, height: int
) -> np.ndarray:
    """Merged logits of one pixel in float64."""
    from panoforge.core.geometry.sphere import direction_to_view_pixel, pixel_to_direction
    from panoforge.eval.views.frames import centre_weight

    above, total = np.zeros(n), 0.0
    for frame in frames:
        view = views[frame.frame]
        x, y, inside = direction_to_view_pixel(pixel_to_direction(u, v, width, height), view)
        if not inside:
            continue
        weight = float(
            centre_weight((x + 0.5) / view.size_px * 2 - 1, (y + 0.5) / view.size_px * 2 - 1)
        )
        column, row = (
            float(np.clip((p + 0.5) / view.size_px * LOGITS - 0.5, 0, LOGITS - 1)) for p in (x, y)
        )
        left, top = min(int(column), LOGITS - 2), min(int(row), LOGITS - 2)
        a, b = column - left, row - top
        corners = np.clip(
            frame.logits[:, top : top + 2, left : left + 2].cpu().numpy().astype(np.float64),
            -CLAMP,
            CLAMP,
        )
        above += weight * (np.array([1 - b, b]) @ corners @ np.array([1 - a, a]))
        total += weight
    return above / total


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak memory that `work` needs beyond what is there: on the GPU, or of a forked process."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - allocated
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(write, str(peak - before).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return int(text)


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    import torch

    from panoforge.core.geometry.scan import ScanSpec, scan_views
    from panoforge.core.geometry.sphere import view_pixel_to_direction
    from panoforge.eval.views.frames import PerspectiveFrame
    from panoforge.eval.views.merge import FrameLogits, merge_bands, merge_masks

    torch.set_num_threads(1)
    width, n = (256, 3) if args.toy else (1024, 30) if args.quick else (4096, 100)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    height = width // 2
    views = scan_views(ScanSpec(size_px=LOGITS))
    projections = [PerspectiveFrame(view) for view in views]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    place = np.arange(LOGITS)
    frames = []
    for index, view in enumerate(views):
        rays = view_pixel_to_direction(place[None, :], place[:, None], view)
        distance = np.arccos(np.clip(centres @ rays.reshape(-1, 3).T, -1, 1))
        logits = (8 - 30 * distance).reshape(n, LOGITS, LOGITS).astype(np.float32)
        frames.append(FrameLogits(index, np.arange(n), torch.from_numpy(logits).to(device)))

    def ours() -> object:
        return merge_masks(projections, frames, n, width, height, clamp=CLAMP)

    def maximum() -> object:
        return merge_masks(projections, frames, n, width, height, rule="max", clamp=CLAMP)

    def peer() -> object:
        return plain(views, frames, n, width, height) > 0

    memory = {
        "ours": peak_bytes(ours),
        "plain": peak_bytes(peer),
    }  # first, while nothing freed lies about
    merged = plain(views, frames, n, width, height)
    banded = torch.cat(
        [band for _, band in merge_bands(projections, frames, n, width, height, clamp=CLAMP)], dim=1
    )
    pixels = [(0, 0), (width - 1, 0), (0, height - 1), (0, height // 2), (width - 1, height // 2)]
    pixels += [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2000)]
    off: dict[str, list[str]] = {"ours": [], "plain": []}
    for u, v in pixels[:50] if args.toy else pixels:
        expected = reference(views, frames, n, u, v, width, height)
        for name, found in (("ours", banded), ("plain", merged)):
            error = np.abs(found[:, v, u].cpu().numpy() - expected).max()
            if error > 1e-4:
                off[name].append(f"({u}, {v}) by {error:.2g}")
    # On a GPU float32 may round a pixel across a view's edge, where the weight jumps.
    few = 5 if device == "cuda" else 0
    assert max(map(len, off.values())) <= few, off
    del merged, banded

    seconds = interleave(
        {"ours": ours, "maximum": maximum, "plain": peer},
        repeats=1 if args.toy else 5,
        warm_up=not args.toy,
    )
    print(
        f"ours {spread(seconds['ours'])} ms, plain {spread(seconds['plain'])} ms; "
        f"memory {memory['ours'] / 1e6:.0f} MB and {memory['plain'] / 1e6:.0f} MB"
    )
    name = f"full-panorama grid_sample, {version('torch')}"
    finish(
        Outcome(
            "merge",
            ours=median(seconds["ours"]),
            unit="s",
            n=n,
            facts={"width": width},
            peers=(
                Peer(name, median(seconds["plain"]), target=5),
                Peer(
                    "merge.rule=mean, against merge.rule=max",
                    median(seconds["ours"]),
                    target=1,
                    ours=median(seconds["maximum"]),
                ),
                Peer(
                    f"{name}: memory",
                    memory["plain"] / 1e6,
                    target=5,
                    ours=memory["ours"] / 1e6,
                    unit="MB",
                ),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
