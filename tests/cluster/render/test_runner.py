"""The render runner on a real local Ray with real Infinigen scenes. Failures stay alone, a second
run does only what is missing, and the same scene gives the same labels again.
"""

import shutil
from pathlib import Path

import pytest

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.runner import render
from panoforge.core.storage.staged import list_staged, read_staged
from panoforge.datagen.config.render import BlendSource, CameraSettings, RoomsSource

pytestmark = [pytest.mark.render, pytest.mark.ray, pytest.mark.timeout(400)]


def config(run: Path, **change) -> RenderJobConfig:
    sources = (
        RoomsSource(source="infinigen2.rooms", rooms=("bathroom",)),
        BlendSource(source="blend", paths=("/missing.blend",)),
    )
    return RenderJobConfig(
        run=run,
        sources=sources,
        scenes=2,
        cameras_per_scene=1,
        width=128,
        height=64,
        samples=1,
        denoise=False,
        products=("rgb", "instance", "depth", "normal", "semantic"),
        camera=CameraSettings(choose="random"),
        **change,
    )


@pytest.fixture
def one_ray():
    """A private Ray for all runs of a test."""
    with ray_session(RayConfig()):
        yield


@pytest.mark.real
def test_a_failed_scene_stays_alone_and_a_second_run_does_what_is_missing(tmp_path, one_ray):
    job = config(tmp_path / "run")
    fewer = job.model_copy(update={"render": job.render.model_copy(update={"scenes": 1})})
    first = render(job)
    assert [record.state for record in first.records] == ["done", "failed"]
    assert "missing.blend" in first.records[1].reason
    assert first.made_now == 2 and first.panoramas == 1 and first.count("failed") == 1
    (key,) = list_staged(tmp_path / "run" / "staged")
    meta, members = read_staged(tmp_path / "run" / "staged", key)
    assert len(meta.instances) >= 8 and (meta.width, meta.height) == (128, 64)

    shutil.rmtree(
        tmp_path / "run" / "staged" / key
    )  # lost: to be made again, and bit for bit the same labels
    second = render(fewer.model_copy(update={"ray": RayConfig(cpus_per_scene=2)}))
    assert second.made_now == 1 and second.records[0].state == "done"
    again_meta, again = read_staged(tmp_path / "run" / "staged", key)
    for repeated in ("instance.zst", "depth.delta.zst", "semantic.zst"):
        assert again[repeated] == members[repeated]
    strip = {"timings_s", "cpu_s", "peak_memory_mb", "hardware"}
    assert again_meta.model_dump(exclude=strip) == meta.model_dump(exclude=strip)

    third = render(fewer)
    assert third.made_now == 0 and third.panoramas == 1


def test_the_image_digest_ignores_counts_and_threads_only(tmp_path):
    asked = config(tmp_path).render
    digest = image_config_sha256(asked)
    assert digest == image_config_sha256(asked.model_copy(update={"scenes": 99, "threads": 7}))
    assert digest != image_config_sha256(asked.model_copy(update={"samples": 3}))
    assert digest != image_config_sha256(asked.model_copy(update={"seed": 1}))
