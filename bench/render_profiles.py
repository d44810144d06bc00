"""What the profiles of `pano render` cost, and how far their pictures are from a many-sample one.

A furnished room, windows of its 4096×2048 panorama as in bench.render_cost: the same materials,
poses, and error (RMS of the 8-bit picture, less the reference's own noise). The reference has full
materials, 12 bounces, no denoiser. Cost is core-seconds from the first to the last sample, the
denoiser included, per million pixels; what a view costs besides is fixed. Asserted first: ids and
depth of all profiles are the same at every pixel of a small panorama.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.common import arguments, machine, use_one_thread
from bench.render_cost import (
    FULL_WIDTH,
    WINDOWS,
    Windows,
    flatten,
    picture_error,
)
from panoforge.datagen.config.quality_profiles import QualityProfile, profile_fields

PROFILES: tuple[QualityProfile, ...] = ("preview", "draft", "final")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--reference", type=int, default=192, help="samples of each half")
    args = parser.parse_args()
    use_one_thread()
    from bench.rooms import furnished, ours, settings
    from panoforge.datagen.defects import exit_now
    from panoforge.datagen.geometry import materials
    from panoforge.datagen.rendering.cycles import choose_device

    choose_device("cpu", 1)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pose = furnished(args.room, views=1).poses[0]
        materials.set_displacement("off")
        windows = Windows(pose, folder, WINDOWS[: 1 if args.quick else 2])
        large = settings(FULL_WIDTH, 1, max_bounces=12)
        samples = 48 if args.quick else args.reference
        halves = [windows.ours(replace(large, samples=samples, seed=seed))[0] for seed in (11, 12)]
        truth = (halves[0] + halves[1]) / 2
        noise = picture_error(truth, 0.0)(halves[0])
        error = picture_error(truth, noise)
        flatten(pose, folder)
        labels = []
        for profile in PROFILES:
            fields = {**profile_fields(profile), "seed": 21}
            small = ours(replace(settings(128, 1), **fields), pose, folder)
            labels.append((small.index, small.depth_m))
            picture, seconds = windows.ours(replace(large, **fields))
            rows[profile] = {
                "error": round(error(picture), 2),
                "core_s_per_mpx": round(seconds / windows.pixels * 1e6, 1),
            }
            print(profile, fields, rows[profile], flush=True)
        for index, depth in labels[1:]:
            assert np.array_equal(index, labels[0][0]) and np.array_equal(depth, labels[0][1])
    line: dict[str, object] = {
        "bench": "render_profiles",
        "ok": rows["preview"]["error"] >= rows["final"]["error"],
        "room": args.room,
        "reference_noise": round(noise, 2),
        "unit": "RMS of 255; core-s per million pixels",
        **rows,
        "machine": machine(),
        "quick": args.quick,
    }
    print(json.dumps(line), flush=True)
    exit_now(0)


if __name__ == "__main__":
    main()
