"""Clips ahead of time: threads build the next forward passes while the model works on this one.

Threads and not processes: decoding and remapping are OpenCV and zstd, which let go of Python's lock, and nothing has
to be pickled. Order is that of the tasks, whatever finishes first. An error (a damaged sample) comes out at the place
of its task, in its own words.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pano.shards.read import Dataset
from train.clips import build_clip, collate
from train.config import TrainConfig
from train.plan import clip_plan, positions_of_rank

if TYPE_CHECKING:
    from training.utils.data_utils import BatchedVideoDatapoint

Task = TypeVar("Task")
Built = TypeVar("Built")


def prefetched(tasks: Iterable[Task], build: Callable[[Task], Built], *, threads: int, ahead: int) -> Generator[Built]:
    """`map(build, tasks)` with up to `ahead` + 1 results under way on `threads` threads."""
    pending: deque[Future[Built]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="clips") as pool:
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


class ClipSource:
    """Batches by position, from one dataset under one config. Stateless: any position, any time, any thread."""

    def __init__(self, dataset: Dataset, config: TrainConfig) -> None:
        self.dataset, self.config = dataset, config
        self.widths: list[int] = dataset.samples["width"].to_pylist()

    def batch(self, positions: tuple[int, ...]) -> "BatchedVideoDatapoint":
        """The batch of the clips at `positions`."""
        clips = []
        for position in positions:
            plan = clip_plan(self.config.clip, self.config.seed, position, self.widths)
            clips.append(build_clip(self.dataset[plan.sample], plan, self.config.clip, self.config.model.image_size))
        return collate(clips)

    def keys(self, positions: Iterable[int]) -> list[str]:
        """Which panoramas the clips at `positions` come from."""
        keys = self.dataset.samples["key"]
        return [keys[clip_plan(self.config.clip, self.config.seed, p, self.widths).sample].as_py() for p in positions]

    def steps(self, first: int, rank: int, num_ranks: int) -> Iterator[list[tuple[tuple[int, ...], "BatchedVideoDatapoint"]]]:
        """This rank's forward passes, step by step from step `first` to the end of the run: (positions, batch) each."""
        config = self.config

        def share(step: int) -> list[tuple[int, ...]]:
            return positions_of_rank(step, config.clips_per_step, config.clips_per_forward, rank, num_ranks)

        tasks = (positions for step in range(first, config.steps) for positions in share(step))
        forwards = prefetched(tasks, self.batch, threads=config.loader_threads, ahead=config.prefetch)
        try:
            for step in range(first, config.steps):
                yield [(positions, next(forwards)) for positions in share(step)]
        finally:
            forwards.close()
