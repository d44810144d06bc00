"""Exact ids: agreement with independently cast rays on every pixel, ours and Infinigen 2's ground
truth, per category.

One furnished room, one place, every pixel of a small panorama. The judge
(`panoforge.datagen.verify.oracle`) sees the room as the generator made it and shares no step with
either renderer. Infinigen 2 renders a second time for its object index, with its materials taken
away; ours are the beauty render's. Both get the same geometry, so a disagreement is the ids' own. A
proof, not a race.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.common import arguments, machine, use_one_thread, version

if TYPE_CHECKING:  # both import bpy
    from bench.rooms import Room
    from panoforge.core.sample.metadata import Pose


def report_of(room: "Room", index: np.ndarray, pose: "Pose", depth: np.ndarray | None) -> dict:
    """The oracle's report of an index map (H, W) as plain data."""
    from panoforge.core.sample.instance_table import InstanceLabel, instance_table
    from panoforge.core.sample.label_maps import dense_ids
    from panoforge.core.sample.metadata import SampleMeta
    from panoforge.datagen.verify.ray_judge import judge

    labels, old = dense_ids(index)
    names = {
        id_: InstanceLabel(
            room.things[i - 1].name, room.things[i - 1].category, room.things[i - 1].objects[0]
        )
        for id_, i in enumerate(old.tolist(), start=1)
    }
    height, width = labels.shape
    meta = SampleMeta(
        key="bench-c0",
        width=width,
        height=height,
        source="bench",
        scene="bench",
        seed=0,
        camera=0,
        pose=pose,
        products=("instance.zst",),
        instances=instance_table(labels, names),
        config_sha256="",
        versions={},
    )
    assert room.oracle is not None
    found = judge(room.oracle, meta, labels, depth, np.arange(width * height), displacement=False)
    return json.loads(json.dumps(vars(found)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--width", type=int, default=512)
    args = parser.parse_args()
    use_one_thread()
    from bench.rooms import furnished, infinigen_ground_truth, ours, settings
    from panoforge.datagen.defects import exit_now
    from panoforge.datagen.geometry import materials

    width = 128 if args.quick else args.width
    room = furnished(args.room, args.seed, with_oracle=True)
    materials.set_displacement("off")
    pose = room.poses[0]
    with tempfile.TemporaryDirectory() as name:
        passes = ours(settings(width, 2), pose, Path(name))
        theirs = infinigen_ground_truth(room, pose, width, Path(name))
    found = {
        "ours": report_of(room, passes.index, pose, passes.depth_m),
        "infinigen2": report_of(room, theirs, pose, None),
    }
    categories = sorted(found["ours"]["by_category"])
    print(f"{args.room}, {width}×{width // 2}, {len(room.things)} things; rays that agree:")
    print(f"{'category':<18}{'rays':>8}{'ours':>10}{'Infinigen 2':>14}")
    for category in categories:
        rays, agree = found["ours"]["by_category"][category]
        theirs = found["infinigen2"]["by_category"][category][1]
        print(f"{category:<18}{rays:>8}{agree / rays:>10.3%}{theirs / rays:>14.3%}")
    for who, row in found.items():
        print(
            f"{who}: {row['agree']} of {row['rays']} agree; the rest by cause: {row['differ']};"
            f" {row['kinds']}"
        )
    ties = dict(sorted(found["ours"]["ties"].items(), key=lambda item: -item[1])[:5])
    line = {
        name: {key: row[key] for key in ("rays", "agree", "differ", "kinds", "depth_off")}
        for name, row in found.items()
    }
    ok = not found["ours"]["differ"].get("wrong") and not found["ours"]["depth_off"]
    print(
        json.dumps(
            {
                "bench": "mask_truth",
                "ok": ok,
                "room": args.room,
                "seed": args.seed,
                "width": width,
                **line,
                "coplanar": ties,
                "peer_name": f"render_cycles_ground_truth ({version('infinigen')})",
                "machine": machine(),
            }
        ),
        flush=True,
    )
    exit_now(0 if ok else 1)


if __name__ == "__main__":
    main()
