"""What Ray Train runs of a training: where the ranks are placed, what each does, how they end.

Imported inside a session of Ray only: Ray reads its surroundings when it is imported.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.cluster.ray.relay import heard
from panoforge.cluster.ray.watch import ClusterError
from panoforge.core.errors import UserError, first_line
from panoforge.core.numbers import counted
from panoforge.train.config import TrainConfig
from panoforge.train.distributed import LostRank, World
from panoforge.train.rank import train_rank


@dataclass(frozen=True)
class RankJob:
    """What every rank gets."""

    config: TrainConfig
    dataset: Path | str
    out: Path
    relay: Any  # the actor


def fit(config: TrainJobConfig, job: RankJob, scratch: str) -> Path:
    """Ray Train's part. Checkpoints are ours, so what it keeps itself may be lost with us."""
    # That Ray Train waits for room before it asks again; panoforge.cluster.ray.training sets it.
    placing_s = float(os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"])
    sizes = (config.min_ranks, config.ranks) if config.min_ranks else config.ranks
    trainer = TorchTrainer(
        _on_worker,
        train_loop_config={"job": job},
        torch_config=_Ranks(),
        scaling_config=ScalingConfig(
            num_workers=sizes,
            use_gpu=_wants_gpus(config),
            resources_per_worker={"CPU": config.ray.cpus_per_scene},
            placement_strategy="SPREAD" if config.devices == 1 else "PACK",
            elastic_resize_monitor_interval_s=config.resize_every_s,
        ),
        run_config=RunConfig(
            name="train",
            storage_path=scratch,
            failure_config=FailureConfig(
                max_failures=config.max_restarts,
                controller_failure_limit=round(config.train.start_timeout_s / placing_s),
            ),
            callbacks=[_Mistakes()],
        ),
    )
    try:
        return Path(str(trainer.fit().return_value))
    except ray.train.ControllerError as error:
        cause = error.controller_failure
        if isinstance(cause, UserError):
            raise cause from None
        raise ClusterError(_no_room(config, cause)) from None
    except ray.train.WorkerGroupError as error:
        raise _lost(config, error.worker_failures, ray.get(job.relay.seats.remote())) from None
    except ray.exceptions.RayError as error:  # of Ray Train's own actor: short of memory, mostly
        raise ClusterError(
            f"Ray Train's controller was lost ({type(error).__name__}): its node was short of"
            " memory, or somebody killed it. What is saved stays; the same command goes on from the"
            " last checkpoint"
        ) from None


def _wants_gpus(config: TrainJobConfig) -> bool:
    """Whether ranks are on GPUs. ClusterError where Ray has none and they were asked for."""
    there = ray.cluster_resources().get("GPU", 0)
    if config.train.device == "cuda" and config.ray.address is None and there < config.ranks:
        raise ClusterError(
            f"nodes × devices asks for {counted(config.ranks, 'GPU')}, and this machine has"
            f" {there:g}: set devices to what there is, or ray.address to a cluster that has them"
        )
    return config.train.device == "cuda" or (config.train.device == "auto" and there > 0)


def _no_room(config: TrainJobConfig, cause: Exception) -> str:
    kinds = ("CPU", "GPU", "memory")
    resources = ray.cluster_resources()
    gpu = " and 1 GPU" if _wants_gpus(config) else ""
    there = ", ".join(f"{resources[kind]:g} {kind}" for kind in kinds if kind in resources)
    return (
        f"Ray Train could not start {counted(config.ranks, 'rank')} of"
        f" {config.ray.cpus_per_scene:g} CPU{gpu}"
        f" each ({first_line(cause)}); the cluster has {there or 'nothing'}. Ask for"
        " fewer (nodes, devices, ray.cpus_per_scene), or set min_ranks"
    )


def _lost(
    config: TrainJobConfig, failures: dict[int, Exception], seats: dict[int, str]
) -> UserError:
    """The error of a run that lost ranks once too often, each with the node that it was on."""
    said = [
        f"rank {rank} (node {seats.get(rank, 'unknown')}): {first_line(_cause(error))[:400]}"
        for rank, error in sorted(failures.items())
    ]
    return ClusterError(
        f"ranks were lost {config.max_restarts + 1} times, the last time so: {'; '.join(said)}."
        " What is saved stays; the same command goes on from the last checkpoint"
    )


def _cause(error: Exception) -> BaseException:
    """What a rank itself raised: Ray Train may hand it over wrapped, with its traceback."""
    return getattr(error, "_base_exc", error)


class _Mistakes(UserCallback):
    """Ends the run at a user's mistake, which Ray Train would try again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for _, error in sorted(worker_exceptions.items()):
            cause = _cause(error)
            if isinstance(cause, UserError) and not isinstance(cause, LostRank):
                raise cause


class _RanksBackend(Backend):
    """Tells the workers who they are, as torchrun would; they make their group themselves."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        address, port = worker_group.execute_single(0, _meeting_place)
        worker_group.execute(_who_i_am, address, port)


class _Ranks(TorchConfig):
    @property
    def backend_cls(self) -> type[Backend]:
        return _RanksBackend


def _meeting_place() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


def _who_i_am(address: str, port: int) -> None:
    context = ray.train.get_context()
    os.environ.update(
        RANK=str(context.get_world_rank()),
        WORLD_SIZE=str(context.get_world_size()),
        LOCAL_RANK=str(context.get_local_rank()),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
    )


def _on_worker(settings: dict[str, RankJob]) -> str:
    """Ray Train's training function: one rank."""
    job, world = settings["job"], World.detect()
    ray.get(job.relay.sit.remote(world.rank, socket.gethostname()))
    with heard(job.relay, world.is_main) as asked_to_stop:
        path = train_rank(job.config, job.dataset, job.out, world, asked_to_stop.is_set)
    return str(path)
