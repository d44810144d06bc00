"""Run Infinigen 1's command to its end, and tell how it ended in its own words. Imports no bpy."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from panoforge.core.foreign.files import read_json
from panoforge.datagen.extensions.extension_zip import unpack_extension
from panoforge.datagen.infinigen1.command import GeneratorStep, floor_plan_step
from panoforge.datagen.infinigen1.overlay import Infinigen1, Infinigen1Missing
from panoforge.datagen.scene.scene import SceneFailed

FLOOR_PLAN_TIMEOUT_S = 900.0
SCENE, STATE = "scene.blend", "solve_state.json"
_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit|Warning)\b:?")
# Blender says this as it ends, whatever ended it.
_LEAK = re.compile(r"^Error: Not freed memory blocks")
_PLACE = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_TAIL_LINES = 200


def run_step(
    generator: Infinigen1,
    step: GeneratorStep,
    timeout_s: float,
    extra: Mapping[str, str],
    on_line: Callable[[str], None],
) -> None:
    """Run one command to its end.

    Args:
        generator: Which Infinigen 1.
        step: What it is asked.
        timeout_s: After which it is ended.
        extra: Added to its environment.
        on_line: Takes every line that it writes.

    Raises:
        SceneFailed: It failed, hung, or left no scene.blend; with its own last words.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        [generator.python, *step.arguments],
        cwd=generator.folder,  # its gin files include each other from there
        env={**os.environ, **generator.environment, "PYTHONHASHSEED": "0", **extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    alarm = _Alarm(process)
    timer = threading.Timer(timeout_s, alarm.ring)
    timer.start()
    try:
        for line in process.stdout or ():
            on_line(line.rstrip())
            tail.append(line.strip())
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
    if alarm.rang:
        raise SceneFailed(
            f"Infinigen 1 did not end within timeout_s={timeout_s:g} (raise it, or ask for less: a"
            f" cheaper profile or biome), its last line: {last_words(tail)}"
        )
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise SceneFailed(f"Infinigen 1 {how}: {last_words(tail)}")
    if not (step.output / SCENE).is_file():
        raise SceneFailed(
            f"Infinigen 1 ended well and left no {SCENE} in its {step.output.name} folder"
        )


class _Alarm:
    """Ends a process, and knows that it did."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.rang = process, False

    def ring(self) -> None:
        self.rang = True
        self._process.kill()


def last_words(lines: Iterable[str]) -> str:
    """What a process said last: the exception's line if there is one, else its last line.

    An exception without words is told with the place where it was raised.
    """
    said = [line for line in lines if line and not _LEAK.match(line)]
    errors = [number for number, line in enumerate(said) if _ERROR.match(line)]
    if not errors:
        return said[-1] if said else ""
    error = said[errors[-1]]
    places = [found for line in said[: errors[-1]] if (found := _PLACE.match(line))]
    if not places or error.partition(":")[2].strip():
        return error
    raised = places[-1]
    where = f"{Path(raised['file']).name}:{raised['line']}"
    return f"{error.rstrip(':')} in {raised['function']} ({where})"


def check_floor_plan(generator: Infinigen1) -> None:
    """Let it make a floor plan. Infinigen1Missing, in its own words, if that does not work."""
    with tempfile.TemporaryDirectory(prefix="infinigen1-") as name:
        folder = Path(name) / "plan"
        try:
            run_step(
                generator, floor_plan_step(folder), FLOOR_PLAN_TIMEOUT_S, {}, lambda line: None
            )
        except SceneFailed as failed:
            raise Infinigen1Missing(f"a floor plan could not be made: {failed}") from None
        if not read_json(folder / STATE)["objs"]:
            raise Infinigen1Missing("Infinigen 1 made a floor plan without a room")


def extension_environment(zips: Iterable[Path], given: Path | None, folder: Path) -> dict[str, str]:
    """What shows Blender's extensions to the generator's process.

    Those of `zips`, and those that this process was given. They are put together in `folder`. Empty
    if there are none: it then sees what is installed. ExtensionMissing for a zip that is no
    extension.
    """
    zips = list(zips)
    if not zips and given is None:
        return {}
    repository = folder / "blender_org"
    if given is not None:
        shutil.copytree(given, repository)
    for path in zips:
        unpack_extension(path, repository)
    return {"BLENDER_USER_EXTENSIONS": str(folder)}
