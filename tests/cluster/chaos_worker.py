"""A worker as `panoforge.datagen.worker` defines one, that makes synthetic panoramas in a moment
and misbehaves on demand.

`CHAOS` names a folder with `plan.json`: scene index → list of what its attempts do, one after the
other. The last entry is for all further attempts. Scenes that are not named do `ok`.
Each start leaves a file in `CHAOS/calls`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from panoforge.datagen.messages import (
    Rejection,
    SceneRequest,
    SceneResult,
    StagedPanorama,
    read_request,
    write_result,
)

WIDTH = 64


def make(request: SceneRequest, camera: int, *, black: bool = False) -> StagedPanorama:
    """One panorama, a pure function of seed and camera; `black` as a device that gave up leaves
    it."""
    # here, because a worker that is to fail need not wait for imports that take a second
    import numpy as np
    import synthetic

    from panoforge.core.sample.instance_table import InstanceLabel, instance_table
    from panoforge.core.sample.label_maps import dense_ids
    from panoforge.core.sample.metadata import Pose, SampleMeta
    from panoforge.core.storage.staged import write_staged

    rng = np.random.default_rng([request.scene.seeds[0], camera])
    rgb, labels = synthetic.caps(rng, WIDTH, 6)
    rgb = np.zeros_like(rgb) if black else rgb
    labels, _ = dense_ids(labels)
    names = {
        i: InstanceLabel(f"cap_{i}", "lamp", f"Cap.{i:03d}")
        for i in range(1, int(labels.max()) + 1)
    }
    arrays = {"rgb.png": rgb, "instance.zst": labels}
    meta = SampleMeta(
        key=request.scene.sample_key(camera),
        width=WIDTH,
        height=WIDTH // 2,
        source="synthetic/caps",
        scene=request.scene.key,
        seed=request.scene.seeds[0],
        camera=camera,
        pose=Pose(
            position_m=(0.0, 0.0, 1.5),
            yaw_deg=0.0,
            clearance_m=0.5,
            world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ),
        products=tuple(sorted(arrays)),
        instances=instance_table(labels, names, rle=False),
        config_sha256=request.config_sha256,
        versions={"panoforge": "test"},
        timings_s={},
    )
    record = write_staged(request.staged, meta, arrays)
    return StagedPanorama(
        key=record.key, sha256=record.sha256, instances=len(meta.instances), timings_s={}
    )


def behaviour(request: SceneRequest) -> str:
    """What this start of this scene is to do."""
    chaos = Path(os.environ["CHAOS"])
    calls = chaos / "calls"
    calls.mkdir(parents=True, exist_ok=True)
    before = len(list(calls.glob(f"{request.scene.index}-*")))
    (calls / f"{request.scene.index}-{before}-{os.getpid()}").touch()
    plan = json.loads((chaos / "plan.json").read_text()) if (chaos / "plan.json").exists() else {}
    wanted = plan.get(str(request.scene.index), ["ok"])
    return wanted[min(before, len(wanted) - 1)]


def segfault(request: SceneRequest) -> None:
    make(request, 0)
    tempfile.mkstemp(dir=tempfile.mkdtemp())  # as Blender leaves some
    os.kill(os.getpid(), signal.SIGSEGV)


def raise_error(request: SceneRequest) -> None:
    raise RuntimeError("a defect of the generator")


def hang_against_sigterm(request: SceneRequest) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def flood(request: SceneRequest) -> None:
    while True:
        print("flood " * 1000)


def balloon(request: SceneRequest) -> None:
    kept = []
    while True:
        kept.append(b"x" * 20_000_000)
        time.sleep(0.02)


def leave_children(request: SceneRequest) -> None:
    for detached in (False, True):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=detached
        )


def half_file(request: SceneRequest) -> None:
    folder = request.staged / request.scene.sample_key(0)
    folder.mkdir(parents=True)
    (folder / "rgb.png").write_bytes(b"half")
    os._exit(1)


def refuse(request: SceneRequest) -> None:
    write_result(
        request.result,
        SceneResult(key=request.scene.key, outcome="failed", error="ConfigError: no such file"),
    )
    sys.exit(1)


def reject(request: SceneRequest) -> None:
    rejection = Rejection(
        seed=request.scene.seeds[0], pose=0, reason="black", detail="mean luminance 0"
    )
    write_result(
        request.result,
        SceneResult(key=request.scene.key, outcome="rejected", rejections=(rejection,)),
    )
    sys.exit(0)


# Behaviours that come before the work; those that return let it go on.
BEFORE = {
    "segfault": segfault,
    "exit 0": lambda request: sys.exit(0),
    "raise": raise_error,
    "hang": lambda request: time.sleep(600),
    "hang against sigterm": hang_against_sigterm,
    "flood": flood,
    "balloon": balloon,
    "children": leave_children,
    "half file": half_file,
    "refuse": refuse,
    "reject": reject,
}


def misbehave(how: str, request: SceneRequest) -> None:
    """Do it; behaviours that end in good work return."""
    print("chaos:", how, flush=True)
    if how.startswith("sleep"):
        time.sleep(float(how.split()[1]))
    elif how.startswith("gate"):  # until the test opens it
        while not Path(os.environ["CHAOS"], how).exists():
            print("at the gate", flush=True)
            time.sleep(0.2)
    elif how in BEFORE:
        BEFORE[how](request)


def main() -> None:
    request = read_request(Path(sys.argv[1]))
    how = behaviour(request)
    misbehave(how, request)
    panoramas = [
        make(request, camera, black=how == "black frame") for camera in range(request.scene.cameras)
    ]
    if how == "lie":  # the result names bytes that are not what was staged
        (request.staged / panoramas[0].key / "instance.zst").write_bytes(b"rotten")
    write_result(
        request.result,
        SceneResult(
            key=request.scene.key, outcome="done", panoramas=tuple(panoramas), peak_memory_mb=1.0
        ),
    )
    if how == "crash on the way out":
        os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    main()
