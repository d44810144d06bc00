"""What the runner costs: scenes that sleep a second on N slots, against plain Ray tasks that start
the same process.

    python -m bench.orchestration [--quick] [--record]

The peer hands all its tasks to Ray at once, and each writes the job file and runs the worker with
`subprocess.run`: no ledger, no limits, no digests, no commit, no resume. Ours is
`panoforge.cluster.render.runner.render` with all of that. Wall clock, since sleeping costs no CPU;
both are also set against the ideal, scenes · sleep / slots. Then ours with 10 % of all attempts
crashing at their end, which no runner can do in less than 1/(1 − p) of the time, beside as many
scenes without crashes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import Outcome, Peer, arguments, finish, median, version
from bench.sleep_scene import crashes

SLEEP_S = 1.0
CRASH_P = 0.1
TARGET = 0.98
CRASH_SLACK = 0.05


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    scenes, repeats, crash_scenes = (40, 5, 80) if args.quick else (120, 7, 400)
    os.environ |= {"PANOFORGE_SLEEP_S": str(SLEEP_S), "PANOFORGE_CRASH_P": str(CRASH_P)}
    from panoforge.cluster.config import RayConfig
    from panoforge.cluster.ray.session import ray_session

    with tempfile.TemporaryDirectory() as folder, ray_session(RayConfig(), cpus=args.slots):
        for run in (ours, plain):  # starts Ray's workers
            run(Path(folder, run.__name__), scenes)
        seconds = in_turn({"ours": ours, "plain": plain}, folder, scenes, repeats)
        of_crashes = in_turn({"clean": ours, "crash": ours}, folder, crash_scenes, 3)
    ideal = scenes * SLEEP_S / args.slots
    overhead = median(of_crashes["crash"]) / median(of_crashes["clean"])
    bound = 1 / (1 - CRASH_P) + CRASH_SLACK
    print(
        f"ours {median(seconds['ours']):.2f} s, plain Ray {median(seconds['plain']):.2f} s, ideal"
        f" {ideal:.2f} s; with crashes {overhead:.3f} × the time per scene (bound {bound:.3f},"
        f" {attempts(crash_scenes)} attempts at {crash_scenes} scenes)"
    )
    finish(
        Outcome(
            "orchestration",
            ours=median(seconds["ours"]),
            unit="s",
            n=scenes,
            peers=(
                Peer(f"plain Ray tasks, {version('ray')}", median(seconds["plain"]), TARGET),
                Peer(
                    f"{CRASH_P:.0%} crashes: 1/(1 − p) + {CRASH_SLACK:.0%}",
                    bound,
                    1,
                    ours=overhead,
                    unit="× without crashes",
                ),
            ),
            facts={
                "efficiency": round(ideal / median(seconds["ours"]), 4),
                "peer_efficiency": round(ideal / median(seconds["plain"]), 4),
                "slots": args.slots,
                "crash_p": CRASH_P,
                "crash_overhead": round(overhead, 4),
                "crash_bound": round(bound, 4),
                "crash_attempts": attempts(crash_scenes),
                "crash_scenes": crash_scenes,
                "ok": overhead <= bound,
            },
        ),
        args,
    )


def in_turn(
    work: dict[str, Callable[[Path, int], float]], folder: str, scenes: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each, `repeats` times in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats):
        for name, run in work.items():
            seconds[name].append(run(Path(folder, f"{name}-{scenes}-{turn}"), scenes))
    return seconds


def ours(run: Path, scenes: int) -> float:
    """Seconds of `pano render` within a Ray that is up."""
    from panoforge.cluster.config import LimitsConfig, RenderJobConfig
    from panoforge.cluster.render.runner import render
    from panoforge.datagen.config import RenderConfig

    config = RenderJobConfig(
        run=run,
        render=RenderConfig(scenes=scenes, cameras_per_scene=1),
        worker="bench.sleep_scene",
        limits=LimitsConfig(min_free_gb=0),
    )
    begin = time.perf_counter()
    summary = render(config)
    took = time.perf_counter() - begin
    assert (summary.count("done"), summary.panoramas) == (scenes, scenes), summary.reasons
    return took


def plain(run: Path, scenes: int) -> float:
    """Seconds of plain Ray tasks that start the same worker on the same job files."""
    import ray

    def scene(index: int) -> bool:
        folder = run / f"{index}-1"
        (folder / "staged").mkdir(parents=True)
        job = {
            "scene": {"index": index, "key": f"scene-{index:08d}"},
            "staged": str(folder / "staged"),
            "config_sha256": "0" * 64,
            "result": str(folder / "result.json"),
        }
        (folder / "job.json").write_text(json.dumps(job))
        subprocess.run(
            [sys.executable, "-m", "bench.sleep_scene", str(folder / "job.json")], check=True
        )
        return json.loads((folder / "result.json").read_text())["outcome"] == "done"

    task = ray.remote(num_cpus=1, max_retries=0)(scene)
    begin = time.perf_counter()
    done = ray.get([task.remote(index) for index in range(scenes)])
    took = time.perf_counter() - begin
    assert all(done)
    return took


def attempts(scenes: int) -> int:
    """How many attempts that many scenes take with crashes, none of them given up."""
    total = 0
    for scene in range(scenes):
        attempt = 1
        while crashes(scene, attempt, CRASH_P) and attempt < 3:
            attempt += 1
        total += attempt
    return total


if __name__ == "__main__":
    main()
