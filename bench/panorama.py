"""A whole panorama on this machine's best device, at equal error: seconds, energy and money.

A furnished room as in `bench.render_cost`, on the device that `device=auto` finds. The peer is
Infinigen 2's `render_cycles` and then `render_cycles_ground_truth`, with their own settings. Ours
is one render with denoiser and adaptive samples, of the fewest samples that reach the peer's error
against a reference of many. Preparing the room is in neither: it is the CPU's, once per room.
Seconds are the clock's. At 4096×2048 SAP's published cost stands beside them, which is of its own
scenes and GPUs.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import Outcome, Peer, arguments, finish, use_one_thread, version
from bench.gpu import mean_watts, watts

FULL_WIDTH = 4096
SAMPLES = (16, 32, 64, 96, 128, 256)
THRESHOLD = 0.01  # of adaptive samples, as the peer's
SAP_S = 13.1 * 60  # GPU-seconds of a panorama, as published


@dataclass(frozen=True)
class Cost:
    """What a panorama took. `joules` is of the GPU, None where nobody measures it."""

    seconds: float
    joules: float | None
    error: float


def measure(args: Any, width: int, folder: Path) -> tuple[str, Cost, dict[int, Cost]]:
    """The device, the peer's cost, and ours by samples up to the first that reach its error."""
    from bench.render_cost import flatten, picture_error, shade_flat
    from bench.rooms import (
        bare,
        furnished,
        infinigen_beauty,
        infinigen_ground_truth,
        ours,
        settings,
    )
    from panoforge.datagen.geometry import materials
    from panoforge.datagen.rendering.cycles import choose_device

    room = bare() if args.toy else furnished(args.room, views=1)
    pose, device = room.poses[0], choose_device("auto", 0)
    kind = device.partition(":")[0].upper()
    materials.set_displacement("off")
    shade_flat()
    reference, most = (2, (2, 4)) if args.toy else (args.reference, SAMPLES)
    plain = replace(settings(width, reference), max_bounces=12)

    def picture(config: Any) -> Any:
        return ours(config, pose, folder).linear

    picture(replace(plain, samples=1))  # kernels are compiled, the scene is loaded
    halves = [picture(replace(plain, seed=seed)) for seed in (11, 12)]
    truth = (halves[0] + halves[1]) / 2
    error = picture_error(truth, picture_error(truth, 0.0)(halves[0]))

    def stock() -> Any:
        samples = (1, 2) if args.toy else (32, 256)
        seen = infinigen_beauty(pose, width, folder, samples=samples, device=kind)
        infinigen_ground_truth(room, pose, width, folder, device=kind)
        return seen

    theirs = cost(stock, error)
    flatten(pose, folder)
    denoised = replace(
        settings(width, 1, max_bounces=4),
        denoise=True,
        denoise_quality="HIGH",
        adaptive_threshold=THRESHOLD,
        seed=21,
    )
    picture(denoised)
    found = {}
    for samples in most:
        found[samples] = cost(partial(picture, replace(denoised, samples=samples)), error)
        if found[samples].error <= theirs.error:
            break
    return device, theirs, found


def cost(render: Callable[[], Any], error: Callable[[Any], float]) -> Cost:
    """Seconds on the clock, energy of the GPU and error of one picture."""
    begin = time.perf_counter()
    with watts() as drawn:
        picture = render()
        seconds = time.perf_counter() - begin
    mean = mean_watts(drawn)
    return Cost(seconds, None if mean is None else mean * seconds, error(picture))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--reference", type=int, default=256, help="samples of each of two halves")
    parser.add_argument("--usd-per-hour", type=float, default=3.0, help="price of the GPU")
    args = parser.parse_args()
    use_one_thread()
    from panoforge.datagen.defects import exit_now

    width = 64 if args.toy else 512 if args.quick else FULL_WIDTH
    with tempfile.TemporaryDirectory() as name:
        device, stock, found = measure(args, width, Path(name))
    samples, own = list(found.items())[-1]
    equal = own.error <= stock.error
    words = "" if equal else ", NOT at its error"
    theirs = f"render_cycles + render_cycles_ground_truth ({version('infinigen')}){words}"
    peers = [Peer(theirs, stock.seconds, target=3)]
    if own.joules and stock.joules:
        energy = Peer(f"{theirs}: energy", stock.joules, 3, own.joules, "J a panorama")
        usd = [args.usd_per_hour / 3.6 * cost.seconds for cost in (stock, own)]
        peers += [energy, Peer(f"{theirs}: price", usd[0], 3, usd[1], "USD per 1,000 panoramas")]
    if width == FULL_WIDTH:
        peers.append(Peer("SAP as published, its scenes and GPUs: 13.1 GPU-minutes", SAP_S, 1))
    facts = {
        "device": device,
        "samples": samples,
        "equal_error": equal,
        "stock": vars(stock),
        "ours_by_samples": {n: vars(cost) for n, cost in found.items()},
    }
    unit = f"s per {width}×{width // 2} panorama, {samples} samples, {device}"
    finish(
        Outcome("panorama", own.seconds, unit, 1, tuple(peers), json.loads(json.dumps(facts))), args
    )
    exit_now(0)


if __name__ == "__main__":
    main()
