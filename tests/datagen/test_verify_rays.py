"""`pano verify RUN --rays N` on a run of a user's .blend: every ray agrees; a run that was tampered
with is found.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from repository import ROOT
from typer.testing import CliRunner

from panoforge.cli.app import app
from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.verify_rays import verify_by_rays
from panoforge.core.errors import DataError
from panoforge.core.run_layout import JOB_FILE
from panoforge.core.sample.array_codec import decode_array, encode_array
from panoforge.datagen.config.render import plan_scenes
from panoforge.datagen.messages import SceneRequest, SceneResult
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.verify.request import check_identity

pytestmark = [pytest.mark.render, pytest.mark.timeout(400)]
MAKE_FILE = """
import sys
sys.path[:0] = sys.argv[2:4]
import bpy
from blender_scenes import cluttered, lamp
bpy.ops.wm.read_factory_settings(use_empty=True)
cluttered()
lamp(100, (0, 0, 2.4))
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
from panoforge.datagen.defects import exit_now
exit_now(0)
"""


def python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: two panoramas of one .blend, from poses of a file."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "make.py").write_text(MAKE_FILE)
    python(
        str(folder / "make.py"), str(folder / "mine.blend"), str(ROOT), str(Path(__file__).parent)
    )
    (folder / "poses.csv").write_text(
        "x_m,y_m,z_m,yaw_deg,pitch_deg,roll_deg\n0.3,-0.2,1.1,37,11,-5\n-0.2,0.1,0.2,-90,,\n"
    )
    config = RenderJobConfig(
        run=folder,
        sources=({"source": "blend", "paths": (str(folder / "mine.blend"),)},),
        scenes=1,
        cameras_per_scene=2,
        width=256,
        height=128,
        samples=1,
        denoise=False,
        threads=1,
        rgb_format="png",
        camera={"poses": str(folder / "poses.csv")},
        quality={"max_single_instance": 1.0},
    )
    (folder / JOB_FILE).write_text(config.model_dump_json())
    render = config.render
    request = SceneRequest(
        scene=plan_scenes(render)[0],
        render=render,
        staged=folder / "staged",
        result=folder / "result.json",
        config_sha256=image_config_sha256(render),
    )
    (folder / "job.json").write_text(request.model_dump_json())
    python("-m", "panoforge.datagen.worker", str(folder / "job.json"))
    result = SceneResult.model_validate_json((folder / "result.json").read_bytes())
    assert result.outcome == "done", result
    return folder


def test_poses_of_the_file_are_the_poses_of_the_panoramas(run):
    metas = [json.loads(path.read_text()) for path in sorted((run / "staged").glob("*/meta.json"))]
    assert [meta["pose"]["position_m"] for meta in metas] == [[0.3, -0.2, 1.1], [-0.2, 0.1, 0.2]]
    assert [
        [meta["pose"][f"{angle}_deg"] for angle in ("yaw", "pitch", "roll")] for meta in metas
    ] == [[37, 11, -5], [-90, 0, 0]]
    assert all(meta["schema_version"] == 1 and meta["pose"]["clearance_m"] > 0 for meta in metas)


def test_every_ray_meets_what_was_rendered(run):
    report = verify_by_rays(run, 6000)
    assert report.ok and report.total("rays") == 6000 and len(report.panoramas) == 2
    assert report.total("agree") >= 5995 and report.counts("kinds")["transparent"] > 30
    done = CliRunner().invoke(
        app, ["verify", str(run / "staged" / report.panoramas[0]["key"]), "--rays", "500", "--json"]
    )
    said = json.loads(done.stdout[done.stdout.index("{") :])
    assert (
        done.exit_code == 0 and said["ok"] and said["rays"] == 500 and len(said["panoramas"]) == 1
    )


def test_a_label_map_that_was_tampered_with_is_found(run):
    path = next((run / "staged").glob("*/instance.zst"))
    kept = path.read_bytes()
    labels = decode_array(kept)
    counts = np.bincount(labels.ravel())
    first, second = np.argsort(counts[1:])[-2:] + 1
    swapped = labels.copy()
    swapped[labels == first], swapped[labels == second] = second, first
    path.write_bytes(encode_array(swapped))
    try:
        report = verify_by_rays(run, 2000)
        assert not report.ok and report.counts("differ")["wrong"] > 20
        assert any("a ray meets" in line for line in report.as_lines())
    finally:
        path.write_bytes(kept)


def test_a_scene_rendered_with_another_config_is_not_judged(run):
    config = json.loads((run / JOB_FILE).read_text())
    (run / JOB_FILE).write_text(json.dumps({**config, "subdivision_cap": 0}))
    try:
        report = verify_by_rays(run, 100)
        assert not report.ok and "rendered with another config" in report.failed["blend-00000000"]
    finally:
        (run / JOB_FILE).write_text(json.dumps(config))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected the folder of a render run"):
        verify_by_rays(tmp_path, 10)


def test_a_scene_that_came_out_otherwise_is_not_taken_for_wrong_ids():
    meta = SimpleNamespace(key="a-c0", versions={"infinigen1_scene": "one", "bpy": "4.2.0"})
    check_identity(meta, Scene((), (), versions={"infinigen1_scene": "one"}))
    check_identity(meta, Scene((), (), versions={"blend": "other.blend"}))
    with pytest.raises(DataError, match="shows scene one, and its seed now makes two"):
        check_identity(meta, Scene((), (), versions={"infinigen1_scene": "two"}))
