"""What KubeRay (1.5.1 to 1.7.0) makes of a manifest: its containers' commands and environments.

Read from its operator (controllers/ray/common/pod.go and job.go), so that a manifest can be started
without Kubernetes. Not here: the autoscaler's container, which speaks to Kubernetes alone.
"""

from typing import Any

GCS_PORT, DASHBOARD_PORT, AGENT_PORT, METRICS_PORT = 6379, 8265, 52365, 8080
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def quantity(text: str) -> int:
    """A quantity of Kubernetes as a number: 8Gi, 16."""
    unit = UNITS.get(text[-2:], 1)
    return int(text if unit == 1 else text[:-2]) * unit


def ray_start(group: dict[str, Any], cluster: dict[str, Any], head: str | None = None) -> str:
    """The command of a group's container. `head` is the head's name, for workers."""
    parameters = dict(group["rayStartParams"])
    if head is None:
        parameters.setdefault("dashboard-host", "0.0.0.0")
        if cluster.get("enableInTreeAutoscaling"):
            parameters["no-monitor"] = "true"
    else:
        parameters.setdefault("address", f"{head}:{GCS_PORT}")
    parameters.setdefault("metrics-export-port", str(METRICS_PORT))
    parameters.setdefault("dashboard-agent-listen-port", str(AGENT_PORT))
    parameters["block"] = "true"
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    parameters.setdefault("num-cpus", str(quantity(limits["cpu"])))
    parameters.setdefault("memory", str(quantity(limits["memory"])))
    if "nvidia.com/gpu" in limits:
        parameters.setdefault("num-gpus", limits["nvidia.com/gpu"])
    flags = [
        f"--{name}" if value == "true" else f"--{name}={value}"
        for name, value in sorted(parameters.items())
        if value != "false"
    ]
    kind = "--head " if head is None else ""
    return f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; ray start {kind}{' '.join(flags)}"


def environment(cluster: dict[str, Any], token: str, address: str) -> dict[str, str]:
    """Of a container of Ray; `address` is the head as it is seen from there."""
    found = {
        "RAY_PORT": str(GCS_PORT),
        "RAY_ADDRESS": f"{address}:{GCS_PORT}",
        "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
    }
    if address != "127.0.0.1":
        found |= {"FQ_RAY_IP": address, "RAY_IP": address}
    if cluster.get("enableInTreeAutoscaling") and cluster["autoscalerOptions"]["version"] == "v2":
        found["RAY_enable_autoscaler_v2"] = "true"
    return found | authentication(cluster, token)


def authentication(cluster: dict[str, Any], token: str) -> dict[str, str]:
    """What all containers learn from the Secret that KubeRay makes."""
    if cluster.get("authOptions", {}).get("mode") != "token":
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def wait_for_gcs(head: str) -> str:
    """The container that runs before a worker's."""
    check = f"ray health-check --address {head}:{GCS_PORT}"
    return f"until {check} >/dev/null 2>&1; do echo waiting for the GCS; sleep 5; done"


def submit(job: dict[str, Any], head: str, name: str) -> str:
    """The submitter's command (K8sJobMode): wait, submit unless that was done, follow."""
    address = f"http://{head}:{DASHBOARD_PORT}"
    healthy = (
        'python -c "import urllib.request;'
        f" r=urllib.request.urlopen('{address}/api/gcs_healthz', timeout=10);"
        " exit(0 if b'success' in r.read() else 1)\""
    )
    hand_in = f"ray job submit --address {address} --no-wait --submission-id {name}"
    return (
        f"until {healthy} >/dev/null 2>&1 ; do echo waiting for {address} ; sleep 2 ; done ;"
        f" if ! ray job status --address {address} {name} >/dev/null 2>&1 ;"
        f" then {hand_in} -- {job['entrypoint'].strip()} ; fi ;"
        f" ray job logs --address {address} --follow {name}"
    )
