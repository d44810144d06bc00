"""Several ranks on this machine, without torchrun: `devices=2` in a config does what `torchrun
--nproc-per-node 2` does.

Each rank is a fresh process. When one ends badly, whatever the way, its name and last words are
reported and the others are ended, so a run never hangs on a rank that is gone. A rank that is alive
but stuck is given up on by the others after `rank_timeout_s` (panoforge.train.distributed). The
ranks find each other through a port on the loopback interface.
"""

import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from panoforge.core.errors import UserError
from panoforge.core.storage.store import StoreLike
from panoforge.train.config import TrainConfig

POLL_S = 0.2
SECOND_LOOK_S = 2.0  # between the first failure and the choice of its cause
GRACE_S = 5.0  # to end when told to

Rank = tuple[BaseProcess, Connection]


class RankError(UserError):
    """A process of a multi-process run died."""


def launch(config: TrainConfig, dataset: StoreLike, out: Path) -> Path:
    """Run `config.devices` ranks to their end; the path that rank 0 gives. The first rank to fail
    decides the error.
    """
    context = multiprocessing.get_context("spawn")
    port = free_port()
    ranks: list[Rank] = []
    try:
        for rank in range(config.devices):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank_main,
                args=(rank, port, config, dataset, out, sender),
                name=f"rank {rank}",
                daemon=True,
            )
            process.start()
            sender.close()
            ranks.append((process, receiver))
        return _wait(ranks)
    finally:
        for started, _ in ranks:
            started.terminate()
        for started, _ in ranks:
            started.join(GRACE_S)
            if started.is_alive():
                started.kill()
                started.join(GRACE_S)  # the kernel takes its time with what was stopped or is large


def _wait(ranks: list[Rank]) -> Path:
    """Rank 0's result, once all have ended well. One failing rank makes the rest fail.

    Reported is the root cause: a rank that died without an exception, else the first UserError,
    else the first error.
    """
    results: dict[str, Path] = {}
    while len(results) < len(ranks):
        time.sleep(POLL_S)
        failures = _collect(ranks, results)
        if failures:
            time.sleep(SECOND_LOOK_S)
            failures = {**_collect(ranks, results), **failures}  # what was heard first stands
            raise RankError(min(failures.values())[1])
    return results[ranks[0][0].name]


def _collect(ranks: list[Rank], results: dict[str, Path]) -> dict[str, tuple[int, str]]:
    """Results that have come in go to `results`; gives (kind, message) of each rank that failed,
    the likeliest cause having the lowest kind.
    """
    failures = {}
    for process, receiver in ranks:
        if process.name in results:
            continue
        ended = (
            not process.is_alive()
        )  # asked before the pipe: what it had to say is in there by then
        if receiver.poll():
            try:
                good, users_fault, value = receiver.recv()
            except EOFError:
                ended = True
            else:
                if good:
                    results[process.name] = Path(value)
                else:
                    failures[process.name] = (
                        1 if users_fault else 2,
                        f"{process.name} of {len(ranks)}: {value}",
                    )
                continue
        if ended:
            failures[process.name] = (0, _last_words(process))
    return failures


def _last_words(process: BaseProcess) -> str:
    process.join(GRACE_S)
    code = process.exitcode
    how = (
        f"was killed by signal {-code}"
        if code is not None and code < 0
        else f"ended with exit code {code}"
    )
    return (
        f"{process.name} {how} without a word (out of memory, or killed from outside); the other"
        " ranks were ended. Run the same command again to go on from the last checkpoint"
    )


def _rank_main(
    rank: int, port: int, config: TrainConfig, dataset: StoreLike, out: Path, sender: Connection
) -> None:
    """Body of one rank: the environment torchrun would set, then `train_rank`. A UserError travels
    as its text.
    """
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(config.devices),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    from panoforge.train.distributed import World
    from panoforge.train.rank import train_rank

    try:
        path = train_rank(config, dataset, out, World.detect())
    except UserError as error:
        sender.send((False, True, str(error)))
    except (
        Exception
    ) as error:  # a defect, or a rank that lost its peers: the launcher names the rank
        sender.send((False, False, f"{type(error).__name__}: {error}"))
        raise
    else:
        sender.send((True, False, str(path)))


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
