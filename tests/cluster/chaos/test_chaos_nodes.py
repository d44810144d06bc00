"""Nodes that give notice: Ray's memory monitor stops a worker to save its node, a provider takes a
node away at a deadline.
"""

import threading
import time

import psutil
import pytest
from chaos_runs import assert_resources_are_returned, done, orphans, wait_for
from test_chaos_cluster import SMALL, add_node, cluster_of, faults

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.runner import render
from panoforge.cluster.state.policy import AttemptFault

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROOM_GB = 3.0  # that a scene may take before Ray steps in


def test_ray_stops_a_worker_to_save_its_node(chaos, monkeypatch):
    """Ray's memory monitor kills the Ray worker of a scene that fills the machine. Its child goes
    with it, and the scene is made again with room. So is what was stopped beside it.
    """
    memory = psutil.virtual_memory()
    if memory.available < 2 * ROOM_GB * 1e9:
        pytest.skip(
            f"needs {2 * ROOM_GB} GB of free memory, {memory.available / 1e9:.1f} are there"
        )
    monkeypatch.setenv(
        "RAY_memory_usage_threshold", f"{1 - (memory.available - ROOM_GB * 1e9) / memory.total:.4f}"
    )
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    chaos.plan({2: ["balloon", "ok"]})
    with ray_session(RayConfig(), cpus=1):
        summary = render(chaos.job(6))
        assert summary.count("done") == 6
        chaos.assert_exact(6)
    (first,) = (
        record
        for record in chaos.ledger.records()
        if record.index == 2 and record.outcome == "fault"
    )
    assert (
        first.fault is AttemptFault.OOM
        and "Ray stopped it to save its node's memory" in first.reason
    )
    (made,) = (
        record
        for record in chaos.ledger.records()
        if record.index == 2 and record.outcome == "done"
    )
    assert made.profile == "roomy" and set(faults(chaos)) == {AttemptFault.OOM}


def test_a_preempted_node_costs_no_attempt(chaos):
    """A provider announces that it takes a node away, and does so at the deadline. Nothing new is
    handed to it. What still runs there is made again elsewhere, for free.
    """
    import ray
    from ray._private.worker import global_worker
    from ray.core.generated import autoscaler_pb2

    chaos.plan({index: ["sleep 3"] for index in range(12)})
    finished: list = []
    with cluster_of(SMALL, SMALL) as (cluster, nodes):
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            runner = threading.Thread(target=lambda: finished.append(render(chaos.job(12))))
            runner.start()
            wait_for(lambda: len(done(chaos)) >= 2)
            (leaving,) = nodes
            deadline = time.time() + 4
            accepted, why = global_worker.gcs_client.drain_node(
                leaving.node_id,
                autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION,
                "the provider wants it back",
                int(deadline * 1000),
            )
            assert accepted, why
            time.sleep(max(0.0, deadline - time.time()))
            cluster.remove_node(leaving, allow_graceful=False)
            taken_s = time.time()
            add_node(cluster, **SMALL)
            runner.join(300)
            assert_resources_are_returned()
            assert orphans(chaos.folder) == []
        finally:
            ray.shutdown()
    (summary,) = finished
    assert summary.count("done") == 12
    chaos.assert_exact(12)
    records = chaos.ledger.records()
    assert set(faults(chaos)) <= {AttemptFault.LOST} and all(
        record.profile == "normal" for record in records
    )
    there = [record for record in records if record.node.endswith(leaving.node_id)]
    assert all(record.started_unix_s < deadline for record in there) and any(
        r.started_unix_s > taken_s for r in records
    )
