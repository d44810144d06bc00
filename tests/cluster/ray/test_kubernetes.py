"""The manifests started without Kubernetes: each pod a machine of its own (namespaces), with the
commands and environments that KubeRay gives its containers.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import kuberay
import pytest
import yaml
from kuberay import AGENT_PORT, Pod, head_pod, service, submitter_pod, worker_pod
from machines import Machine, machines, needs_machines
from repository import ROOT
from same_runs import assert_same_run
from train_small import SMALL

from panoforge.cluster.ray.node import START_S
from panoforge.core.storage.staged import list_staged
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

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


def test_commands_are_those_that_kuberays_own_tests_expect():
    """Of its pod_test.go and job_test.go (1.7.0): there the flags are compared in any order."""
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}}

    def group(parameters: dict, **limits: str) -> dict:
        container = {"resources": {"limits": resources["limits"] | limits}}
        spec = {"containers": [container]}
        return {"groupName": "g", "rayStartParams": parameters, "template": {"spec": spec}}

    name = "raycluster-sample"
    cluster = {"headGroupSpec": group({})}
    worker = worker_pod(name, cluster, group({"port": "6379"}, **{"nvidia.com/gpu": "3"}), TOKEN)
    limit = "ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ray start"
    own = "--block --dashboard-agent-listen-port=52365 --memory=1073741824 --num-cpus=1"
    own += " --metrics-export-port=8080"
    head = f"{limit} --head {own} --dashboard-host=0.0.0.0"
    assert sorted(head_pod(name, cluster, TOKEN).main.script.split()) == sorted(head.split())
    address = "raycluster-sample-head-svc.default.svc.cluster.local:6379"
    there = f"{limit} {own} --num-gpus=3 --address={address} --port=6379"
    assert sorted(worker.main.script.split()) == sorted(there.split())
    assert worker.main.environment["RAY_ADDRESS"] == address
    assert worker.main.environment["RAY_IP"] == "raycluster-sample-head-svc"
    job = {"entrypoint": "echo it", "entrypointNumCpus": 1, "entrypointNumGpus": 0.5}
    said = kuberay.submit_script(job, "http://127.0.0.1:8265", "testJobId")
    assert said.endswith(
        "; if ! ray job status --address http://127.0.0.1:8265 testJobId >/dev/null 2>&1 ;"
        " then ray job submit --address http://127.0.0.1:8265 --no-wait --submission-id testJobId"
        " --entrypoint-num-cpus 1.000000 --entrypoint-num-gpus 0.500000 -- echo it ; fi ;"
        " ray job logs --address http://127.0.0.1:8265 --follow testJobId"
    )


# What the image and this machine add: our Python first on the path, and Ray's patience, as pods
# have cores of their own, and these here share two with all else.
VARIABLES = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/cluster'}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": str(round(2 * START_S)),
    "RAY_agent_register_timeout_ms": str(round(1000 * START_S)),
    "TMPDIR": "/tmp",  # where a machine has its own /tmp/ray
}
ONCE = 'for container in "$@"; do eval "$container" || exit; done'


def run_pod(machine: Machine, pod: Pod, folder: Path, once: str = ONCE) -> subprocess.Popen[str]:
    """Start a pod's containers, each when the one before has ended well. Its words in a file."""
    containers = [
        shlex.join(["env", *(f"{k}={v}" for k, v in part.environment.items()), *part.command])
        for part in (*pod.before, pod.main)
    ]
    with (folder / f"{machine.name}.log").open("w") as output:
        return machine.start(
            ["bash", "-c", once, "pod", *containers],
            VARIABLES | {"CHAOS": str(folder / "chaos")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def small(cluster: dict, cpu: str) -> None:
    """Sizes of this machine in place of a cluster's: Ray starts a process for each core."""
    for group in cluster["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        limits |= {"cpu": cpu, "memory": "4Gi"}


def boot(machines: list[Machine], pods: list[Pod], folder: Path) -> None:
    """Start Ray's pods, all at once. One that ends is made anew, as the operator does.

    Ready is what the kubelet finds so: the agent's health is asked for from outside, by one who
    knows no token.
    """
    again = f"until ({ONCE}); do sleep 2; done"
    for machine, pod in zip(machines, pods, strict=True):
        run_pod(machine, pod, folder, again)
    for machine in machines:
        probe = f"http://{machine.address}:{AGENT_PORT}/api/healthz"
        until(
            lambda probe=probe: answer(machines[0], probe) == "200",
            600,
            folder / f"{machine.name}.log",
        )


def until(true: Callable[[], bool], seconds: float, log: Path) -> None:
    """Wait; where it takes too long, fail with what the log says."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)


def answer(machine: Machine, url: str) -> str:
    """The status that one gets there who knows no token; what failed where there is none."""
    ask = (
        "import sys, urllib.error, urllib.request\n"
        "try: print(urllib.request.urlopen(sys.argv[1], timeout=20).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
        "except OSError as error: print(error)\n"
    )
    return machine.say([sys.executable, "-I", "-c", ask, url]).strip()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_machines
def test_the_rayjob_goes_through(tmp_path: Path):
    """Head, worker and submitter, each on a machine of its own. /runs and /job are folders here."""
    job = load("rayjob.yaml")["spec"]
    cluster, name = job["rayClusterSpec"], "panoforge-x1y2z"
    small(cluster, "2")
    run, config = tmp_path / "run", tmp_path / "job.yaml"
    fields = {"scenes": 4, "cameras_per_scene": 1, "width": 64, "height": 32}
    content = {**fields, "run": str(run), "worker": "chaos_worker", "limits": {"min_free_gb": 0}}
    config.write_text(yaml.safe_dump(content))
    job["entrypoint"] = job["entrypoint"].replace("/job/job.yaml", str(config))
    pods = [
        head_pod(name, cluster, TOKEN, "RayJob"),
        worker_pod(name, cluster, cluster["workerGroupSpecs"][0], TOKEN),
        submitter_pod("panoforge", name, job, TOKEN),
    ]
    names = [pod.name for pod in pods]
    with machines(tmp_path, *names, aliases={service(name): names[0]}) as (*nodes, client):
        submitter = run_pod(client, pods[2], tmp_path)  # waits for the dashboard, as KubeRay's does
        boot(nodes, pods[:2], tmp_path)
        log = tmp_path / f"{client.name}.log"
        assert submitter.wait(400) == 0, log.read_text()
        assert answer(client, f"http://{service(name)}:8265/api/jobs/") == "401"
    assert len(list_staged(run / "staged")) == 4, log.read_text()


# `kubectl port-forward`: what comes to a user's loopback goes to that of the head's pod. Machines
# share their files, so a socket among these stands for the way through Kubernetes.
FORWARD = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main(side, way):
    port = "127.0.0.1", 8265
    async def serve(reader, writer):
        if side == "user": there, back = await asyncio.open_unix_connection(way)
        else: there, back = await asyncio.open_connection(*port)
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)
    if side == "user": server = await asyncio.start_server(serve, *port)
    else: server = await asyncio.start_unix_server(serve, way)
    await server.serve_forever()
asyncio.run(main(*sys.argv[1:]))
"""


def port_forward(user: Machine, head: Machine, folder: Path) -> None:
    """127.0.0.1:8265 of the one is that of the other from here on."""
    for machine, side in ((head, "head"), (user, "user")):
        machine.start([sys.executable, "-I", "-c", FORWARD, side, str(folder / "way")])
    port = "http://127.0.0.1:8265/api/gcs_healthz"
    until(lambda: answer(user, port) == "200", 60, folder / f"{head.name}.log")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_machines
def test_a_training_goes_through_the_raycluster(caps_dataset: Path, tmp_path: Path):
    """Head, a pod of each group of GPUs and a user's machine, where the lines at the top of the
    file are run. Ray takes the pods for nodes of 8 and 1 GPUs, which training on CPUs leaves alone:
    each has a rank, by the GPU that it asks for.
    """
    cluster, name = load("raycluster.yaml")["spec"], "panoforge-train"
    small(cluster, "1")
    train = {**SMALL, "checkpoint_every": 1}
    run_training(TrainConfig.model_validate(train), caps_dataset, tmp_path / "alone")
    run, config = tmp_path / "run", tmp_path / "my-config.yaml"
    train |= {"run": str(run), "dataset": str(caps_dataset), "device": "auto"}
    config.write_text(yaml.safe_dump(train))
    text = (DEPLOY / "raycluster.yaml").read_text()
    (line,) = re.findall(r"^#   (pano submit train .*)$", text, re.MULTILINE)
    line = line.replace("my-config.yaml", str(config)).replace("=4 devices=8", "=2 devices=1")
    pods = [head_pod(name, cluster, TOKEN)]
    pods += [worker_pod(name, cluster, group, TOKEN) for group in cluster["workerGroupSpecs"]]
    names = [pod.name for pod in pods]
    aliases = {service(name): names[0]}
    with machines(tmp_path, *names, "laptop", aliases=aliases) as (*nodes, laptop):
        boot(nodes, pods, tmp_path)
        assert answer(nodes[1], f"http://{service(name)}:8265/api/jobs/") == "401"
        port_forward(laptop, nodes[0], tmp_path)
        known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        job = laptop.start(
            shlex.split(line), VARIABLES | known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = job.communicate(timeout=500)
        resources = nodes[0].say(["ray", "status"], VARIABLES | pods[0].main.environment)
    assert job.returncode == 0, said
    assert f"train: {SMALL['steps']}/{SMALL['steps']}" in said, said
    assert "/9.0 GPU" in resources and "/2.0 CPU" in resources, resources
    assert [row["ranks"] for row in read_metrics(run / "metrics.jsonl")] == [2] * SMALL["steps"]
    assert_same_run(run, tmp_path / "alone")
