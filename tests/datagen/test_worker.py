"""One real Infinigen room through the worker, small: staged output and its metadata.

That the same seed gives the same labels is in tests/cluster/render/test_runner.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from panoforge.core.sample.instance_table import table_faults
from panoforge.core.sample.products import decode_product
from panoforge.core.storage.staged import list_staged, read_staged
from panoforge.core.storage.store import Store
from panoforge.datagen.config.render import RenderConfig, plan_scenes
from panoforge.datagen.messages import SceneRequest, SceneResult

pytestmark = [pytest.mark.real, pytest.mark.render, pytest.mark.timeout(600)]


ROOM = {"source": "infinigen2.rooms", "rooms": ["bathroom"]}
IN_ONE_PROCESS = """
import sys
from pathlib import Path
from panoforge.datagen.worker import read_request, run, write_result
for path in sys.argv[1:]:
    request = read_request(Path(path))
    write_result(request.result, run(request))
from panoforge.datagen.defects import exit_now
exit_now(0)
"""


def request_of(folder: Path, number: int = 0, *sources: dict) -> Path:
    """The job file of scene `number`, one camera at 128×64: of a bathroom where no sources are
    given.
    """
    config = RenderConfig(
        sources=sources or [ROOM],
        scenes=number + 1,
        cameras_per_scene=1,
        width=128,
        height=64,
        samples=2,
        denoise=False,
        threads=1,
        rle=True,
        rgb_format="png",
        products=["rgb", "instance", "depth", "normal", "semantic", "albedo"],
    )
    request = SceneRequest(
        scene=plan_scenes(config)[number],
        render=config,
        staged=folder / "staged",
        result=folder / f"result{number}.json",
        config_sha256="c0ffee",
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"job{number}.json").write_text(request.model_dump_json())
    return folder / f"job{number}.json"


def python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def run_room(folder: Path) -> tuple[SceneResult, Path]:
    """Render one bathroom; returns the result and the staged folder."""
    python("-m", "panoforge.datagen.worker", str(request_of(folder)))
    return SceneResult.model_validate_json(
        (folder / "result0.json").read_bytes()
    ), folder / "staged"


def what_must_repeat(staged: Path) -> dict[str, dict]:
    """By panorama: the bytes of labels, depth and categories, and the metadata but for timings."""
    found = {}
    for key in list_staged(Store.at(staged)):
        _, members = read_staged(staged, key)
        meta = json.loads(members["meta.json"])
        for varying in ("timings_s", "cpu_s", "peak_memory_mb", "hardware"):
            meta.pop(varying)
        found[key] = {
            "meta": meta,
            **{name: members[name] for name in ("instance.zst", "depth.delta.zst", "semantic.zst")},
        }
    return found


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[SceneResult, Path]:
    return run_room(tmp_path_factory.mktemp("room"))


def test_a_room_is_staged_with_everything_asked_for(room):
    result, staged = room
    assert result.outcome == "done" and len(result.panoramas) == 1
    assert {"generate", "prepare", "probe", "sync", "sample", "write"} <= set(result.timings_s)
    assert 100 < result.peak_memory_mb < 2000 and result.cpu_s > 1  # on the limit surface: 14,000
    meta, members = read_staged(staged, result.panoramas[0].key)
    assert "infinigen2's subdivision for renders is at most 2" in meta.notes
    assert meta.cpu_s["prepare"] < 20  # core-seconds; on the limit surface: 100 to 700
    arrays = {suffix: decode_product(suffix, members[suffix]) for suffix in meta.products}
    labels = arrays["instance.zst"]
    assert table_faults(labels, meta) == []
    assert (labels > 0).mean() > 0.95  # a room is closed
    categories = {row.category for row in meta.instances}
    assert {"wall", "floor", "ceiling", "door"} <= categories
    assert not any(name.startswith("unknown:") for name in categories)
    assert all(
        "structure" in row.flags
        for row in meta.instances
        if row.category in ("wall", "floor", "ceiling")
    )
    assert all(row.rle is not None for row in meta.instances)
    assert set(meta.cpu_s) == set(meta.timings_s) and 0 < sum(meta.cpu_s.values()) <= result.cpu_s
    floor = next(row for row in meta.instances if row.category == "floor")
    assert (
        floor.box_3d is not None
        and floor.box_3d.size_m[2] < 0.1
        and abs(floor.box_3d.center_m[2]) < 0.1
    )
    assert all(
        row.visibility is not None and 0 < row.visibility <= 1
        for row in meta.instances
        if row.pixels > 20
    )
    assert (arrays["semantic.zst"] > 0).sum() == (labels > 0).sum()
    assert arrays["rgb.png"].std() > 3 and arrays["albedo.jpg"].std() > 3


def test_floor_is_below_and_depth_agrees_with_where_the_camera_stands(room):
    result, staged = room
    meta, members = read_staged(staged, result.panoramas[0].key)
    labels, depth, normal = (
        decode_product(name, members[name])
        for name in ("instance.zst", "depth.delta.zst", "normal.oct.zst")
    )
    floor = [row.id for row in meta.instances if row.category == "floor"]
    below = np.isin(labels[-1], floor)
    assert np.isfinite(depth[labels > 0]).all() and depth.min() >= meta.pose.clearance_m - 1e-3
    if below.any():
        assert depth[-1][below] == pytest.approx(meta.pose.position_m[2], rel=0.02)
        assert (normal[-1][below][:, 2] > 0.9).all()


@pytest.mark.slow
def test_scenes_in_another_order_give_the_same_labels_and_metadata(room, tmp_path):
    """Two scenes one after the other in one process, which a run never does, and the other way
    round: nothing of a scene is left to the next. And the room is the one of a process of its own.
    """
    sources = (ROOM, {"source": "infinigen2.floating"})
    found = []
    for name, order in (("forth", (0, 1)), ("back", (1, 0))):
        python(
            "-c",
            IN_ONE_PROCESS,
            *(str(request_of(tmp_path / name, number, *sources)) for number in order),
        )
        found.append(what_must_repeat(tmp_path / name / "staged"))
    assert len(found[0]) == 2 and found[0] == found[1]
    assert what_must_repeat(room[1]).items() <= found[0].items()
