"""Checkpoints that survive a kill at any moment, and the export that plain `sam2` loads.

    checkpoints/
      step-00000400.pt           model, optimizer, step, position, digests; its "model" is an official state dict
      step-00000400.pt.sha256    digest of the file, in sha256sum's format
      latest                     the name of the newest committed checkpoint; written last
      model.pt                   {"model": state_dict, "step": n}: the official SAM2 format, written at the end of a run
      model.safetensors          the same tensors, and the step in its metadata, where `export` asks for it

Each file is written under a temporary name, flushed to the disk and renamed; then its digest, then
`latest`. Reading takes the file that `latest` names, checks the digest, and falls back one by one,
saying so, when it does not hold. Everything random in a run is a function of (seed, position)
(panoforge.train.data.plan), so those two are the whole random state.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from panoforge.core.errors import ConfigError, DataError
from panoforge.core.storage.atomic import (
    storage_errors,
    sweep_temporaries,
    write_atomic,
    write_bytes_atomic,
)
from panoforge.train.model.build import StateDict, file_sha256, parts_in

FORMAT = "panoforge-train"
VERSION = 1
LATEST = "latest"
EXPORT = "model.pt"
SAFETENSORS = "model.safetensors"
_NAME = re.compile(r"step-(\d{8,})\.pt")


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on. `step` counts finished steps; `position` is the next
    clip."""

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


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def save(folder: Path, state: TrainState, keep_last_k: int) -> Path:
    """Commit `state`, then remove all but the newest `keep_last_k` checkpoints."""
    path = checkpoint_path(folder, state.step)
    content = {"format": FORMAT, "version": VERSION, **state.__dict__}
    _write_with_digest(path, content)
    write_bytes_atomic(folder / LATEST, (path.name + "\n").encode())
    for old in committed(folder)[keep_last_k:]:
        sidecar(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def _write_with_digest(path: Path, content: dict[str, Any]) -> None:
    sidecar(path).unlink(
        missing_ok=True
    )  # the digest of an older file of this name must not outlive it
    write_atomic(path, lambda file: torch.save(content, file))
    write_bytes_atomic(sidecar(path), f"{file_sha256(path)}  {path.name}\n".encode())


def committed(folder: Path) -> list[Path]:
    """Checkpoints up to the one that `latest` names, newest first; all of them where there is no
    readable `latest`.
    """
    found = sorted(
        (p for p in folder.glob("step-*.pt") if _NAME.fullmatch(p.name)),
        key=lambda p: p.name,
        reverse=True,
    )
    name = latest_name(folder)
    return found if name is None else [p for p in found if p.name <= name]


def latest_name(folder: Path) -> str | None:
    """What `latest` names; None where it is missing or does not hold a checkpoint's name."""
    try:
        name = (folder / LATEST).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if _NAME.fullmatch(name) else None


def load_latest(folder: Path, say: Callable[[str], object]) -> TrainState | None:
    """The newest whole checkpoint; None where there is none at all. DataError when there are some
    and none is whole: a run never silently starts over.
    """
    sweep_temporaries(folder)
    candidates, name = committed(folder), latest_name(folder)
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
            f"none of the {max(1, len(candidates))} checkpoints in {folder} is whole, so this run"
            f" cannot go on: {faults[0]}. Restore one from a copy, or train into another folder"
        )
    return None


def load(path: Path) -> TrainState:
    """One checkpoint, its digest checked first. DataError says what is wrong with it."""
    with storage_errors(path):
        try:
            expected = sidecar(path).read_text().split()[0]
        except (FileNotFoundError, IndexError, UnicodeDecodeError):
            raise DataError(
                f"{path} has no readable digest beside it ({sidecar(path).name}): "
                "its writer was stopped before the end"
            ) from None
    if file_sha256(path) != expected:
        raise DataError(
            f"{path} does not have the digest that {sidecar(path).name} states: it is truncated or"
            " damaged"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} has its digest but torch cannot read it ({type(error).__name__}: {error}): "
            "it was written by other software"
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


def check_same_run(
    state: TrainState,
    config: dict[str, Any],
    dataset_sha256: str,
    weights_sha256: str,
    folder: Path,
) -> None:
    """ConfigError unless `state` belongs to a run of this config, dataset and first weights."""
    advice = f"Go on with what {folder} was started with, or train into another folder"
    differing = sorted(different_keys(state.config, config))
    if differing:
        shown = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, old, new in differing[:5])
        raise ConfigError(
            f"{folder} holds checkpoints of a run with another config ({shown}). {advice}"
        )
    if state.dataset_sha256 != dataset_sha256:
        raise ConfigError(
            f"{folder} holds checkpoints of a run on another dataset (other samples, or another"
            f" order). {advice}"
        )
    if state.weights_sha256 != weights_sha256:
        raise ConfigError(
            f"{folder} holds checkpoints of a run that began with other weights (model.checkpoint"
            f" has changed). {advice}"
        )


def different_keys(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, old, new) for each leaf in which two nested dicts differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in old.keys() | new.keys()
            for d in different_keys(
                old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key
            )
        ]
    return [] if old == new else [(prefix, old, new)]


def export_official(path: Path, state: StateDict, step: int) -> Path:
    """Write {"model": state_dict, "step": steps trained}, which `sam2.build_sam` loads, and its
    digest. With PanoSAM2's parts it says so ("panosam2"), and plain SAM2 refuses their keys.
    """
    content: dict[str, Any] = {
        "model": {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        "step": step,
    }
    parts = parts_in(state)
    _write_with_digest(path, {**content, "panosam2": parts} if parts else content)
    return path


def export_safetensors(path: Path, state: StateDict, step: int) -> Path:
    """Write the same tensors as a safetensors file (no pickle at all, mapped and not copied by its
    readers), and its digest. Its metadata says the step and PanoSAM2's parts.
    """
    from safetensors.torch import save as to_bytes

    parts = parts_in(state)
    metadata = {
        "format": "pt",
        "step": str(step),
        **({"panosam2": json.dumps(parts)} if parts else {}),
    }
    data = to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, metadata
    )
    sidecar(path).unlink(missing_ok=True)
    write_bytes_atomic(path, data)
    write_bytes_atomic(sidecar(path), f"{file_sha256(path)}  {path.name}\n".encode())
    return path
