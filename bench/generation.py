"""Scene generation: core-seconds and memory per scene, and the share of seeds that fail, over all
sources that generate. Of each scene's panoramas: how many instances they have, and how many of
these are ornaments or unknown. And how much of the sphere things cover (the shell of a room is
none).

Each seed goes through the whole worker (`panoforge.datagen.worker`, a process of its own): four
panoramas of 512×256 at one sample. A seed which generates but cannot be rendered counts as failed
too, with its reason. There is no peer: this is the measurement behind the capacity plan, and the
proof that no seed stops a run. One line per scene goes to FOLDER/scenes.jsonl as it ends; the same
command goes on from there, at most `--minutes` at a time, and sums up when all are made. What
Infinigen 1 generated stays in FOLDER/scenes, the cache of scenes:

    python -m bench.generation --out runs/generation --minutes 12
    python -m bench.generation --out runs/generation --source infinigen1 --minutes 90
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.common import arguments, machine
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.storage.staged import read_staged
from panoforge.datagen.config.render import RenderConfig, SceneJob, plan_scene
from panoforge.datagen.messages import SceneRequest, SceneResult

# How many scenes of each source: 100 of Infinigen 2, 50 of them rooms (ten of each of the five).
SHARES = {
    "infinigen2.rooms": 50,
    "infinigen2.floating": 18,
    "infinigen2.house": 7,
    "infinigen2.outdoor": 25,
    "infinigen1.indoors": 10,  # two of each of the five
    "infinigen1.nature": 2,
}
QUICK = {"infinigen2.rooms": 2, "infinigen2.floating": 1}
TIMEOUT_S = 5400.0


def small(source: str, seed: int, scenes: Path) -> RenderConfig:
    """Small pictures of one sample: everything else is as in a real run."""
    kept = {"cache": str(scenes), "timeout_s": TIMEOUT_S - 600} if "infinigen1" in source else {}
    return RenderConfig(
        sources=({"source": source, **kept},),
        scenes=1000,
        cameras_per_scene=4,
        seed=seed,
        width=512,
        height=256,
        samples=1,
        max_bounces=1,
        denoise=False,
        threads=1,
        scene_tries=1,
    )


def planned(shares: dict[str, int], seed: int, scenes: Path) -> list[tuple[SceneJob, RenderConfig]]:
    """All scenes, the sources mixed in proportion, so that whatever part is done says something of
    each.
    """
    found = []
    for source, count in shares.items():
        config = small(source, seed, scenes)
        found += [
            ((index + 0.5) / count, plan_scene(config, index), config) for index in range(count)
        ]
    return [
        (job, config) for _, job, config in sorted(found, key=lambda item: (item[0], item[1].key))
    ]


def make(job: SceneJob, config: RenderConfig) -> dict:
    """One scene through the worker; a record of how it ended. A crash or a hang is a record too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = SceneRequest(
            scene=job,
            render=config,
            staged=folder / "staged",
            result=folder / "result.json",
            config_sha256="",
        )
        (folder / "job.json").write_text(request.model_dump_json())
        begin = time.perf_counter()
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "panoforge.datagen.worker", str(folder / "job.json")],
                text=True,
                capture_output=True,
                timeout=TIMEOUT_S,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            tail = ended.stderr[-300:]
        except subprocess.TimeoutExpired:
            tail = f"no end after {TIMEOUT_S:.0f} s"
        wall_s = time.perf_counter() - begin
        if not request.result.is_file():
            return {
                "key": job.key,
                "outcome": "crashed",
                "reasons": [f"crash: {tail}"],
                "wall_s": wall_s,
            }
        result = SceneResult.model_validate_json(request.result.read_bytes())
        seen = [what_is_seen(read_staged(request.staged, p.key)[0]) for p in result.panoramas]
    reasons = [f"{r.reason}: {r.detail}" for r in result.rejections] + (
        [result.error] if result.error else []
    )
    return {
        "key": job.key,
        "outcome": result.outcome,
        "reasons": reasons,
        "wall_s": wall_s,
        "cpu_s": result.cpu_s,
        "cpu_by_phase_s": result.cpu_by_phase_s,
        "peak_memory_mb": result.peak_memory_mb,
        "notes": list(result.notes),
        "panoramas": seen,
    }


