"""Packing as Ray tasks: one task builds one shard (`panoforge.core.shards.build.build_shard`), on
any node that sees the storage.

What is planned, and what is committed, is `panoforge.core.shards.write`'s business, so the bytes
are those of one process. A task that dies with its node or its worker is simply run again by Ray: a
build leaves nothing behind but a temporary file, and a shard that was finished is found and not
written twice. Index rows come back as compressed Arrow bytes, a few hundred kB a shard; pixels
never pass through Ray.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from panoforge.cluster.config import PackConfig
from panoforge.cluster.ray.session import ClusterError, ray_session, require_living_ray
from panoforge.core.errors import UserError
from panoforge.core.shards.build import BuildTask, BuiltShard, build_shard
from panoforge.core.shards.layout import ShardEntry
from panoforge.core.shards.write import Builder, OnSample, build_here

_LOOK_S = 5.0
_RETRIES = 5  # of a task whose node or worker process died


def builder(config: PackConfig) -> Builder:
    """The builder that a config asks for: in this process, or `workers` Ray tasks at once."""
    return build_here if config.workers == 1 else RayBuilder(config)


class RayBuilder:
    """Builds shards as Ray tasks, in whatever order they end. Errors of a task come out as they
    were raised there.
    """

    def __init__(self, config: PackConfig) -> None:
        self._config = config

    def __call__(self, tasks: Sequence[BuildTask], on_sample: OnSample) -> Iterable[BuiltShard]:
        if not tasks:
            return
        with ray_session(self._config.ray, cpus=self._config.workers):
            for task, built in self._results(tasks):
                for key in task.plan.keys:
                    on_sample(key)
                yield built

    def _results(self, tasks: Sequence[BuildTask]) -> Iterator[tuple[BuildTask, BuiltShard]]:
        import ray

        remote = ray.remote(max_retries=_RETRIES, num_cpus=self._config.ray.cpus_per_scene)(
            _on_node
        )
        waiting, running = deque(tasks), dict[Any, BuildTask]()
        while waiting or running:
            while waiting and len(running) < self._config.workers:
                task = waiting.popleft()
                running[remote.options(name=task.plan.stem).remote(task)] = task
            require_living_ray()
            done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_S)
            for reference in done:
                yield running.pop(reference), _result(reference)


def _result(reference: Any) -> BuiltShard:
    import ray

    try:
        entry, samples, instances = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, UserError) else error) from None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a shard could not be built: its node or Ray worker was lost {_RETRIES + 1} times "
            f"({type(error).__name__}). What is built stays; the same command goes on from there"
        ) from None
    return BuiltShard(ShardEntry.model_validate(entry), _table(samples), _table(instances))


def _on_node(task: BuildTask) -> tuple[dict[str, Any], bytes, bytes]:
    """The Ray task."""
    built = build_shard(task)
    return built.entry.model_dump(), _bytes(built.samples), _bytes(built.instances)


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
