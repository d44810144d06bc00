"""Checkpoints that survive a kill at any moment, and the export that plain `sam2` loads.

    checkpoints/
      step-00000400.pt           model, optimizer, step, position, digests; its "model" is an
                                 official state dict
      step-00000400.pt.sha256    digest of the file, in sha256sum's format
      latest                     the name of the newest committed checkpoint; written last
      model.pt                   {"model": state_dict, "step": n}, at the end of a run: the official
                                 SAM2 format
      model.safetensors          the same tensors, and the step in its metadata, where `export` asks

Each file is written under a temporary name, flushed to the disk and renamed; then its digest, then
`latest`. Reading takes the file that `latest` names, checks the digest, and falls back one by one,
saying so, when it does not hold. Everything random in a run is a function of (seed, position)
(panoforge.train.data.plan), so those two are the whole random state.

`Saver` writes beside the training: it copies the state into CPU memory, and a thread of its own
commits the copy. So the next step may change every tensor. One save is under way at a time: a
second one waits for the first. What goes wrong in the thread (a full disk) comes out of the next
call of `check`, `save` or `wait`, in its own words. The trainer calls `check` before every step. A
training that ends in an error or a signal still waits for the save under way (`settled`): the state
is kept, and whoever continues finds one writer only.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from panoforge.core.errors import DataError, UserError
from panoforge.core.foreign.files import own_path, read_bytes
from panoforge.core.numbers import counted
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.train.model.checkpoint_export import file_sha256, sidecar, write_with_digest
from panoforge.train.model.checkpoint_io import StateDict, check_size, refusal

FORMAT = "panoforge-train"
MAX_NOTE_BYTES = 4096  # of `latest`, or of a digest
VERSION = 1
LATEST = "latest"
_NAME = re.compile(r"step-(\d{8,})\.pt")


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on.

    `step` counts finished steps; `position` is the next clip.
    """

    step: int
    position: int
    model: StateDict
    optimizer: dict[str, Any]
    ema: StateDict
    skipped: int
    config: dict[str, Any]  # TrainConfig.numbers()
    config_sha256: str
    dataset_sha256: str
    weights_sha256: str
    bad_samples: int = 0  # left out so far
    idle_steps: int = 0  # so far, those that had nothing to learn from
    changes: tuple[dict[str, Any], ...] = ()  # panoforge.train.resume


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}.pt"


