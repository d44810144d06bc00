"""Work ahead of its consumer, in order: `prefetched` on threads, `ordered_map` in processes.

Both are `map` with several results under way. What comes out, and in which order, never depends on
the number of workers. An error comes out at the place of its task. Use threads for work that
releases the GIL (reading, decoding, remapping), processes for work that holds it.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

import cv2

from panoforge.core.errors import UsageError

Task = TypeVar("Task")
Built = TypeVar("Built")


def prefetched(
    tasks: Iterable[Task], build: Callable[[Task], Built], *, threads: int, ahead: int
) -> Generator[Built]:
    """`map(build, tasks)` with results under way on threads.

    Up to `ahead` + 1 of them on `threads` threads; with `ahead` 0 on the caller's own.
    """
    if not ahead:
        yield from map(build, tasks)
        return
    yield from _ahead(ThreadPoolExecutor(threads, thread_name_prefix="ahead"), tasks, build, ahead)


def ordered_map(
    tasks: Iterable[Task], build: Callable[[Task], Built], *, workers: int
) -> Generator[Built]:
    """`map(build, tasks)` in `workers` processes; 1 is this process.

    `build` is sent once to each of them and they are fresh: nothing is known there of this one's
    threads and connections. It is a module's function, or a partial of one.
    """
    if workers < 1:
        raise UsageError(f"expected at least 1 worker, got {workers}")
    if workers == 1:
        yield from map(build, tasks)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(build,)
    )
    yield from _ahead(pool, tasks, _call, 2 * workers)


_build: Callable[[Any], Any]


def _begin(build: Callable[[Any], Any]) -> None:
    global _build
    cv2.setNumThreads(1)  # the processes are the threads
    _build = build


def _call(task: Any) -> Any:
    return _build(task)


def _ahead(
    pool: Executor, tasks: Iterable[Task], build: Callable[[Task], Built], ahead: int
) -> Generator[Built]:
    pending: deque[Future[Built]] = deque()
    with pool:
        try:
            for task in tasks:
                pending.append(pool.submit(build, task))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
