"""What a panorama costs: ours against Infinigen 2's own exporters, in three parts that scale
differently.

A furnished room, several cameras. The stock path is `render_cycles` and then
`render_cycles_ground_truth` with their own settings and a panoramic camera, nothing kept between
views. Three parts are reported apart. The *fixed* cost of a view is all but the time from the
first to the last sample: sync, BVH, files, the second render's too. Then core-seconds per *million
samples*. Then the *samples* that equal error takes, against a many-sample reference of the full
materials. Then what they add up to at 4096×2048 here, and where sampling is 100 times faster. Fixed
costs and slopes are of small panoramas. Errors, and what sampling and denoising for them costs, are
of windows of the 4096×2048 panorama, because noise depends on what a pixel sees. In a panorama of
128×64 most of it is texture and edges. Error is the RMS of the 8-bit picture (sRGB, exposed for the
reference), so it includes what flat secondary materials change, which is reported by itself too.
Both paths get the same realised geometry without displacement, flat-shaded as the stock path leaves
it. That is kinder to the stock path: as generated, its limit-surface subdivision is evaluated again
in either render of every view. `--as-generated` measures that too (minutes), against our view with
its share of preparing the room. What each lever gave is measured by taking it away.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import arguments, machine, median, use_one_thread, version

FULL_WIDTH = 4096
FULL_MPX = FULL_WIDTH**2 / 2e6
FASTER = 100.0
STOCK_SAMPLES, STOCK_THRESHOLD = (32, 256), 0.01
OUR_SAMPLES = (8, 16, 32, 48, 64, 96, 128)
FULL_SAMPLES = (32, 64, 128)
PLAIN_SAMPLES = (16, 128)
WINDOWS = ((-120.0, -20.0), (0.0, -10.0), (100.0, 5.0))  # longitude, latitude
WINDOW_PX = (96, 64)
PAIR = (1, 5)  # sample counts that a slope is taken between
FULL, FLAT = "full materials, 4 bounces", "flat secondary materials, 4 bounces"


@dataclass(frozen=True)
class Slope:
    """Core-seconds = fixed_s + per_msample_s × million samples."""

    fixed_s: float
    per_msample_s: float


@dataclass
class Found:
    """What was measured. Errors are RMS of 8 bits; `errors` and `costs` are ours by samples."""

    slopes: dict[str, Slope] = field(default_factory=dict)
    fixed_s: float = 0.0  # ours: one more view of a scene that is there
    fresh_s: float = 0.0  # the same without persistent data
    stock_fixed_s: tuple[float, float] = (0.0, 0.0)  # of its picture, of its ground truth
    prepare_s: float = 0.0  # once per room
    views: int = 1
    stock: Slope = Slope(0.0, 0.0)
    window_mpx: float = 0.0
    stock_s: float = 0.0  # of the windows' samples, as `costs`
    stock_error: float = 0.0
    ground_truth_s: float = 0.0
    probe_s: float = 0.0
    noise: float = 0.0  # of the reference; taken out of every error below
    full_error: float = 0.0  # another render like the reference's halves: noise alone
    flat_error: float = 0.0  # the same with flat secondary materials: what is more is their doing
    errors: dict[int, float] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)
    full_errors: dict[int, float] = field(
        default_factory=dict
    )  # as `errors`, bounced light sees full materials
    full_costs: dict[int, float] = field(default_factory=dict)
    plain: dict[int, tuple[float, float]] = field(
        default_factory=dict
    )  # cost and error without denoiser and adaptive samples


def core_s(work: Callable[[], object]) -> float:
    """Core-seconds of one run (all threads of this process)."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def fixed_s(work: Callable[[], object]) -> float:
    """Core-seconds of one render but for those between its first and its last sample."""
    from panoforge.datagen.timing import phase_clock

    with phase_clock() as clock:
        total = core_s(work)
    return total - clock.cpu["sample"]


def slope(render_at: Callable[[int], object], pixels: int, repeats: int) -> Slope:
    """The medians of `repeats` renders at each of two sample counts, a line through them."""
    few, many = (median([core_s(partial(render_at, n)) for _ in range(repeats)]) for n in PAIR)
    per_sample = max(0.0, (many - few) / ((PAIR[1] - PAIR[0]) * pixels))
    return Slope(max(0.0, few - per_sample * PAIR[0] * pixels), per_sample * 1e6)


