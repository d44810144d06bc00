"""Jobs through Ray's Job Submission API, on a real Ray with a job port that asks for a token."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chaos_runs import wait_for
from repository import ROOT
from same_runs import assert_same_run
from train_small import SMALL

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.config.submission import SubmitConfig
from panoforge.cluster.ray import submit as submit_module
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.submit import Submission, load_submission
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.status.status import read_status
from panoforge.core.config import config_yaml
from panoforge.core.errors import ConfigError, UsageError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.storage.location import with_absolute_paths
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training


@pytest.fixture
def config(tmp_path: Path, caps_dataset: Path) -> Path:
    """The ceiling of a small dataset: a real evaluation that needs no weights."""
    path = tmp_path / "chain.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "run": str(tmp_path / "run"),
                "submit": {"cpus": 0.5, "python": sys.executable, "env": {"PYTHONPATH": str(ROOT)}},
                "eval": {
                    "dataset": str(caps_dataset),
                    "methods": ["direct"],
                    "predictor": "ground_truth",
                    "scan": {"size_px": 64},
                },
            }
        )
    )
    return path


def test_a_job_is_resolved_before_it_is_sent(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = load_submission(
        "eval",
        config,
        ["run=elsewhere", "submit.gpus=1", "submit.send_code=true", "submit.pip=[zstandard]"],
    )
    assert (job.submit.cpus, job.submit.gpus) == (0.5, 1.0) and job.config.run == Path("elsewhere")
    assert job.entrypoint == f"{sys.executable} -m panoforge eval job.yaml"
    assert (
        load_submission("eval", config, ["submit.python=null", "submit.address=auto"]).entrypoint
        == "python -m panoforge eval job.yaml"
    )
    environment = job.runtime_env(tmp_path)
    assert environment["working_dir"] == str(tmp_path) and environment["pip"] == ["zstandard"]
    (module,) = map(Path, environment["py_modules"])  # with what its links lead to
    assert module.name == "panoforge" and (module / "train" / "config.py").is_file()
    with pytest.raises(ConfigError, match=r"unknown key 'methodz'.*methods"):
        load_submission("eval", config, ["methodz=1"])
    with pytest.raises(ConfigError, match=r"unknown key 'gpu'.*gpus"):
        load_submission("eval", config, ["submit.gpu=1"])
    with pytest.raises(UsageError, match="only render, train, eval are jobs of a cluster"):
        load_submission("pack", config, [])
    render = tmp_path / "render.yaml"
    render.write_text("run: a\nscenes: 1\n")
    assert load_submission("render", render, []).config.ray.address == "auto"


def test_a_cluster_that_is_coming_up_is_waited_for(monkeypatch):
    answers = [
        "status code 500: No available agent to submit job, please try again later.",
        "",
        "no such thing",
    ]

    def hand_in() -> str:
        if answer := answers.pop(0):
            raise RuntimeError(answer)
        return "raysubmit_1"

    monkeypatch.setattr(submit_module.time, "sleep", lambda seconds: None)
    assert submit_module._patiently(hand_in) == "raysubmit_1"
    with pytest.raises(RuntimeError, match="no such thing"):
        submit_module._patiently(hand_in)


def pano(*arguments: object, **change: str | None) -> subprocess.CompletedProcess:
    environment = {
        name: value for name, value in {**os.environ, **change}.items() if value is not None
    }
    return subprocess.run(
        [sys.executable, "-m", "panoforge", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster that is there already, with a job port that asks for a token."""
    with ray_session(RayConfig(), cpus=2, dashboard=True) as dashboard:
        yield f"http://{dashboard}"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestOnACluster:
    def test_an_evaluation_succeeds_and_its_log_comes_back(self, config, address, tmp_path):
        done = pano("submit", "eval", config, "--address", address)
        assert done.returncode == 0, done.stderr
        assert (
            str(tmp_path / "run" / "eval") in done.stdout
            and f"submitted to {address}" in done.stderr
        )
        results = json.loads((tmp_path / "run/eval/latest/results.json").read_text())
        assert results and (tmp_path / "run/eval/latest/report.html").exists()

    def test_a_job_that_fails_gives_its_message_and_its_exit_code(self, config, address, tmp_path):
        failed = pano(
            "submit", "eval", config, f"dataset={tmp_path / 'nowhere'}", "--address", address
        )
        assert failed.returncode == 1 and str(tmp_path / "nowhere") in failed.stdout + failed.stderr
        assert "Traceback" not in failed.stderr

    def test_a_wrong_config_is_refused_before_anything_is_sent(self, config, address):
        refused = pano("submit", "eval", config, "methodz=1", "--address", address)
        assert (
            refused.returncode == 2
            and "unknown key 'methodz'" in refused.stderr
            and "submitted" not in refused.stderr
        )

    def test_without_the_token_it_is_refused(self, config, address):
        refused = pano(
            "submit",
            "eval",
            config,
            "--address",
            address,
            RAY_AUTH_MODE="disabled",
            RAY_AUTH_TOKEN=None,
        )
        said = " ".join(refused.stderr.split())
        assert (
            refused.returncode == 1 and "did not take the job" in said and "RAY_AUTH_TOKEN" in said
        ), said

    def test_a_cluster_that_is_not_there(self, config):
        refused = pano("submit", "eval", config, "--address", "http://127.0.0.1:1")
        assert (
            refused.returncode == 1
            and "the Ray cluster at http://127.0.0.1:1 did not take the job" in refused.stderr
        )

    def test_a_training_of_two_ranks_is_that_of_one(self, caps_dataset, address, tmp_path):
        """As docs/howto/ray.md has it: the command holds no core, its ranks have both."""
        alone, run, config = tmp_path / "alone", tmp_path / "run", tmp_path / "train.yaml"
        run_training(TrainConfig.model_validate(SMALL), caps_dataset, alone)
        how = {"python": sys.executable, "env": {"PYTHONPATH": str(ROOT)}}
        train = {**SMALL, "dataset": str(caps_dataset)}
        config.write_text(yaml.safe_dump({"run": str(run), "submit": how, "train": train}))
        words = ("--address", address, "submit.cpus=0", "nodes=1", "devices=2")
        done = pano("submit", "train", config, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"train: {SMALL['steps']}/{SMALL['steps']}" in done.stdout, done.stdout
        assert [row["ranks"] for row in read_metrics(run / "metrics.jsonl")] == [2] * SMALL["steps"]
        assert_same_run(run, alone)

    def test_not_following(self, config, address):
        done = pano("submit", "eval", config, "--address", address, "--no-follow")
        assert done.returncode == 0 and "ray job logs" in done.stderr
        refused = pano("submit", "eval", config, "--no-follow")
        assert refused.returncode == 2 and "must be followed" in refused.stderr


@pytest.mark.ray
@pytest.mark.render
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_room_is_rendered_trained_on_and_scored_by_jobs(address, tmp_path):
    """The chain through the job port: a real Infinigen room, SAM2 made small, nothing but the
    submit verb on the way.
    """
    chain, run, small = (
        tmp_path / "chain.yaml",
        tmp_path / "run",
        {"size": "micro", "image_size": 128},
    )
    chain.write_text(
        yaml.safe_dump(
            {
                "run": str(run),
                "submit": {"cpus": 0.5, "python": sys.executable, "env": {"PYTHONPATH": str(ROOT)}},
                "render": {
                    "sources": [{"source": "infinigen2.rooms", "rooms": ["bathroom"]}],
                    "scenes": 1,
                    "cameras_per_scene": 2,
                    "width": 256,
                    "height": 128,
                    "samples": 1,
                    "denoise": False,
                    "camera": {"choose": "random"},
                    "packing": {"while_rendering": True, "splits": {"train": 1.0}},
                },
                "train": {
                    "model": small,
                    "clip": {"frames": 2, "max_objects": 1},
                    "prompt": {"corrections": 0},
                    "steps": 2,
                    "clips_per_step": 1,
                    "torch_threads": 1,
                    "loader_threads": 1,
                    "device": "cpu",
                },
                "eval": {
                    "methods": ["direct"],
                    "model": {**small, "checkpoint": str(run / "checkpoints" / "model.pt")},
                    "instances": {"max_per_panorama": 2},
                },
            }
        )
    )
    rendered = pano("submit", "render", chain, "--address", address)
    assert rendered.returncode == 0, rendered.stdout + rendered.stderr
    assert read_status(run).state == "finished" and read_manifest(run / "dataset").samples == 2
    trained = pano("submit", "train", chain, "--address", address)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")][-1] == 2 and (
        run / "checkpoints" / "model.pt"
    ).is_file()
    scored = pano("submit", "eval", chain, "--address", address)
    assert scored.returncode == 0 and str(run / "eval") in scored.stdout, (
        scored.stdout + scored.stderr
    )
    import ray

    wait_for(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], 60)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_an_address_a_private_ray_is_started(config, tmp_path):
    done = pano("submit", "eval", config)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/eval/latest/report.html").exists()


