"""Weights into files: SAM2.1's official format and safetensors, each with its digest beside it."""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import torch

from panoforge.core.foreign.files import refuse_special
from panoforge.core.storage.atomic import storage_errors, write_atomic, write_bytes_atomic
from panoforge.train.model.checkpoint_io import MTPANO, StateDict, parts_in

EXPORT = "model.pt"


SAFETENSORS = "model.safetensors"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    refuse_special(path)
    with storage_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_dict_sha256(state: StateDict) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sidecar(path: Path) -> Path:
    """The file beside a checkpoint that holds its digest."""
    return path.with_name(path.name + ".sha256")


def write_with_digest(path: Path, content: dict[str, Any]) -> None:
    """Commit a checkpoint, then its digest beside it."""
    sidecar(path).unlink(
        missing_ok=True
    )  # the digest of an older file of this name must not outlive it
    write_atomic(path, lambda file: _write(content, file))
    write_bytes_atomic(sidecar(path), f"{file_sha256(path)}  {path.name}\n".encode())


def _write(content: dict[str, Any], file: BinaryIO) -> None:
    """torch.save, whose own error of a full disk is a RuntimeError about a position."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def export_official(path: Path, state: StateDict, step: int, mtpano: str = "") -> Path:
    """Write a file that `sam2.build_sam` loads where it holds a SAM2, and its digest.

    It holds {"model": state_dict, "step": steps trained}. With PanoSAM2's parts it says so
    ("panosam2"), and plain SAM2 refuses their keys. `mtpano` is what a dense model says of itself.
    """
    content: dict[str, Any] = {
        "model": {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        "step": step,
        **({MTPANO: mtpano} if mtpano else {}),
    }
    parts = parts_in(state)
    write_with_digest(path, {**content, "panosam2": parts} if parts else content)
    return path


def export_safetensors(path: Path, state: StateDict, step: int, mtpano: str = "") -> Path:
    """Write the same tensors as a safetensors file, and its digest.

    There is no pickle in it, and its readers map it without a copy. Its metadata says the step, and
    PanoSAM2's parts or what a dense model says of itself.
    """
    from safetensors.torch import save as to_bytes

    parts = parts_in(state)
    metadata = {
        "format": "pt",
        "step": str(step),
        **({"panosam2": json.dumps(parts)} if parts else {}),
        **({MTPANO: mtpano} if mtpano else {}),
    }
    data = to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, metadata
    )
    sidecar(path).unlink(missing_ok=True)
    write_bytes_atomic(path, data)
    write_bytes_atomic(sidecar(path), f"{file_sha256(path)}  {path.name}\n".encode())
    return path