def save(folder: Path, state: TrainState, keep_last_k: int) -> Path:
    """Commit `state`, then remove all but the newest `keep_last_k` checkpoints."""
    path = checkpoint_path(folder, state.step)
    content = {"format": FORMAT, "version": VERSION, **state.__dict__}
    write_with_digest(path, content)
    write_bytes_atomic(folder / LATEST, (path.name + "\n").encode())
    for old in committed(folder)[keep_last_k:]:
        sidecar(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def committed(folder: Path) -> list[Path]:
    """Checkpoints up to the one that `latest` names, newest first.

    All of them where there is no readable `latest`.
    """
    found = sorted(
        (p for p in folder.glob("step-*.pt") if is_name(p.name)),
        key=lambda p: p.name,
        reverse=True,
    )
    name = latest_name(folder)
    return found if name is None else [p for p in found if p.name <= name]


def is_name(text: str) -> bool:
    """Whether a text is a checkpoint's name, as `latest` has it."""
    return _NAME.fullmatch(text) is not None


def latest_name(folder: Path) -> str | None:
    """What `latest` names; None where it is missing or does not hold a checkpoint's name."""
    try:
        name = read_bytes(folder / LATEST, MAX_NOTE_BYTES).decode().strip()
    except (UserError, UnicodeDecodeError):
        return None
    return name if is_name(name) else None


def load_latest(folder: Path, say: Callable[[str], object]) -> TrainState | None:
    """The newest whole checkpoint; None where there is none at all.

    DataError when there are some and none is whole: a run never silently starts over.
    """
    candidates, name = committed(folder), latest_name(folder)
    if _only_begun(folder, candidates):
        say(f"{candidates[0]} was never finished: the run begins again")
        return None
    faults = []
    if name is not None and not (folder / name).exists():
        faults.append(f"{folder / name}, which {LATEST} names, is missing")
        say(f"{faults[0]}: falling back to the one before")
    for path in candidates:
        try:
            state = load(path)
        except DataError as error:
            faults.append(str(error))
            say(f"checkpoint refused, falling back to the one before: {error}")
            continue
        return state
    if faults:
        raise DataError(
            f"of {counted(max(1, len(candidates)), 'checkpoint')} in {folder} none is whole,"
            " so this run"
            f" cannot go on: {faults[0]}. Restore one from a copy, or train into another folder"
        )
    return None


def _only_begun(folder: Path, candidates: list[Path]) -> bool:
    """Whether a run was killed within its very first save: nothing committed could be lost.

    One file, without a digest, and no `latest`, not even an unreadable one.
    """
    return (
        len(candidates) == 1
        and not sidecar(candidates[0]).exists()
        and not (folder / LATEST).exists()
    )


def load(path: Path) -> TrainState:
    """One checkpoint, its digest checked first. DataError says what is wrong with it."""
    for part in (path, sidecar(path)):
        if own_path(part, path.parent).is_dir():
            raise DataError(f"{part} is a folder, expected a file of a checkpoint: move it away")
    if not path.exists():
        raise DataError(
            f"{path} is a link to nothing, expected a checkpoint: put the file there, or remove it"
        )
    check_size(path)
    with storage_errors(path):
        try:
            expected = read_bytes(sidecar(path), MAX_NOTE_BYTES).decode().split()[0]
        except (DataError, IndexError, UnicodeDecodeError):
            raise DataError(
                f"{path} has no readable digest beside it ({sidecar(path).name}): "
                "its writer was stopped before the end, or only one file of the two was copied:"
                " copy both, or remove it"
            ) from None
    if file_sha256(path) != expected:
        raise DataError(
            f"{path} does not have the digest that {sidecar(path).name} states: it is truncated or"
            " damaged; copy it again, or remove it, and the step before is taken"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} has its digest but torch cannot read it ({refusal(error)}): "
            "it was written by other software, take the last one before it or begin anew"
        ) from None
    if (
        not isinstance(content, dict)
        or content.pop("format", None) != FORMAT
        or content.pop("version", None) != VERSION
    ):
        raise DataError(
            f"{path} is not a training checkpoint of version {VERSION}: "
            "to start from its weights, set model.checkpoint to it"
        )
    try:
        return TrainState(**content)
    except TypeError as error:
        raise DataError(f"{path}: fields do not fit version {VERSION}: {error}") from None


class Saver:
    """Saves of one run into `folder`; `then` gets each checkpoint that is committed."""

    def __init__(
        self, folder: Path, keep_last_k: int, then: Callable[[Path], object] = lambda path: None
    ) -> None:
        self.folder, self.keep_last_k, self._then = folder, keep_last_k, then
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint"
        )  # joined when the interpreter ends
        self._pending: Future[Path] | None = None

    def save(self, state: TrainState, *, wait: bool) -> None:
        """Commit `state`, or with wait=False start to.

        Raises what went wrong with the save before.
        """
        self.wait()
        if wait:
            self._save(state)
        else:
            copy = replace(
                state,
                model=snapshot(state.model),
                optimizer=snapshot(state.optimizer),
                ema=snapshot(state.ema),
            )
            self._pending = self._pool.submit(self._save, copy)

    def _save(self, state: TrainState) -> Path:
        path = save(self.folder, state, self.keep_last_k)
        self._then(path)
        return path

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
        """Whatever ends the block, nothing is being saved after it.

        An error of the block goes on, with the save's as a note.
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
    """`value` with every tensor inside copied into CPU memory.

    Dicts, lists and tuples are followed.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(snapshot(item) for item in value)
    return value
