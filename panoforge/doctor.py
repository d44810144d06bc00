"""`pano doctor`: what works on this machine, and what to do about what does not.

Each check is a small function that really tries the thing (imports bpy in a child process, starts a
private Ray, writes a file) and gives a `Check`. A check that fails says what to do; one that only
limits (no GPU, little disk) warns.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

from panoforge.core.numbers import counted
from panoforge.core.storage.runlog import hardware, versions

CheckState = Literal["ok", "limited", "broken"]


@dataclass(frozen=True)
class Check:
    """One finding. `advice` is empty when all is well."""

    name: str
    state: CheckState
    finding: str
    advice: str = ""


_BPY_PROBE = """
import json, os, bpy
found = {}
try:
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in ("CUDA", "OPTIX", "HIP", "ONEAPI", "METAL"):
        try:
            preferences.compute_device_type = kind
        except TypeError:
            continue
        preferences.get_devices()
        names = [device.name for device in preferences.devices if device.type == kind]
        if names:
            found[kind] = names
finally:
    print(json.dumps({"version": bpy.app.version_string, "devices": found}), flush=True)
    os._exit(0)  # bpy may crash while Python shuts down
"""


def _python_check() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check("python", "ok", found)
    return Check(
        "python",
        "broken",
        found,
        "bpy 4.2 is built for Python 3.11: make the environment with that one",
    )


def _bpy_check() -> Check:
    if find_spec("bpy") is None:
        return Check(
            "bpy",
            "limited",
            "not installed: this machine cannot render",
            "pip install 'panoforge[datagen]' on nodes that render",
        )
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _BPY_PROBE],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = json.loads(probe.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError):
        tail = (
            (probe.stderr.strip().splitlines() or ["no output"])[-1]
            if "probe" in locals()
            else "hangs"
        )
        advice = (
            "install the system libraries that Blender wants (Debian: libxi6 libxxf86vm1 libxfixes3"
            " libxrender1 libsm6 libgl1)"
        )
        return Check("bpy", "broken", f"does not import: {tail}", advice)
    devices = (
        "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found["devices"].items())
        or "CPU only"
    )
    return Check("bpy", "ok", f"Blender {found['version']}, Cycles devices: {devices}")


def _infinigen_check() -> Check:
    from panoforge.scene_sources import antlandscape_installed

    if find_spec("infinigen2") is None:
        return Check(
            "infinigen",
            "limited",
            "not installed: no procedural scenes",
            "pip install 'panoforge[datagen]'",
        )
    if antlandscape_installed():
        return Check(
            "infinigen",
            "ok",
            "2.x with Blender's extension A.N.T. Landscape: every scene source, landscapes too",
        )
    return Check(
        "infinigen",
        "limited",
        "2.x, but no landscapes, and rocks are replaced (noted in the metadata): Blender's "
        "extension A.N.T. Landscape is not installed",
        "set antlandscape to a zip file of it, or to online",
    )


def _infinigen1_check() -> Check:
    from panoforge.datagen.infinigen1.overlay import INSTALL, VERSION, default_folder, fault_of

    fault = fault_of(default_folder())
    if not fault:
        return Check("infinigen1", "ok", f"{VERSION} in {default_folder()}")
    return Check("infinigen1", "limited", fault, f"{INSTALL}, for sources infinigen1.*")


def _torch_check() -> Check:
    if find_spec("torch") is None:
        return Check(
            "torch",
            "limited",
            "not installed: this machine cannot train or evaluate",
            "pip install 'panoforge[train]' on nodes that train",
        )
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return Check(
            "torch",
            "broken",
            f"torch and torchvision do not import together: {error}",
            "install the pair that requirements.lock names, both from the same index",
        )
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    if gpus:
        return Check(
            "torch", "ok", f"{torch.__version__}, {len(gpus)} GPU: {', '.join(sorted(set(gpus)))}"
        )
    return Check(
        "torch",
        "limited",
        f"{torch.__version__}, CPU only",
        "fine for the demo; training SAM2 at 1024 px wants a GPU",
    )


def _sam2_check() -> Check:
    for module in ("sam2", "training"):
        if find_spec(module) is None:
            return Check(
                "sam2",
                "limited",
                f"package {module!r} is missing: no training or evaluation",
                "pip install 'panoforge[train]' (with --no-build-isolation, after torch)",
            )
    return Check(
        "sam2",
        "ok",
        "sam2 and its training package are installed; weights are yours to bring (--checkpoint"
        " FILE)",
    )


def _process_id() -> int:
    return os.getpid()


def _ray_check() -> Check:
    from panoforge.cluster.config.ray import RayConfig
    from panoforge.cluster.ray.session import ray_session
    from panoforge.cluster.ray.watch import ClusterError

    try:
        with ray_session(RayConfig(), cpus=1):
            import ray

            answer = ray.get(ray.remote(num_cpus=1)(_process_id).remote(), timeout=60)
    except (ClusterError, Exception) as error:
        return Check(
            "ray",
            "broken",
            str(error).splitlines()[0],
            "see Ray's own logs; ports or shared memory may be closed",
        )
    return Check("ray", "ok", f"a private Ray ran a task (process {answer})")


def _disk_check(folder: Path) -> Check:
    folder = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check(
            "disk",
            "broken",
            f"cannot write to {folder}: {error.strerror}",
            "run where you may write, or set run=FOLDER",
        )
    free = shutil.disk_usage(folder).free
    panoramas = int(free / 12e6)  # a 4K panorama with depth and normals is 8 to 12 MB staged
    state: CheckState = "ok" if free > 5e9 else "limited"
    return Check(
        "disk",
        state,
        f"{free / 1e9:.0f} GB free, room for about {panoramas:,} 4K panoramas",
        "" if state == "ok" else "the demo wants 5 GB: free some space",
    )


def _memory_check() -> Check:
    available = psutil.virtual_memory().available
    state: CheckState = "ok" if available > 4e9 else "limited"
    return Check(
        "memory",
        state,
        f"{available / 1e9:.0f} GB available, {counted(len(os.sched_getaffinity(0)), 'core')}",
        (
            ""
            if state == "ok"
            else "a 4K render takes up to 8 GB, a demo scene about 1 GB: lower the width"
        ),
    )


def _speed_check() -> Check:
    from panoforge.core.numbers import duration, number
    from panoforge.datagen.config.quality_profiles import QualityProfile, profile_fields
    from panoforge.datagen.config.render import RenderConfig
    from panoforge.datagen.cost.expected_cost import FACTOR, expected_cost
    from panoforge.datagen.cost.speed_probe import NoProbe, measure_speed

    if find_spec("bpy") is None:
        return Check("speed", "limited", "not probed: this machine cannot render")
    try:
        probe = measure_speed()
    except NoProbe as error:
        return Check("speed", "limited", str(error))
    cores = len(os.sched_getaffinity(0))
    told = []
    shown: tuple[tuple[QualityProfile, int], ...] = (("preview", 1024), ("final", 4096))
    for profile, width in shown:
        config = RenderConfig(**profile_fields(profile), width=width, height=width // 2)
        seconds = duration(expected_cost(config, probe).core_s / cores)
        told.append(f"{seconds} for {width}×{width // 2} ({profile})")
    return Check(
        "speed",
        "ok",
        f"a panorama of a furnished room takes about {' and '.join(told)} on {cores} free cores,"
        f" within a factor of {number(FACTOR)}; `pano plan CONFIG` says it for a config",
    )


def diagnose(folder: Path, on_check: Callable[[str], None] = lambda name: None) -> list[Check]:
    """All checks, in the order in which the stages need them."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python_check),
        ("memory", _memory_check),
        ("disk", lambda: _disk_check(folder)),
        ("bpy", _bpy_check),
        ("infinigen", _infinigen_check),
        ("infinigen1", _infinigen1_check),
        ("speed", _speed_check),
        ("ray", _ray_check),
        ("torch", _torch_check),
        ("sam2", _sam2_check),
    ]
    found = []
    for name, check in checks:
        on_check(name)
        found.append(check())
    return found


def as_json(checks: list[Check]) -> str:
    """The findings with versions and hardware, for scripts."""
    return json.dumps(
        {
            "versions": versions(),
            "hardware": hardware(),
            "checks": [vars(check) for check in checks],
        },
        indent=1,
    )
