"""The deploy files: the KubeRay manifest against the fields that the CRD has, the Slurm script
under a fake Slurm.
"""

import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from repository import ROOT

DEPLOY = ROOT / "configs" / "cluster"

# The part of the CRD ray.io/v1 (KubeRay 1.5) that panoforge uses; unknown keys are mistakes, as
# with kubectl's validation.
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources"],
    "additionalProperties": False,
    "properties": {
        "name": {"enum": ["ray-head", "ray-worker"]},
        "image": {"type": "string", "pattern": r":\S+$"},
        "resources": {
            "type": "object",
            "required": ["requests", "limits"],
            "additionalProperties": False,
            "properties": {
                kind: {
                    "type": "object",
                    "required": ["cpu", "memory"],
                    "additionalProperties": {"type": "string"},
                }
                for kind in ("requests", "limits")
            },
        },
        "volumeMounts": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "mountPath"]},
        },
    },
}
TEMPLATE = {
    "type": "object",
    "required": ["spec"],
    "additionalProperties": False,
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "additionalProperties": False,
            "properties": {
                "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
                "volumes": {"type": "array"},
                "tolerations": {"type": "array"},
            },
        }
    },
}
PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
GROUP = {
    "type": "object",
    "required": ["groupName", "template"],
    "additionalProperties": False,
    "properties": {
        "groupName": {"type": "string"},
        "rayStartParams": PARAMETERS,
        "template": TEMPLATE,
        **{
            name: {"type": "integer", "minimum": 0}
            for name in ("replicas", "minReplicas", "maxReplicas")
        },
    },
}
RAY_JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string"},
                "submissionMode": {
                    "enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
                },
                "backoffLimit": {"type": "integer"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": {"type": "integer"},
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["rayVersion", "headGroupSpec"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "autoscalerOptions": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {
                                "version": {"enum": ["v1", "v2"]},
                                "idleTimeoutSeconds": {"type": "integer"},
                            },
                        },
                        "authOptions": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"mode": {"enum": ["token", "disabled"]}},
                        },
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["template"],
                            "additionalProperties": False,
                            "properties": {"rayStartParams": PARAMETERS, "template": TEMPLATE},
                        },
                        "workerGroupSpecs": {"type": "array", "items": GROUP},
                    },
                },
            },
        },
    },
}


@pytest.fixture
def manifest() -> dict:
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def test_the_manifest_fits_the_schema(manifest):
    jsonschema.validate(manifest, RAY_JOB)
    manifest["spec"]["rayClusterSpec"]["enableInTreeAutoScaling"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, RAY_JOB)


def test_the_cluster_is_closed_consistent_and_of_our_ray(manifest):
    """The submitter of a K8sJobMode job is a pod of its own: the job port listens beyond the head's
    own pod, and asks for the token.
    """
    import ray

    assert manifest["spec"]["submissionMode"] == "K8sJobMode"

    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"} and cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["rayStartParams"] == {
        "dashboard-host": "0.0.0.0",
        "num-cpus": "0",
    }
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert [group.get("groupName") for group in groups] == [
        None,
        "cpu-render",
        "gpu-render",
        "gpu-train",
    ]
    images = set()
    for group in groups:
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        images.add(container["image"])
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in spec["volumes"]
        }
        assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
    assert len(images) == 1 and all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups[1:]
    )


FAKE = {
    "scontrol": "echo node-a; echo node-b",
    # srun runs what follows its options, as a task on this machine.
    "srun": 'while [[ "${1:-}" == --* ]]; do shift; done; echo "srun $*" >> "$FAKE_LOG"; exec "$@"',
    "hostname": 'echo "10.0.0.7 fe80::1"',
    "ray": (
        'echo "ray $* mode=$RAY_AUTH_MODE token=${#RAY_AUTH_TOKEN}" >> "$FAKE_LOG"; trap "echo'
        ' drained >> $FAKE_LOG; exit 1" TERM; if [[ -n "${FAKE_WAIT:-}" ]]; then touch'
        ' "$FAKE_LOG.ready"; while true; do sleep 0.1; done; fi; exit "${FAKE_EXIT:-0}"'
    ),
}


@pytest.fixture
def slurm(tmp_path):
    """Start the script with a fake Slurm on the path; gives (process starter, log of the fakes)."""
    bin_folder, venv = tmp_path / "bin", tmp_path / "venv" / "bin"
    for folder in (bin_folder, venv):
        folder.mkdir(parents=True)
    for name, body in FAKE.items():
        path = (venv if name == "ray" else bin_folder) / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    (tmp_path / "job.yaml").write_text("run: x\n")

    def start(**change: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "VENV": str(venv.parent),
            "CONFIG": str(tmp_path / "job.yaml"),
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "16",
            "FAKE_LOG": str(tmp_path / "log"),
            **change,
        }
        return subprocess.Popen(
            ["bash", str(DEPLOY / "slurm.sbatch")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start, tmp_path / "log"


def test_the_slurm_script_is_bash():
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sbatch")], check=True)


def test_slurm_starts_one_ray_with_a_token(slurm, tmp_path):
    start, log = slurm
    assert start().wait(20) == 0
    last = log.read_text().splitlines()[-1]
    assert (
        last == "ray symmetric-run --address 10.0.0.7:6724 --min-nodes 2 --num-cpus 16 --"
        f" {tmp_path}/venv/bin/pano render {tmp_path}/job.yaml ray.address=auto mode=token"
        " token=64"
    )
    assert start(FAKE_EXIT="3").wait(20) == 3


def test_slurms_warning_drains(slurm):
    start, log = slurm
    job = start(FAKE_WAIT="1")
    for _ in range(200):
        if log.with_name("log.ready").exists():
            break
        try:
            job.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    job.terminate()
    assert job.wait(20) != 0 and log.read_text().splitlines()[-1] == "drained"


def test_slurm_without_a_config_says_so(slurm):
    start, _ = slurm
    job = start(CONFIG="/nowhere.yaml")
    assert (
        "CONFIG=/nowhere.yaml cannot be read here" in job.communicate(timeout=20)[1]
        and job.returncode == 2
    )


def test_symmetric_run_has_the_options_that_the_script_uses():
    import sys

    ray = Path(sys.executable).with_name("ray")
    text = subprocess.run(
        [str(ray), "symmetric-run", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "--address ADDRESS" in text and "--min-nodes NUM_NODES" in text