def test_the_entrypoint_is_a_verb_of_the_command(config):
    from panoforge.cli.app import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    for verb in ("render", "train", "eval"):
        assert Submission(verb, None, SubmitConfig(address="auto")).entrypoint.split()[3] in names


def test_files_of_a_job_are_found_from_any_folder(tmp_path, monkeypatch):
    """Paths that are kept as text, too: a .blend was looked for in the job's own folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "render.yaml"
    path.write_text(
        "run: a\nscenes: 1\nsources: [{source: blend, paths: [scene.blend, /b.blend]}]\n"
    )
    job = load_submission("render", path, ["antlandscape=./ant.zip"])
    sent = tmp_path / "sent.yaml"
    sent.write_text(config_yaml(with_absolute_paths(job.config)))
    monkeypatch.chdir("/")
    there = load_submission("render", sent, []).config
    assert there.render.sources[0].paths == (str(tmp_path / "scene.blend"), "/b.blend")
    assert there.render.antlandscape == str(tmp_path / "ant.zip")
    monkeypatch.chdir(tmp_path)  # the run goes on here under the same digest
    assert image_config_sha256(job.config.render) == image_config_sha256(there.render)


def test_why_a_job_failed_is_said_once(config):
    job = load_submission("eval", config, ["submit.python=null", "submit.address=auto"])
    logs = "Traceback …\nModuleNotFoundError: No module named 'typer'\n"
    ray = (
        f"Job entrypoint command failed with exit code 1, last available logs (truncated):\n{logs}"
    )
    said = submit_module.what_ray_says(ray, job)
    assert said.startswith(
        "Job entrypoint command failed with exit code 1. Its Python, python, has"
    )
    assert "typer" in said and "submit.python=PATH" in said and "Traceback" not in said
    assert "does not say why" in submit_module.what_ray_says(None, job)
