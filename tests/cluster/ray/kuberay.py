"""What KubeRay makes of a manifest: its pods' containers, each a command and an environment.

Read from its operator (1.7.0: controllers/ray/common/pod.go, common/job.go, rayjob_controller.go),
so that a manifest can be started without Kubernetes. The commands are its, word for word; of a pod
only what a process sees is here. 1.5.1 and 1.6.2 differ in the submitter's wait (none there) and in
the limit of open files (65536, no variable).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GCS_PORT, DASHBOARD_PORT, AGENT_PORT, METRICS_PORT = 6379, 8265, 52365, 8080
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
NAMESPACE = "default"
VERSION = "v1.7.0"
_WITH_A_VALUE = ("log-color", "include-dashboard", "include-log-monitor")
# In its words the same with messages, which show what the health check says after two minutes.
_WAIT_FOR_GCS = "until ray health-check --address {gcs} > /dev/null 2>&1; do sleep 5; done"


@dataclass(frozen=True)
class Container:
    """One of a pod's: what bash is given, and the variables that the operator sets."""

    script: str
    environment: Mapping[str, str]
    options: str = "-c"

    @property
    def command(self) -> list[str]:
        return ["/bin/bash", self.options, "--", self.script]


@dataclass(frozen=True)
class Pod:
    """Its name, and its containers: those that end before the last one starts, and that."""

    name: str
    before: tuple[Container, ...]
    main: Container


def service(cluster_name: str) -> str:
    """The head's service, as all pods know it. It has no address but the head's own."""
    return f"{cluster_name}-head-svc.{NAMESPACE}.svc.cluster.local"


def quantity(text: str) -> int:
    """A quantity of Kubernetes as a number: 8Gi, 16."""
    unit = UNITS.get(text[-2:], 1)
    return int(text if unit == 1 else text[:-2]) * unit


def head_pod(name: str, cluster: dict[str, Any], token: str, kind: str = "RayCluster") -> Pod:
    """The head of the cluster `name`; `kind` is the resource that made the cluster."""
    group, start = cluster["headGroupSpec"], _ray_start(cluster["headGroupSpec"], cluster)
    own = {"RAY_USAGE_STATS_EXTRA_TAGS": f"kuberay_version={VERSION};kuberay_crd={kind}"}
    if _scales(cluster) and cluster["autoscalerOptions"]["version"] == "v2":
        own["RAY_enable_autoscaler_v2"] = "true"
    pod = f"{name}-head-{_five('head')}"
    variables = _variables(name, pod, "headgroup", "127.0.0.1", start)
    variables |= own | _of(group) | authentication(cluster, token)
    return Pod(pod, (), _ray_container(start, variables))


def worker_pod(
    name: str, cluster: dict[str, Any], group: dict[str, Any], token: str, number: int = 0
) -> Pod:
    """A worker of a group."""
    start = _ray_start(group, cluster, service(name))
    pod = f"{name}-{group['groupName']}-worker-{_five(str(number))}"
    known = _of(group) | authentication(cluster, token)
    head = {"FQ_RAY_IP": service(name), "RAY_IP": service(name).partition(".")[0]}
    wait = Container(_WAIT_FOR_GCS.format(gcs=f"{service(name)}:{GCS_PORT}"), known | head)
    variables = _variables(name, pod, group["groupName"], service(name), start) | known | head
    return Pod(pod, (wait,), _ray_container(start, variables))


def submitter_pod(name: str, cluster_name: str, job: dict[str, Any], token: str) -> Pod:
    """The submitter of a RayJob (K8sJobMode): wait, submit unless that was done, follow."""
    host, number = f"{service(cluster_name)}:{DASHBOARD_PORT}", f"{name}-{_five('job')}"
    variables = {"RAY_DASHBOARD_ADDRESS": host, "RAY_JOB_SUBMISSION_ID": number}
    variables |= {"PYTHONUNBUFFERED": "1"} | authentication(job["rayClusterSpec"], token)
    script = submit_script(job, f"http://{host}", number)
    return Pod(f"{name}-{_five('submitter')}", (), Container(script, variables, "-ce"))


