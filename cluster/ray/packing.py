"""Packing as Ray tasks: one task builds one shard, on any node that sees the storage.

What is planned, and what is committed, is `panoforge.core.shards.write`'s business. So the bytes
are those of one process. A task that dies with its node or its worker is run again by Ray. A build
leaves nothing behind but a temporary file, and a shard that was finished is not written twice.
Index rows come back as compressed Arrow bytes, a few hundred kB a shard. Pixels never pass through
Ray.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from panoforge.cluster.config.packing import PackConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.tasks import RETRIES, TaskLost, run_tasks
from panoforge.cluster.ray.watch import ClusterError
from panoforge.core.shards.build import BuildTask, BuiltShard, build_shard
from panoforge.core.shards.layout import ShardEntry
from panoforge.core.shards.write import Builder, OnSample, build_here

_Sent = tuple[ShardEntry, bytes, bytes, bytes]  # a built shard as it passes through Ray


def builder(config: PackConfig) -> Builder:
    """The builder that a config asks for: in this process, or `workers` Ray tasks at once."""
    return build_here if config.workers == 1 else RayBuilder(config)


class RayBuilder:
    """Builds shards as Ray tasks, in whatever order they end."""

    def __init__(self, config: PackConfig) -> None:
        self._config = config

    def __call__(self, tasks: Sequence[BuildTask], on_sample: OnSample) -> Iterable[BuiltShard]:
        """Build the shards on the cluster; yields them in the order of the tasks."""
        if not tasks:
            return
        with ray_session(self._config.ray, cpus=self._config.workers):
            built = run_tasks(
                _on_node,
                tasks,
                at_once=self._config.workers,
                name=lambda task: task.plan.stem,
                num_cpus=self._config.ray.cpus_per_scene,
            )
            try:
                for task, (entry, *tables) in built:
                    for key in task.plan.keys:
                        on_sample(key)
                    yield BuiltShard(entry, *map(_table, tables))
            except TaskLost as error:
                raise ClusterError(
                    f"a shard could not be built in {RETRIES + 1} attempts: {error}. What is built"
                    " stays; the same command goes on from there"
                ) from None


def _on_node(task: BuildTask) -> _Sent:
    """The Ray task."""
    built = build_shard(task)
    return built.entry, _bytes(built.samples), _bytes(built.instances), _bytes(built.videos)


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
