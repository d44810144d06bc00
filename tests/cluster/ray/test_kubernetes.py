"""The manifests started without Kubernetes: each pod a machine of its own (namespaces), with the
commands and environments that KubeRay gives its containers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from kuberay import authentication, environment, ray_start, submit, wait_for_gcs
from machines import Machine, machines, needs_machines
from repository import ROOT

from panoforge.core.storage.staged import list_staged

DEPLOY = ROOT / "configs" / "cluster"
CRDS = os.environ.get("KUBERAY_CRDS")  # its repository's ray-operator/config/crd/bases
MANIFESTS = {"rayjob.yaml": "ray.io_rayjobs.yaml", "raycluster.yaml": "ray.io_rayclusters.yaml"}
TOKEN = "f" * 64


def load(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


def closed(schema: object) -> None:
    """As kubectl validates: a key that the schema does not know is an error."""
    if isinstance(schema, dict):
        if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)


@pytest.mark.skipif(CRDS is None, reason="KUBERAY_CRDS names no folder with KubeRay's CRDs")
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_one_of_kuberays_schema(name: str):
    definition = yaml.safe_load((Path(str(CRDS)) / MANIFESTS[name]).read_text())
    (schema,) = [
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["name"] == "v1"
    ]
    closed(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    manifest = load(name)
    jsonschema.validate(manifest, schema)
    cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(jsonschema.ValidationError, match="volumeMount"):
        jsonschema.validate(manifest, schema)


def bash(machine: Machine, command: str, variables: dict[str, str], log: Path) -> subprocess.Popen:
    """Start a container's command, as Kubernetes starts it, with our Python first on its path.

    `ray start` is Ray's, but that it has the time that `panoforge.cluster.ray.node` gives it: pods
    have cores of their own, and these here share two with all else.
    """
    tools = log.parent / "bin"
    tools.mkdir(exist_ok=True)
    ray = tools / "ray"
    patient = f"exec {sys.executable} -m panoforge.cluster.ray.node"
    ray.write_text(
        f'#!/bin/bash\n[ "$1" = start ] && {patient} "${{@:2}}"\n'
        f'exec {Path(sys.executable).with_name("ray")} "$@"\n'
    )
    ray.chmod(0o755)
    found = {
        **variables,
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/cluster'}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 starves on a machine that has other work
        "TMPDIR": "/tmp",  # where a machine has its own /tmp/ray
        "CHAOS": str(log.parent / "chaos"),
    }
    with log.open("w") as output:
        return machine.start(
            ["/bin/bash", "-c", "--", command], found, stdout=output, stderr=subprocess.STDOUT
        )


def small(cluster: dict) -> None:
    """Sizes of this machine in place of a cluster's: Ray starts a process for each core."""
    for group in cluster["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        limits |= {"cpu": "2", "memory": "4Gi"}


def boot(cluster: dict, pods: list[Machine], groups: list[dict], folder: Path) -> None:
    """Start the head, and a worker of each group on the other pods. What ends is started again, as
    Kubernetes does: on a busy machine `ray start` gives up after 30 s.
    """
    head = pods[0]
    log = folder / "head.log"
    again = "until {{ {}; }}; do sleep 2; done"
    start = again.format(ray_start(cluster["headGroupSpec"], cluster))
    bash(head, start, environment(cluster, TOKEN, "127.0.0.1"), log)
    until(lambda: "Ray runtime started" in log.read_text(), 200, log)
    for pod, group in zip(pods[1:], groups, strict=True):
        start = again.format(ray_start(group, cluster, head.name))
        bash(
            pod,
            f"{wait_for_gcs(head.name)} && {start}",
            environment(cluster, TOKEN, head.name),
            folder / f"{pod.name}.log",
        )


def until(true: Callable[[], bool], seconds: float, log: Path) -> None:
    """Wait; where it takes too long, fail with what the log says."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def strangers_answer(machine: Machine, head: str) -> str:
    """What a job list gives to one who does not know the token."""
    ask = (
        "import urllib.error, urllib.request\n"
        f"try: urllib.request.urlopen('http://{head}:8265/api/jobs/', timeout=20)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    return machine.say([sys.executable, "-c", ask]).strip()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_machines
def test_the_rayjob_goes_through(tmp_path: Path):
    """Head, worker and submitter, each on a machine of its own. /runs and /job are folders here."""
    job = load("rayjob.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    small(cluster)
    run, config = tmp_path / "run", tmp_path / "job.yaml"
    fields = {"scenes": 4, "cameras_per_scene": 1, "width": 64, "height": 32}
    content = {**fields, "run": str(run), "worker": "chaos_worker", "limits": {"min_free_gb": 0}}
    config.write_text(yaml.safe_dump(content))
    job["spec"]["entrypoint"] = job["spec"]["entrypoint"].replace("/job/job.yaml", str(config))
    with machines(tmp_path, "head-svc", "cpu-render", "submitter") as pods:
        boot(cluster, pods[:2], cluster["workerGroupSpecs"][:1], tmp_path)
        log = tmp_path / "submitter.log"
        command = submit(job["spec"], pods[0].name, "panoforge-x1")
        variables = authentication(cluster, TOKEN) | {"PYTHONUNBUFFERED": "1"}
        submitter = bash(pods[2], command, variables, log)
        assert submitter.wait(400) == 0, log.read_text()
        assert strangers_answer(pods[2], pods[0].name) == "401"
    assert len(list_staged(run / "staged")) == 4, log.read_text()