def submit_script(job: dict[str, Any], address: str, number: str) -> str:
    """What the submitter runs."""
    healthy = (
        'python -c "import urllib.request;'
        f" r=urllib.request.urlopen('{address}/api/gcs_healthz', timeout=10);"
        " exit(0 if b'success' in r.read() else 1)\""
    )
    words = ["until", healthy, ">/dev/null", "2>&1", ";", "do", "echo"]
    words += [f'"Waiting for Ray Dashboard GCS to become healthy at {address} ..."', ";"]
    words += ["sleep", "2", ";", "done", ";", "if", "!", "ray", "job", "status"]
    words += ["--address", address, number, ">/dev/null", "2>&1", ";", "then"]
    words += ["ray", "job", "submit", "--address", address, "--no-wait"]
    words += ["--submission-id", number]
    for option in ("entrypointNumCpus", "entrypointNumGpus"):
        if job.get(option):
            kind = option.removeprefix("entrypointNum").lower()
            words += [f"--entrypoint-num-{kind}", f"{job[option]:f}"]
    words += ["--", job["entrypoint"].strip(), ";", "fi", ";"]
    return " ".join([*words, "ray", "job", "logs", "--address", address, "--follow", number])


def authentication(cluster: dict[str, Any], token: str) -> dict[str, str]:
    """What all containers learn from the Secret that KubeRay makes."""
    if cluster.get("authOptions", {}).get("mode") != "token":
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _ray_start(group: dict[str, Any], cluster: dict[str, Any], head: str | None = None) -> str:
    """`ray start` of a group; `head` is the head's name, for workers."""
    parameters = dict(group["rayStartParams"])
    if head is None:
        parameters.setdefault("dashboard-host", "0.0.0.0")
        if _scales(cluster):
            parameters["no-monitor"] = "true"
    else:
        parameters.setdefault("address", f"{head}:{GCS_PORT}")
    parameters.setdefault("metrics-export-port", str(METRICS_PORT))
    parameters.setdefault("dashboard-agent-listen-port", str(AGENT_PORT))
    parameters["block"] = "true"
    resources = group["template"]["spec"]["containers"][0]["resources"]
    limits = resources.get("limits", {})
    if cpu := limits.get("cpu") or resources.get("requests", {}).get("cpu"):
        parameters.setdefault("num-cpus", str(quantity(cpu)))
    if "memory" in limits:
        parameters.setdefault("memory", str(quantity(limits["memory"])))
    for name, number in sorted(limits.items()):
        if name.endswith("gpu"):
            parameters.setdefault("num-gpus", number)
    flags = "".join(_flag(name, value) for name, value in sorted(parameters.items()))
    return f"ray start {'--head ' if head is None else ''}{flags}"


def _flag(name: str, value: str) -> str:
    if value.lower() in ("true", "false") and name not in _WITH_A_VALUE:
        return f" --{name} " if value.lower() == "true" else ""
    return f" --{name}={value} "


def _ray_container(start: str, variables: Mapping[str, str]) -> Container:
    return Container(f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start}", variables)


def _variables(name: str, pod: str, group: str, head: str, start: str) -> dict[str, str]:
    return {
        "RAY_CLUSTER_NAME": name,
        "RAY_CLUSTER_NAMESPACE": NAMESPACE,
        "RAY_CLOUD_INSTANCE_ID": pod,
        "RAY_NODE_TYPE_NAME": group,
        "KUBERAY_GEN_RAY_START_CMD": start,
        "RAY_PORT": str(GCS_PORT),
        "RAY_ADDRESS": f"{head}:{GCS_PORT}",
        "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
    }


def _of(group: dict[str, Any]) -> dict[str, str]:
    """The variables of the manifest's own container."""
    (container,) = group["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container.get("env", ())}


def _scales(cluster: dict[str, Any]) -> bool:
    return bool(cluster.get("enableInTreeAutoscaling"))


def _five(text: str) -> str:
    """Five letters that the operator draws at random."""
    return f"{text:x<5}"[:5]
