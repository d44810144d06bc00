"""The deploy files at rest: the KubeRay manifests against the fields that the CRD has, the batch
scripts. Started they are in test_kubernetes.py and test_slurm.py.
"""

import os
import signal
import subprocess
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from repository import ROOT

from panoforge.cluster.ray import slurm

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
RAY_CLUSTER = {
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
}
RAY_JOB = {
    "type": "object",
    "required": ["entrypoint", "rayClusterSpec"],
    "additionalProperties": False,
    "properties": {
        "entrypoint": {"type": "string"},
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
        "backoffLimit": {"type": "integer"},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "rayClusterSpec": RAY_CLUSTER,
    },
}
SPECS = {"rayjob.yaml": ("RayJob", RAY_JOB), "raycluster.yaml": ("RayCluster", RAY_CLUSTER)}


def load(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.mark.parametrize("name", SPECS)
def test_the_manifest_fits_the_schema(name: str):
    kind, spec = SPECS[name]
    manifest = load(name)
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1" and manifest["kind"] == kind
    jsonschema.validate(manifest["spec"], spec)
    manifest["spec"].get("rayClusterSpec", manifest["spec"])["enableInTreeAutoScaling"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest["spec"], spec)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("rayjob.yaml", ["cpu-render", "gpu-render"]),
        ("raycluster.yaml", ["gpu-train", "gpu-single"]),
    ],
)
def test_the_cluster_is_closed_consistent_and_of_our_ray(name: str, kinds: list[str]):
    """The submitter of a job is a pod of its own: the job port listens beyond the head's own pod,
    and asks for the token.
    """
    import ray

    spec = load(name)["spec"]
    assert spec.get("submissionMode", "K8sJobMode") == "K8sJobMode"
    cluster = spec.get("rayClusterSpec", spec)
    assert cluster["authOptions"] == {"mode": "token"} and cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["rayStartParams"] == {
        "dashboard-host": "0.0.0.0",
        "num-cpus": "0",
    }
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert [group["groupName"] for group in groups[1:]] == kinds
    images = set()
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
    assert len(images) == 1 and all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups[1:]
    )
    gpus = [
        group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for group in groups
    ]
    assert gpus == ([None, None, "1"] if name == "rayjob.yaml" else [None, "8", "1"])


SCRIPTS = ("slurm.sbatch", "slurm_train.sbatch")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_batch_scripts_are_bash_and_ask_for_a_config(name: str):
    """What they do on a real Slurm is in test_slurm.py."""
    script = DEPLOY / name
    subprocess.run(["bash", "-n", str(script)], check=True)
    ended = subprocess.run(
        ["bash", str(script)],
        env={**os.environ, "CONFIG": "/nowhere.yaml"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "CONFIG=/nowhere.yaml cannot be read here" in ended.stderr and ended.returncode == 2
    options = [line.split()[1] for line in script.read_text().splitlines() if "#SBATCH --" in line]
    assert {"--requeue", "--exclusive", "--open-mode=append", "--ntasks-per-node=1"} <= set(options)
    assert [option for option in options if option.startswith("--signal=B:USR1@")]


def test_outside_a_job_the_module_says_so(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm.main(["render", "job.yaml"]) == 2
    assert "SLURM_JOB_ID is not set: this runs in a Slurm job" in capsys.readouterr().err
    assert slurm.main(["dance"]) == 2
    assert "expected render, pack, train, eval and a config" in capsys.readouterr().err


def test_slurms_signals_become_one_wish_to_stop():
    """The second would have the driver stop at once, and lose what runs."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in kinds]
    try:
        signals, sent = slurm._Signals(), []
        driver = SimpleNamespace(send_signal=sent.append)
        signals.hand_on_to(driver)
        assert not signals.asked and sent == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.asked and signals.warned and sent == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert sent == [signal.SIGTERM]
        early = slurm._Signals()
        os.kill(os.getpid(), signal.SIGTERM)
        early.hand_on_to(driver)
        assert early.asked and not early.warned and len(sent) == 2
    finally:
        for number, handler in zip(kinds, before, strict=True):
            signal.signal(number, handler)