def what_is_seen(meta: SampleMeta) -> dict[str, float]:
    """Counts of a panorama's instances, and the share of the sphere that things cover."""
    things = [one for one in meta.instances if "structure" not in one.flags]
    return {
        "instances": len(meta.instances),
        "ornaments": sum(one.category == "ornament" for one in meta.instances),
        "unknown": sum(one.category.startswith("unknown:") for one in meta.instances),
        "categories": len({one.category for one in meta.instances}),
        "things_share": sum(one.area_sr for one in things) / (4 * math.pi),
    }


def kind(record: dict) -> str:
    """`rooms-kitchen` of `rooms-kitchen-00000004`."""
    return record["key"].rsplit("-", 1)[0]


def summary(records: Iterable[dict]) -> dict[str, dict]:
    """Per kind of scene: how many, how many failed and why, seconds of generation and of
    everything, memory.
    """
    by_kind: dict[str, list[dict]] = {}
    for record in records:
        by_kind.setdefault(kind(record), []).append(record)
    found = {}
    for name, rows in sorted(by_kind.items()):
        alive = [row for row in rows if "cpu_by_phase_s" in row]
        generate = [row["cpu_by_phase_s"].get("generate", 0.0) for row in alive]
        found[name] = {
            "scenes": len(rows),
            "failed": sum(row["outcome"] != "done" for row in rows),
            "generate_core_s": round(statistics.median(generate), 1) if generate else None,
            "generate_max_core_s": round(max(generate), 1) if generate else None,
            "whole_core_s": (
                round(statistics.median(row["cpu_s"] for row in alive), 1) if alive else None
            ),
            "peak_memory_mb": round(max((row["peak_memory_mb"] for row in alive), default=0.0)),
            **_seen([panorama for row in alive for panorama in row["panoramas"]]),
            "refused_poses": dict(
                Counter(text.split(":")[0] for row in rows for text in row["reasons"])
            ),
            "failures": dict(
                Counter(
                    row["reasons"][-1][:160] if row["reasons"] else row["outcome"]
                    for row in rows
                    if row["outcome"] != "done"
                )
            ),
        }
    return found


def _seen(rows: list[dict]) -> dict[str, float]:
    """What the panoramas of a kind show: medians, and shares of all their instances."""
    if not rows:
        return {}
    instances = sum(row["instances"] for row in rows)
    return {
        "panoramas": len(rows),
        "instances_median": statistics.median(row["instances"] for row in rows),
        "ornament_share": round(sum(row["ornaments"] for row in rows) / instances, 3),
        "unknown_share": round(sum(row["unknown"] for row in rows) / instances, 3),
        "things_share_of_sphere": round(statistics.median(row["things_share"] for row in rows), 3),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/generation"), help="where scenes.jsonl is kept"
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="start no scene after this")
    parser.add_argument("--source", help="sources whose names begin with this")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "scenes.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    made, begin = {record["key"] for record in records}, time.perf_counter()
    shares = {
        name: n
        for name, n in (QUICK if args.quick else SHARES).items()
        if name.startswith(args.source or "")
    }
    left = 0
    for job, config in planned(shares, args.seed, args.out / "scenes"):
        if job.key in made:
            continue
        if time.perf_counter() - begin > 60 * args.minutes:
            left += 1
            continue
        records.append(make(job, config))
        with open(log, "a") as file:
            file.write(json.dumps(records[-1]) + "\n")
        print(
            f"{records[-1]['key']}: {records[-1]['outcome']}, {records[-1]['wall_s']:.0f} s",
            flush=True,
        )
    found = summary(records)
    for name, row in found.items():
        print(
            f"{name}: {row['scenes']} scenes, {row['failed']} failed {row['failures']}; generation"
            f" {row['generate_core_s']} core-s (at most {row['generate_max_core_s']}), whole worker"
            f" {row['whole_core_s']} core-s, {row['peak_memory_mb']} MB;"
            f" {row.get('panoramas', 0)} panoramas of {row.get('instances_median')} instances,"
            f" {row.get('ornament_share')} of them ornaments, {row.get('unknown_share')} unknown;"
            f" things cover {row.get('things_share_of_sphere')} of the sphere"
        )
    crashed = sum(record["outcome"] == "crashed" for record in records)
    failed = sum(record["outcome"] != "done" for record in records)
    print(
        json.dumps(
            {
                "bench": "generation",
                "ok": not crashed and not left,
                "scenes": len(records),
                "left": left,
                "crashed": crashed,
                "failed": failed,
                "kinds": found,
                "machine": machine(),
            }
        )
    )
    if left:
        sys.exit(3)


if __name__ == "__main__":
    main()
