"""What the runner costs: scenes that sleep 10 s, or 1 s, on N slots, against plain Ray tasks that
start the same process.

    python -m bench.orchestration [--quick] [--record]

The peer hands all its tasks to Ray at once. Each writes the job file and runs the worker with
`subprocess.run`: no ledger, no limits, no digests, no commit, no resume. Ours is
`panoforge.cluster.render.runner.render` with all of that. Real scenes take minutes, so 10 s is hard
already; scenes of 1 s show what a scene costs.

Wall clock, since sleeping costs no CPU. Both are also set against the ideal, scenes · sleep /
slots. Then ours with 10 % of all attempts crashing at their end, beside as many scenes without
crashes. No runner can do that in less than 1/(1 − p) of the time.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.common import Outcome, Peer, arguments, finish, median, version
from bench.sleep_scene import crashes

LONG_S, SHORT_S = 10.0, 1.0
CRASH_P = 0.1
TARGET = 0.98
CRASH_SLACK = 0.05


@dataclass(frozen=True)
class Race:
    """Scenes of one length: seconds of each of ours and of the peer's runs."""

    sleep_s: float
    scenes: int
    slots: int
    seconds: dict[str, list[float]]

    def efficiency(self, of: str) -> float:
        return self.scenes * self.sleep_s / self.slots / median(self.seconds[of])

    def __str__(self) -> str:
        return (
            f"{self.scenes} scenes of {self.sleep_s:g} s: ours {median(self.seconds['ours']):.2f} s"
            f" ({self.efficiency('ours'):.3f} of the ideal), plain Ray"
            f" {median(self.seconds['plain']):.2f} s ({self.efficiency('plain'):.3f})"
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    long, short, repeats, crash_scenes = (8, 40, 5, 80) if args.quick else (40, 120, 7, 400)
    os.environ["PANOFORGE_CRASH_P"] = str(CRASH_P)
    with tempfile.TemporaryDirectory() as folder:
        with session(LONG_S, args.slots):
            of_long = race(Path(folder, "long"), LONG_S, long, args.slots, repeats)
        with session(SHORT_S, args.slots):
            of_short = race(Path(folder, "short"), SHORT_S, short, args.slots, repeats)
            of_crashes = in_turn(
                {"clean": ours, "crash": ours}, Path(folder, "crashes"), crash_scenes, 3
            )
    overhead = median(of_crashes["crash"]) / median(of_crashes["clean"])
    bound = 1 / (1 - CRASH_P) + CRASH_SLACK
    print(of_long, of_short, sep="\n")
    print(
        f"with crashes {overhead:.3f} × the time per scene (bound {bound:.3f},"
        f" {attempts(crash_scenes)} attempts at {crash_scenes} scenes)"
    )
    finish(
        Outcome(
            "orchestration",
            ours=median(of_long.seconds["ours"]),
            unit="s",
            n=of_long.scenes,
            peers=(
                Peer(
                    f"plain Ray tasks of {LONG_S:g} s, {version('ray')}",
                    median(of_long.seconds["plain"]),
                    TARGET,
                ),
                Peer(
                    f"plain Ray tasks of {SHORT_S:g} s, {version('ray')}",
                    median(of_short.seconds["plain"]),
                    TARGET,
                    ours=median(of_short.seconds["ours"]),
                    unit="s",
                ),
                Peer(
                    f"{CRASH_P:.0%} crashes: 1/(1 − p) + {CRASH_SLACK:.0%}",
                    bound,
                    1,
                    ours=overhead,
                    unit="× without crashes",
                ),
            ),
            facts={
                "efficiency": round(of_long.efficiency("ours"), 4),
                "peer_efficiency": round(of_long.efficiency("plain"), 4),
                "short_scenes": of_short.scenes,
                "short_efficiency": round(of_short.efficiency("ours"), 4),
                "short_peer_efficiency": round(of_short.efficiency("plain"), 4),
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


@contextlib.contextmanager
def session(sleep_s: float, slots: int) -> Iterator[None]:
    """A Ray whose workers sleep that long."""
    from panoforge.cluster.config.ray import RayConfig
    from panoforge.cluster.ray.session import ray_session

    os.environ["PANOFORGE_SLEEP_S"] = str(sleep_s)
    with ray_session(RayConfig(), cpus=slots):
        yield


def race(folder: Path, sleep_s: float, scenes: int, slots: int, repeats: int) -> Race:
    """Ours and the peer in turn, after one scene a slot of each that starts Ray's workers."""
    work = {"ours": ours, "plain": plain}
    for name, run in work.items():
        run(folder / f"{name}-first", slots)
    return Race(sleep_s, scenes, slots, in_turn(work, folder, scenes, repeats))


def in_turn(
    work: Mapping[str, Callable[[Path, int], float]], folder: Path, scenes: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each, `repeats` times in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats):
        for name, run in work.items():
            seconds[name].append(run(folder / f"{name}-{turn}", scenes))
    return seconds


def ours(run: Path, scenes: int) -> float:
    """Seconds of `pano render` within a Ray that is up."""
    from panoforge.cluster.config.jobs import RenderJobConfig
    from panoforge.cluster.config.limits import LimitsConfig
    from panoforge.cluster.render.runner import render
    from panoforge.datagen.config.render import RenderConfig

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
