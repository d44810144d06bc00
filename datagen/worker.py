"""One scene in, staged panoramas out.

Always its own process: `python -m panoforge.datagen.worker JOB.json`.

The job file is a `SceneRequest`, the result file a `SceneResult`, written atomically as the last
act. Blender may run out of memory, hang or crash, so nothing of it lives in the parent: the parent
reads the result file, and no result file means a crash. Importing this module loads no bpy; the
work does. A rejected panorama moves to the next pose, a scene without any accepted panorama to the
next seed. `rejected` with all the reasons is a proper result, with exit code 0.
"""

import sys
import tempfile
import traceback
from pathlib import Path

from panoforge.core.errors import UserError
from panoforge.core.numbers import counted
from panoforge.datagen.messages import SceneRequest, SceneResult, read_request, write_result
from panoforge.datagen.timing import Timer, cpu_seconds, peak_memory_mb, say


def run(request: SceneRequest) -> SceneResult:
    """Make the scene. Needs bpy; changes the whole process."""
    from panoforge.datagen.pipeline import render_scene

    timer = Timer()
    with tempfile.TemporaryDirectory(prefix="panoforge-") as folder:
        try:
            return render_scene(request, timer, Path(folder))
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            return SceneResult(
                key=request.scene.key,
                outcome="failed",
                error=f"{type(error).__name__}: {' '.join(str(error).split())}",  # one line
                timings_s=timer.seconds,
                cpu_s=cpu_seconds(),
                cpu_by_phase_s=timer.cpu,
                peak_memory_mb=peak_memory_mb(),
            )


def main(arguments: list[str]) -> int:
    """Make the scene of a request file; 1 if it failed, 2 for a wrong call."""
    if len(arguments) != 1:
        print("usage: python -m panoforge.datagen.worker JOB.json", file=sys.stderr)
        return 2
    request = read_request(Path(arguments[0]))
    result = run(request)
    write_result(request.result, result)
    say(
        f"{result.key} {result.outcome}: {counted(len(result.panoramas), 'panorama')},"
        f" {counted(len(result.rejections), 'rejection')}"
    )
    return 1 if result.outcome == "failed" else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if "bpy" in sys.modules:
        from panoforge.datagen.defects import exit_now

        exit_now(code)
    sys.exit(code)
