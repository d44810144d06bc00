"""Clips ahead of time: threads build the next forward passes while the model works on this one.

Threads and not processes: decoding and remapping are OpenCV and zstd, which release the GIL, and
nothing has to be pickled. Order is that of the tasks, whatever finishes first. An error
(a damaged sample) comes out at the place of its task, in its own words. Where `max_bad_samples`
lets a run go on, its clip is left out of its batch and noted under its position. No other clip
takes its place.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from panoforge.core.errors import DataError
from panoforge.core.parallel import prefetched
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import collate
from panoforge.train.data.mixture import Mixture
from panoforge.train.data.plan import positions_of_rank

if TYPE_CHECKING:
    from training.utils.data_utils import BatchedVideoDatapoint

Forward = tuple[tuple[int, ...], "BatchedVideoDatapoint | None"]  # positions and their batch


class ClipSource:
    """Batches by position, from one dataset (and those mixed in) under one config.

    Any position, any time, any thread. `bad` holds what was wrong with the clips that were left
    out, by position.
    """

    def __init__(self, dataset: Dataset, config: TrainConfig) -> None:
        self.dataset, self.config = dataset, config
        self.mixture = self.open_mixture()
        self.bad: dict[int, str] = {}

    def open_mixture(self) -> Mixture:
        """What the run draws its clips from."""
        return Mixture.open(self.config, self.dataset)

    def joined(self, clips: list) -> Any:
        """One batch of some clips."""
        return collate(clips)

    def batch(self, positions: tuple[int, ...]) -> "BatchedVideoDatapoint | None":
        """The batch of the clips at `positions`; None where bad samples leave none of them."""
        clips = []
        for position in positions:
            try:
                clips.append(self.mixture.clip(position))
            except DataError as error:
                if not self.config.max_bad_samples:
                    raise
                self.bad[position] = str(error)
        return self.joined(clips) if clips else None

    def keys(self, positions: Iterable[int]) -> list[str]:
        """What the clips at `positions` are cut from."""
        return [self.mixture.key(position) for position in positions]

    def steps(self, first: int, rank: int, num_ranks: int) -> Iterator[list[Forward]]:
        """This rank's forward passes, step by step from step `first` to the end of the run."""
        config = self.config

        def share(step: int) -> list[tuple[int, ...]]:
            return positions_of_rank(
                step, config.clips_per_step, config.clips_per_forward, rank, num_ranks
            )

        tasks = (positions for step in range(first, config.steps) for positions in share(step))
        forwards = prefetched(
            tasks, self.batch, threads=config.loader_threads, ahead=config.prefetch
        )
        try:
            for step in range(first, config.steps):
                yield [(positions, next(forwards)) for positions in share(step)]
        finally:
            forwards.close()
