"""What the instance-id map costs: extra core-seconds at 4096×2048, ours against rendering once more
for it.

Ours is a by-product of the beauty render: what it adds is the pass itself, its channel in the EXR,
and turning it into dense ids and bytes. Measured as the difference of two renders, with and without
the pass (same seed, same work), plus the steps after it. The difference is lost in the noise, so
the largest of all repeats counts. Peers render a second time. One is Infinigen 2's
`render_cycles_ground_truth` with its own settings. The other is the least a re-render can be: one
sample, no bounce, every material replaced by plain emission, as BlenderProc does it. Same room,
same camera. At 4096×2048 Infinigen's render takes minutes of a core: one run of it, all else in
turn.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import Outcome, Peer, arguments, finish, median, use_one_thread, version


def core_s(work: Callable[[], object], repeats: int) -> list[float]:
    """Core-seconds of each run (all threads of this process)."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    use_one_thread()
    import bpy
    import numpy as np

    from bench.rooms import furnished, infinigen_ground_truth, settings
    from panoforge.core.sample.label_maps import dense_ids
    from panoforge.core.sample.products import encode_product
    from panoforge.datagen.defects import exit_now
    from panoforge.datagen.rendering.cycles import choose_device, configure
    from panoforge.datagen.rendering.passes import read_exr, whole_numbers
    from panoforge.datagen.rendering.render import place_camera, render_passes

    width = 1024 if args.quick else args.width
    choose_device("cpu", 1)
    room = furnished(args.room, views=1)
    pose, config = room.poses[0], settings(width, 1)
    emission = bpy.data.materials.new("flat")
    emission.use_nodes = True
    tree = emission.node_tree
    node = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(node.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
    scratch = tempfile.TemporaryDirectory()
    folder, layer = Path(scratch.name), bpy.context.view_layer

    def render_flat(with_ids: bool) -> dict[str, np.ndarray]:
        """A render whose only other passes are colour: the pass is all that differs."""
        configure(config)
        place_camera(pose, config)
        layer.material_override, layer.use_pass_object_index = emission, with_ids
        layer.use_pass_z = layer.use_pass_normal = False
        bpy.context.scene.render.filepath = str(folder / "flat.exr")
        bpy.ops.render.render(write_still=True)
        channels = read_exr(folder / "flat.exr")
        assert ("IndexOB.X" in channels) == with_ids
        return channels

    def fresh_re_render() -> None:
        """A second render in a scene of its own settings: nothing is kept from the first."""
        configure(config)
        place_camera(pose, config)
        layer.material_override = emission
        bpy.context.scene.render.use_persistent_data = False
        render_passes(config, folder)

    raw = render_flat(True)[
        "IndexOB.X"
    ]  # ids do not depend on materials, and these are traced in a tenth of the time
    index = whole_numbers(raw, "Object Index")
    assert len(np.unique(index)) > 20

    def after() -> None:
        labels, _ = dense_ids(whole_numbers(raw, "Object Index"))
        encode_product("instance.zst", labels)

    times: dict[str, list[float]] = {"with": [], "without": [], "after": [], "again": []}
    for _ in range(max(3 if args.quick else 1, args.repeats)):
        times["with"] += core_s(lambda: render_flat(True), 1)
        times["without"] += core_s(lambda: render_flat(False), 1)
        times["after"] += core_s(after, 1)
        times["again"] += core_s(fresh_re_render, 1)
    layer.material_override = None
    theirs: list[np.ndarray] = []
    infinigen = core_s(lambda: theirs.append(infinigen_ground_truth(room, pose, width, folder)), 1)
    agree = float((theirs[0] == index).mean())
    assert agree > 0.98, f"Infinigen's map is another one: {agree:.3%} of the pixels agree"
    extra = [a - b for a, b in zip(times["with"], times["without"], strict=True)]
    own = max(0.0, *extra) + median(
        times["after"]
    )  # the worst difference: the middle one is lost in the noise
    print(
        f"{width}×{width // 2}: the pass {median(extra):.3f} ({min(extra):.3f} to {max(extra):.3f})"
        f" core-s, ids and bytes {median(times['after']):.3f}; re-render"
        f" {median(times['again']):.2f}, Infinigen 2 {infinigen[0]:.1f} core-s; its ids equal ours"
        f" on {agree:.4%} (it moves surfaces by their shaders)"
    )
    finish(
        Outcome(
            "mask_cost",
            ours=own,
            unit=f"core-s at {width}×{width // 2}",
            n=len(times["with"]),
            peers=(
                Peer(f"render_cycles_ground_truth ({version('infinigen')})", infinigen[0], 20),
                Peer("1-sample re-render, flat materials", median(times["again"]), 3),
            ),
            facts={
                "pass_core_s": [round(value, 3) for value in sorted(extra)],
                "after_core_s": round(median(times["after"]), 3),
                "room": args.room,
            },
        ),
        args,
    )
    exit_now(0)


if __name__ == "__main__":
    main()
