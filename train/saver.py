"""Checkpoints written beside the training: the state is copied, and a thread of its own commits the
copy.

The copy is made before `save` returns, in CPU memory, so the next step may change every tensor. One
save is under way at a time: a second one waits for the first. What goes wrong in the thread (a full
disk) comes out of the next call of `check`, `save` or `wait`, in its own words; the trainer calls
`check` before every step. A training that ends in an error or a signal still waits for the save
under way (`settled`): the state is kept, and whoever continues finds one writer only. The order of
writing, with `latest` last, is `checkpoints.save`'s.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from panoforge.train import checkpoints


class Saver:
    """Saves of one run into `folder`."""

    def __init__(self, folder: Path, keep_last_k: int) -> None:
        self.folder, self.keep_last_k = folder, keep_last_k
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint"
        )  # joined when the interpreter ends
        self._pending: Future[Path] | None = None

    def save(self, state: checkpoints.TrainState, *, wait: bool) -> None:
        """Commit `state`, or with wait=False start to. Raises what went wrong with the save
        before."""
        self.wait()
        if wait:
            checkpoints.save(self.folder, state, self.keep_last_k)
        else:
            copy = replace(
                state,
                model=snapshot(state.model),
                optimizer=snapshot(state.optimizer),
                ema=snapshot(state.ema),
            )
            self._pending = self._pool.submit(checkpoints.save, self.folder, copy, self.keep_last_k)

    def check(self) -> None:
        """Raise what went wrong with a save that has ended."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being saved. Raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Whatever ends the block, nothing is being saved after it. An error of the block goes on,
        with the save's as a note.
        """
        try:
            yield
        except BaseException as error:
            try:
                self.wait()
            except Exception as unsaved:
                error.add_note(
                    f"The save under way failed too: {type(unsaved).__name__}: {unsaved}"
                )
            raise
        self.wait()


def snapshot(value: Any) -> Any:
    """`value` with every tensor inside copied into CPU memory; dicts, lists and tuples are
    followed.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(snapshot(item) for item in value)
    return value
