"""What a further frame of a video costs beside a further still of the same scene: all but samples.

One room of Infinigen 2 is made twice from one seed by the real worker: once for stills, once for a
video in which things move. Each panorama's metadata say where its core-seconds went. Fixed is what
is not sampling: sync (Blender to Cycles, BVH), saving, describing instances, encoding and writing.
The first one is left out, for which the scene is loaded. Flow is two rays a pixel and scales with
pixels as samples do, so it is a figure of its own; with it a frame costs far more.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.common import Outcome, Peer, arguments, finish, median, use_one_thread

TARGET = 2.0  # a frame costs at most so many stills
FIXED = ("sync", "save", "write", "describe", "flow")


def made(folder: Path, room: str, width: int, count: int, *, video: bool) -> list[dict[str, float]]:
    """Core-seconds by phase of each panorama of a room, in order."""
    from panoforge.core.storage.staged import list_staged, read_staged_meta
    from panoforge.datagen.config.render import RenderConfig, plan_scenes
    from panoforge.datagen.messages import SceneRequest, SceneResult

    products: tuple[str, ...] = ("rgb", "instance", "depth", "normal")
    changes: dict[str, Any] = {"cameras_per_scene": count}
    if video:
        products = (*products, "flow_forward", "flow_backward")
        rule = {"categories": ("any",), "how": "fly", "most": 3}
        changes = {
            "cameras_per_scene": 1,
            "video": {"frames": count, "fps": 8, "objects": (rule,)},
        }
    config = RenderConfig(
        sources=({"source": "infinigen2.rooms", "rooms": (room,)},),
        width=width,
        height=width // 2,
        samples=1,
        threads=1,
        device="cpu",
        products=products,
        **changes,
    )
    request = SceneRequest(
        scene=plan_scenes(config)[0],
        render=config,
        staged=folder / "staged",
        result=folder / "result.json",
        config_sha256="0" * 64,
    )
    (folder / "staged").mkdir(parents=True)
    (folder / "job.json").write_text(request.model_dump_json())
    subprocess.run(
        [sys.executable, "-m", "panoforge.datagen.worker", str(folder / "job.json")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    result = SceneResult.model_validate_json((folder / "result.json").read_bytes())
    assert result.outcome == "done" and len(result.panoramas) == count, result
    return [
        read_staged_meta(folder / "staged", key).cpu_s for key in list_staged(folder / "staged")
    ]


def main() -> None:
    """Measure and say."""
    parser = arguments(__doc__)
    parser.add_argument("--room", default="bathroom")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--count", type=int, default=6, help="panoramas, and frames")
    args = parser.parse_args()
    if args.quick:
        args.width, args.count = 512, 4
    use_one_thread()
    with tempfile.TemporaryDirectory() as name:
        stills, frames = (
            made(Path(name) / kind, args.room, args.width, args.count, video=kind == "video")[1:]
            for kind in ("stills", "video")
        )
    # The last frame has one flow, the others two.
    still, frame = (
        median([sum(each.get(phase, 0.0) for phase in FIXED) for each in found])
        for found in (stills, frames[:-1])
    )
    parts = {
        kind: {phase: round(median([one.get(phase, 0.0) for one in found]), 3) for phase in FIXED}
        for kind, found in (("still", stills), ("frame", frames[:-1]))
    }
    mpx = args.width * args.width / 2e6
    finish(
        Outcome(
            "video_cost",
            ours=frame - parts["frame"]["flow"],
            unit="core-s beside samples and flow, a further frame",
            n=len(frames) - 1,
            peers=(
                Peer("a further still", still, target=1 / TARGET),
                Peer("a further still, flow both ways included", still, 1 / TARGET, frame),
            ),
            facts={
                "parts_s": parts,
                "flow_s_per_mpx": round(parts["frame"]["flow"] / mpx, 2),
                "room": args.room,
                "width": args.width,
            },
        ),
        args,
    )


if __name__ == "__main__":
    main()