def measure(args: argparse.Namespace, folder: Path) -> Found:
    """Everything, in one Blender process. Materials are flattened last: that cannot be undone."""
    import bpy

    from bench.rooms import furnished, infinigen_beauty, infinigen_ground_truth, ours, settings
    from panoforge.datagen.geometry import materials
    from panoforge.datagen.rendering.cycles import assign, configure
    from panoforge.datagen.rendering.render import place_camera, render_passes
    from panoforge.datagen.rendering.settings import RenderSettings

    room, pixels = furnished(args.room), args.width * args.width // 2
    found = Found(prepare_s=room.prepare_s, views=len(room.poses))
    materials.set_displacement("off")
    shade_flat()
    pose, full = room.poses[0], settings(args.width, 1, max_bounces=4)
    ours(full, pose, folder)  # kernels and the scene are loaded
    found.fixed_s = median(
        [fixed_s(partial(ours, full, p, folder)) for _ in range(args.repeats) for p in room.poses]
    )

    def fresh() -> None:
        """A view as `ours`, of which nothing is kept."""
        configure(full)
        place_camera(pose, full)
        assign(bpy.context.scene.render, use_persistent_data=False)
        render_passes(full, folder)

    found.fresh_s = median([fixed_s(fresh) for _ in range(args.repeats)])
    ours(full, pose, folder)

    def at(config: RenderSettings) -> Slope:
        return slope(lambda n: ours(replace(config, samples=n), pose, folder), pixels, args.repeats)

    found.slopes["full materials, 12 bounces"] = at(replace(full, max_bounces=12))
    found.slopes[FULL] = at(full)
    windows = Windows(pose, folder, WINDOWS[: 1 if args.quick else None])
    large = replace(full, width=FULL_WIDTH, height=FULL_WIDTH // 2)
    many = replace(large, samples=args.reference, max_bounces=12)
    halves = [windows.ours(replace(many, seed=seed))[0] for seed in (11, 12)]
    # Either half is as far from their mean as the mean is from the truth (independent noise of
    # equal size).
    found.noise = picture_error((halves[0] + halves[1]) / 2, 0.0)(halves[0])
    error = picture_error((halves[0] + halves[1]) / 2, found.noise)
    found.full_error = error(windows.ours(replace(many, seed=14))[0])
    found.stock = slope(
        lambda n: infinigen_beauty(pose, args.width, folder, samples=(n, n + 1)), pixels, 1
    )
    one = partial(infinigen_beauty, pose, args.width, folder, samples=(1, 2))
    found.stock_fixed_s = (
        median([fixed_s(one) for _ in range(args.repeats)]),
        fixed_s(partial(infinigen_ground_truth, room, pose, args.width, folder)),
    )
    picture, found.stock_s = windows.stock()
    found.stock_error = error(picture)
    found.ground_truth_s = core_s(lambda: infinigen_ground_truth(room, pose, args.width, folder))
    denoised = replace(
        large, denoise=True, denoise_quality="HIGH", adaptive_threshold=STOCK_THRESHOLD, seed=21
    )

    def cost_and_error(config: RenderSettings) -> tuple[float, float]:
        picture, seconds = windows.ours(config)
        return seconds, error(picture)

    for samples in FULL_SAMPLES:
        found.full_costs[samples], found.full_errors[samples] = cost_and_error(
            replace(denoised, samples=samples)
        )
    found.probe_s = flatten(pose, folder)
    found.slopes[FLAT] = at(full)
    found.flat_error = error(windows.ours(replace(many, seed=13))[0])
    for samples in OUR_SAMPLES:
        found.costs[samples], found.errors[samples] = cost_and_error(
            replace(denoised, samples=samples)
        )
    for samples in PLAIN_SAMPLES[: 1 if args.quick else None]:
        found.plain[samples] = cost_and_error(replace(large, samples=samples, seed=21))
    found.window_mpx = windows.pixels / 1e6
    return found


class Windows:
    """Parts of the 4096×2048 panorama: pictures (h, w, 3), one below the other, and core-seconds
    between first and last sample.
    """

    def __init__(self, pose: Any, folder: Path, places: tuple[tuple[float, float], ...]) -> None:
        from bench.rooms import Window

        self.pose, self.folder = pose, folder
        self.windows = [Window(*place, *WINDOW_PX) for place in places]
        self.pixels = len(places) * WINDOW_PX[0] * WINDOW_PX[1]

    def ours(self, config: Any) -> tuple[np.ndarray, float]:
        from bench.rooms import ours_window

        return self._all(lambda window: ours_window(config, self.pose, window, self.folder))

    def stock(self) -> tuple[np.ndarray, float]:
        from bench.rooms import infinigen_beauty

        return self._all(
            lambda window: infinigen_beauty(
                self.pose, FULL_WIDTH, self.folder, samples=STOCK_SAMPLES, window=window
            )
        )

    def _all(self, work: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, float]:
        from panoforge.datagen.timing import phase_clock

        pictures, seconds = [], 0.0
        for window in self.windows:
            with phase_clock() as clock:
                pictures.append(work(window))
            seconds += clock.cpu["sample"]
        return np.concatenate(pictures), seconds


def shade_flat() -> None:
    """As Infinigen 2's exporters leave every mesh that they render: or theirs, and all after it,
    would be of another picture than the reference.
    """
    import bpy

    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.shade_flat()


def flatten(pose: Any, folder: Path) -> float:
    """Flatten secondary materials as the worker does. Core-seconds of the probe."""
    from bench.rooms import ours
    from panoforge.datagen.geometry import materials
    from panoforge.datagen.rendering.settings import RenderSettings

    names, settings = materials.index_materials(), RenderSettings.probe(256, 1)
    begin = time.process_time()
    probe = ours(settings, pose, folder)
    seconds = time.process_time() - begin
    assert probe.material is not None and probe.diffuse is not None
    materials.flatten_secondary(materials.mean_colours(names, probe.material, probe.diffuse))
    return seconds


def picture_error(truth: np.ndarray, noise: float) -> Callable[[np.ndarray], float]:
    """RMS difference of an image's 8-bit picture from that of `truth` (H×W×3, linear), both exposed
    for `truth`, less the noise of `truth` itself (in squares).
    """
    from panoforge.datagen.pipeline import encode_srgb
    from panoforge.datagen.rendering.quality import auto_exposure_ev

    gain = 2.0 ** auto_exposure_ev(truth)
    want = encode_srgb(truth * gain).astype(float)

    def error(linear: np.ndarray) -> float:
        square = float(((encode_srgb(linear * gain).astype(float) - want) ** 2).mean())
        return max(0.0, square - noise**2) ** 0.5

    return error


def as_generated(name: str, width: int, folder: Path) -> tuple[float, float]:
    """The fixed core-seconds of Infinigen's picture and of its ground truth of a room as it made
    it: nothing capped, nothing realised.
    """
    import bpy

    from bench import rooms
    from panoforge.datagen.config.render import RenderConfig, plan_scene
    from panoforge.datagen.sources.base import make_scene

    room = rooms.furnished(name, views=1)
    config = RenderConfig(sources=({"source": "infinigen2.rooms", "rooms": (name,)},))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make_scene(plan_scene(config, 0), config.sources[0], rooms.SEED)
    return (
        fixed_s(partial(rooms.infinigen_beauty, room.poses[0], width, folder, samples=(1, 2))),
        fixed_s(partial(rooms.infinigen_ground_truth, room, room.poses[0], width, folder)),
    )


def totals(
    found: Found, pixels: int, generated: tuple[float, float] | None = None
) -> dict[str, Any]:
    """What the parts add up to at 4096×2048, ours with the materials and samples that reach the
    stock error for least. Where none does there is no ratio: the figures of ours are then those of
    the most samples of flat secondary materials.
    """
    whole_of = FULL_MPX / found.window_mpx
    fixed, stock_fixed = found.fixed_s, sum(found.stock_fixed_s)
    reached = [
        (costs[samples], samples, which)
        for which, errors, costs in (
            (FLAT, found.errors, found.costs),
            (FULL, found.full_errors, found.full_costs),
        )
        for samples, error in errors.items()
        if error <= found.stock_error
    ]
    most = max(found.errors)
    cost, equal, which = min(reached, default=(found.costs[most], None, FLAT))
    own, stock_samples = (
        cost * whole_of,
        found.stock_s / max(found.stock.per_msample_s, 1e-9) / found.window_mpx,
    )
    truth = max(0.0, found.ground_truth_s - found.stock_fixed_s[1]) / (pixels / 1e6) * FULL_MPX
    stock = found.stock_s * whole_of + truth
    whole = fixed + (found.prepare_s + found.probe_s) / found.views
    first = (
        {}
        if generated is None
        else {
            "fixed_ours_with_preparation_s": round(whole, 3),
            "fixed_stock_as_generated_s": round(sum(generated), 1),
            "fixed_ratio_as_generated": round(sum(generated) / whole, 1),
        }
    )
    return first | {
        "fixed_ours_s": round(fixed, 4),
        "fixed_stock_s": round(stock_fixed, 3),
        "fixed_ratio": round(stock_fixed / fixed, 1),
        "equal_error_samples": equal,
        "equal_error_with": which if equal else None,
        "stock_samples": round(stock_samples, 1),
        "ours_4k_s": round(fixed + own, 1),
        "stock_4k_s": round(stock_fixed + stock, 1),
        "ratio_4k": round((stock_fixed + stock) / (fixed + own), 2) if equal else None,
        "ratio_where_sampling_is_100_times_faster": (
            round((stock_fixed + stock / FASTER) / (fixed + own / FASTER), 1) if equal else None
        ),
    }


def tell(found: Found, sums: dict[str, Any]) -> None:
    """For people."""
    for name, line in {**found.slopes, "stock (its bounces, its passes)": found.stock}.items():
        print(
            f"  {name:<38}{line.per_msample_s:8.2f} core-s per million samples, fixed"
            f" {line.fixed_s:.2f}"
        )
    print(
        f"  fixed per further view: ours {sums['fixed_ours_s']}, stock {sums['fixed_stock_s']}"
        f" core-s ({sums['fixed_ratio']} ×)"
    )
    print(
        f"  error: full materials {found.full_error:.2f}, flat secondary materials"
        f" {found.flat_error:.2f}, both at the reference's samples; stock {found.stock_error:.2f}"
        f" with some {sums['stock_samples']} in {found.stock_s:.1f} core-s"
    )
    print(
        "  ours: "
        + ", ".join(
            f"{n} samples {found.errors[n]:.2f} ({found.costs[n]:.2f} core-s)" for n in found.errors
        )
    )
    print(
        "  ours, full materials: "
        + ", ".join(
            f"{n} samples {error:.2f} ({found.full_costs[n]:.2f} core-s)"
            for n, error in found.full_errors.items()
        )
    )
    print(
        "  ours, no denoiser, no adaptive samples: "
        + ", ".join(
            f"{n} samples {error:.2f} ({cost:.2f} core-s)"
            for n, (cost, error) in found.plain.items()
        )
    )
    print(
        f"  fixed without persistent data {found.fresh_s:.3f}, stock's picture and ground truth"
        f" {found.stock_fixed_s}; once per room: preparing {found.prepare_s:.2f}, probe"
        f" {found.probe_s:.2f}"
    )
    equal = f"at {sums['equal_error_samples']} samples, {sums['equal_error_with']}, of equal error"
    reached = (
        equal
        if sums["equal_error_samples"]
        else (f"at {max(found.errors)} samples, which do NOT reach the stock error")
    )
    print(
        f"  4096×2048: ours {sums['ours_4k_s']} core-s {reached}; stock {sums['stock_4k_s']}"
        f" ({sums['ratio_4k']} ×; {sums['ratio_where_sampling_is_100_times_faster']} × where"
        " sampling is fast)"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument(
        "--reference", type=int, default=256, help="samples of each half of the reference"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--as-generated",
        action="store_true",
        help="measure the stock path's subdivision too (minutes)",
    )
    args = parser.parse_args()
    if args.quick:
        args.width, args.reference, args.repeats = 64, 128, 1
    use_one_thread()
    from panoforge.datagen.defects import exit_now
    from panoforge.datagen.rendering.cycles import choose_device

    choose_device("cpu", 1)
    with tempfile.TemporaryDirectory() as name:
        found = measure(args, Path(name))
        generated = as_generated(args.room, args.width, Path(name)) if args.as_generated else None
    sums = totals(found, args.width * args.width // 2, generated)
    print(
        f"{args.room} at {args.width}×{args.width // 2}, windows of {found.window_mpx:.3f} Mpx of"
        f" 4096×2048, reference of {2 * args.reference} samples (noise {found.noise:.2f})"
    )
    tell(found, sums)
    if generated is not None:
        print(
            f"  fixed as generated: stock {generated[0]:.0f} + {generated[1]:.0f} core-s; a view of"
            f" ours with its share of preparing the room {sums['fixed_ours_with_preparation_s']}"
            f" ({sums['fixed_ratio_as_generated']} ×)"
        )
    print(
        json.dumps(
            {
                "bench": "render_cost",
                "ratio": sums["ratio_4k"],
                "target": 3,
                "ours": sums["ours_4k_s"],
                "peer": sums["stock_4k_s"],
                "peer_name": f"render_cycles + render_cycles_ground_truth ({version('infinigen')})",
                "n": args.repeats,
                "unit": "core-s per 4096×2048 panorama, from the parts",
                "machine": machine(),
                "quick": args.quick,
                **sums,
                "per_msample_s": {
                    name: round(line.per_msample_s, 3) for name, line in found.slopes.items()
                },
                "stock_per_msample_s": round(found.stock.per_msample_s, 3),
                "errors": found.errors,
                "full_errors": found.full_errors,
                "stock_error": found.stock_error,
                "flat_error": found.flat_error,
                "full_error": found.full_error,
                "ground_truth_s": found.ground_truth_s,
                "probe_s": found.probe_s,
                "prepare_s": found.prepare_s,
                "fresh_s": found.fresh_s,
                "stock_fixed_s": found.stock_fixed_s,
                "plain": found.plain,
                "as_generated_s": generated,
            }
        ),
        flush=True,
    )
    exit_now(0)


if __name__ == "__main__":
    main()
