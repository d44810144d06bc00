"""A job holds its stage's config whole; in files, records and messages both are one mapping."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from panoforge.cluster.config.jobs import EvalJobConfig, RenderJobConfig, TrainJobConfig
from panoforge.cluster.render.images import image_config_sha256
from panoforge.core.config import config_sha256, load_config
from panoforge.core.config.flat import FlatModel, flat_fields
from panoforge.core.errors import ConfigError
from panoforge.core.models import FrozenModel
from panoforge.datagen.config.render import RenderConfig


class Stage(FrozenModel):
    scenes: int = 1
    camera: dict[str, int] = {}


class Job(FlatModel):
    inner: ClassVar[str] = "stage"

    stage: Stage = Stage()
    run: str


def test_one_mapping_in_files_and_records_a_whole_config_in_python():
    job = Job.model_validate({"run": "r", "scenes": 3})
    assert job.stage == Stage(scenes=3) and job == Job(run="r", stage=Stage(scenes=3))
    assert job.model_dump() == {"scenes": 3, "camera": {}, "run": "r"}
    assert Job.model_validate(job.model_dump()) == job
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert list(flat_fields(Job)) == ["scenes", "camera", "run"]


def test_a_stage_cannot_be_written_nested():
    with pytest.raises(ValidationError):
        Job.model_validate({"run": "r", "stage": {"scenes": 3}})
    with pytest.raises(ValidationError):
        Job.model_validate({"run": "r", "stage": Stage(), "scenes": 3})


def test_a_key_that_both_have_is_refused_when_the_job_is_defined():
    with pytest.raises(TypeError, match=r"\['scenes'\] would mean two things"):

        class Twice(FlatModel):
            inner: ClassVar[str] = "stage"

            stage: Stage = Stage()
            scenes: int = 2


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        (RenderJobConfig, "scenes: x", "job.yaml: scenes: Input should be a valid integer"),
        (RenderJobConfig, "scens: 3", "unknown key 'scens'. Did you mean 'scenes'?"),
        (RenderJobConfig, "render: {scenes: 3}", "unknown key 'render'"),
        (RenderJobConfig, "camera: {tri: 2}", "unknown key 'camera.tri'. Did you mean 'camera.t"),
        (TrainJobConfig, "model: {sise: tiny}", "unknown key 'model.sise'. Did you mean 'model.s"),
        (EvalJobConfig, "worker: 3", "unknown key 'worker'. Did you mean 'workers'?"),
        (EvalJobConfig, "scan: {fov_deg: 3}", "job.yaml: scan.fov_deg: Input should be greater"),
    ],
)
def test_messages_name_the_key_as_it_is_written(tmp_path, model, text, message):
    path = tmp_path / "job.yaml"
    path.write_text(f"run: r\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, model)
    assert message in str(caught.value)


def test_the_digest_of_the_images_is_that_of_the_render_config():
    """Pinned: runs and panoramas made before jobs held their stage go on under their digests."""
    job = RenderJobConfig.model_validate({"run": "r", "scenes": 7, "width": 128, "height": 64})
    assert image_config_sha256(job.render) == config_sha256(RenderConfig(width=128, height=64))
