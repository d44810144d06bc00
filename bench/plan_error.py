"""How far `pano plan` is off before any scene was made: what its probe foretells, and what scenes
then took.

Per source a scene goes through the whole worker at a small size. Its core-seconds (imports
included) are compared with `panoforge.datagen.cost.expected_cost` after a probe in the same run.
The worst factor either way is what the plan states as its error. There is no peer.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.common import arguments, machine
from panoforge.datagen.config.render import RenderConfig, plan_scene
from panoforge.datagen.cost.expected_cost import FACTOR, expected_cost
from panoforge.datagen.cost.speed_probe import measure_speed
from panoforge.datagen.messages import SceneRequest, SceneResult

# Source settings, width, samples.
CASES = (
    ({"source": "infinigen2.rooms", "rooms": ["bathroom"]}, 256, 64),
    ({"source": "infinigen2.floating"}, 256, 64),
    ({"source": "infinigen2.outdoor"}, 256, 64),
    ({"source": "infinigen2.rooms", "rooms": ["livingroom"]}, 512, 16),
)


def took(config: RenderConfig) -> SceneResult:
    """One scene of the config through the worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = SceneRequest(
            scene=plan_scene(config, 0),
            render=config,
            staged=folder / "staged",
            result=folder / "result.json",
            config_sha256="",
        )
        (folder / "job.json").write_text(request.model_dump_json())
        subprocess.run(
            [sys.executable, "-m", "panoforge.datagen.worker", str(folder / "job.json")],
            capture_output=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return SceneResult.model_validate_json(request.result.read_bytes())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, nargs="*", help="which of them, from 0")
    args = parser.parse_args()
    chosen = range(1 if args.quick else len(CASES)) if args.cases is None else args.cases
    probe = measure_speed("cpu")
    rows: list[dict[str, object]] = []
    worst = 1.0
    print(f"probe: {probe:.2f} core-s per million samples")
    for source, width, samples in (CASES[number] for number in chosen):
        config = RenderConfig(
            sources=(source,),
            cameras_per_scene=1,
            width=width,
            height=width // 2,
            samples=samples,
            device="cpu",
            threads=1,
            scene_tries=1,
        )
        result = took(config)
        expected = expected_cost(config, probe)
        taken = result.cpu_s / max(1, len(result.panoramas) + len(result.rejections))
        factor = max(expected.core_s / taken, taken / expected.core_s)
        worst = max(worst, factor)
        rows.append({"source": str(source), "foretold_s": expected.core_s, "took_s": taken})
        print(
            f"{source}, {width}×{width // 2}, {samples} samples: foretold"
            f" {expected.core_s:.1f}, took {taken:.1f} core-s, a factor of {factor:.2f};"
            f" {result.outcome}, {result.peak_memory_mb:.0f} MB,"
            f" { ({k: round(v, 1) for k, v in result.cpu_by_phase_s.items()}) }",
            flush=True,
        )
    line = {"bench": "plan_error", "ok": worst <= FACTOR, "worst_factor": round(worst, 2)}
    print(json.dumps({**line, "stated": FACTOR, "rows": rows, "machine": machine()}))


if __name__ == "__main__":
    main()
