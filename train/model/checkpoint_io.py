"""Weights from files, SAM2.1's official format and safetensors: read once, checked, loaded.

A checkpoint is `{"model": state_dict}` and is only ever read with `weights_only=True`. One of
another architecture is refused with the size it looks like. PanoSAM2's parts are extra keys under
`panosam2.`: a file says which it holds. A model that has them all takes it, and parts that the file
lacks start afresh: a second run may add the memory. Any other model refuses it by name.
"""

import hashlib
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import refuse_special
from panoforge.core.numbers import counted
from panoforge.core.storage.atomic import storage_errors
from panoforge.train.model.panosam2.parts import PREFIX as PANO_PREFIX
from panoforge.train.settings.sam2 import PanoSam2Settings, Size

StateDict = dict[str, Tensor]
MTPANO = "mtpano"  # what a dense model's file says of itself, beside the weights
MAX_RECORD = 1 << 20  # characters of that
MAX_CHECKPOINT_BYTES = 32 << 30  # a run's of SAM2 large has 4 GB; a sparse file any size


# Width and number of blocks of the trunk tell the sizes apart.
TRUNKS: dict[tuple[int, int], Size] = {
    (32, 6): "micro",
    (96, 12): "tiny",
    (96, 16): "small",
    (112, 24): "base_plus",
    (144, 48): "large",
}


APPENDING = f"{PANO_PREFIX}memory.age"  # of the memory that was joined to SAM2's


_PATCH_KEY = "image_encoder.trunk.patch_embed.proj.weight"


_SAM21_KEY = "no_obj_embed_spatial"  # SAM 2.0 has none


_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")  # torch writes parts of its errors in bold


_UNSAFE = re.compile(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)")


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Weights:
    """Where a model's first weights came from.

    `sha256` is of the file, or of the state dict where they are random.
    """

    source: str
    sha256: str
    random: bool


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, read once.

    `sha256` is of the file's bytes. `step` is how many steps of ours the weights were trained; None
    in official files, which do not say. `mtpano` is what a dense model's file says of its
    architecture (panoforge.train.model.mtpano.build), JSON.
    """

    path: Path
    state: StateDict = field(repr=False)
    sha256: str
    step: int | None
    mtpano: str | None = None

    @property
    def parts(self) -> dict[str, bool | int]:
        """PanoSAM2's parts in it (`parts_in`)."""
        return parts_in(self.state)


def load_checkpoint(
    model: nn.Module,
    checkpoint: Path | Checkpoint,
    size: Size,
    parts: PanoSam2Settings = PanoSam2Settings(),
) -> Weights:
    """Load an official SAM2.1 checkpoint, or one of ours (its `model` is the same).

    Args:
        model: the SAM2 that gets the weights.
        checkpoint: a file, or what `open_checkpoint` gave of it.
        size: of the model, for messages.
        parts: PanoSAM2's parts of the model; those that the file lacks start afresh.

    Raises:
        DataError: it is damaged, holds something else, or is of another architecture or of other
            PanoSAM2 parts.
    """
    read = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint)
    state, found = read.state, read.parts
    expected = model.state_dict()
    if APPENDING in state:
        raise DataError(
            f"{read.path} holds PanoSAM2's memory as it was until 2026-11 ({APPENDING}), which"
            " appended tokens; now the modulated memory replaces the recent one, as in the paper."
            " Train again from the weights that it began with"
        )
    wanted = parts.record()
    if not found.items() <= wanted.items():
        raise DataError(
            f"{read.path} holds PanoSAM2's parts {found} (keys under {PANO_PREFIX}), the model here"
            f" has {wanted or 'none of them'}: set model.panosam2 to what the file holds, with or"
            " without further parts"
        )
    fresh = [part for part in ("decoder", "memory") if part in wanted and part not in found]
    prefixes = tuple(f"{PANO_PREFIX}{part}." for part in fresh)
    state = {**{k: v for k, v in expected.items() if k.startswith(prefixes)}, **state}
    check_architecture(state, expected, read.path, size)
    model.load_state_dict(state)
    return Weights(read.path.name, read.sha256, random=False)


def parts_in(state: StateDict) -> dict[str, bool | int]:
    """PanoSAM2's parts in a state dict, as `PanoSam2Settings.record` has them.

    The bank's size is no weight and read from the buffer that keeps it.
    """
    decoder, memory = (
        any(key.startswith(f"{PANO_PREFIX}{part}.") for key in state)
        for part in ("decoder", "memory")
    )
    found: dict[str, bool | int] = {}
    if decoder:
        mix = state.get(f"{PANO_PREFIX}decoder.fusion.mix.weight")
        found |= {"decoder": True, "previous_mask": mix is not None}
        if mix is not None:
            found |= {"fusion_kernel": mix.shape[-1] if mix.dim() == 4 else 0}
    if memory:
        size = state.get(f"{PANO_PREFIX}memory.size")
        known = size is not None and size.dtype == torch.int64 and size.numel() == 1
        found |= {"memory": True, "long_pointers": int(size) if size is not None and known else 0}
    return found


def read_checkpoint(path: Path) -> StateDict:
    """The state dict of a checkpoint file (`open_checkpoint`)."""
    return open_checkpoint(path).state


def open_checkpoint(path: Path) -> Checkpoint:
    """Read `{"model": state_dict}`, or a .safetensors file, in one opening of the file.

    Nothing but tensors is ever unpickled. DataError for a file that is damaged or something else.
    """
    check_size(path)
    with storage_errors(path), open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if not file.tell():
            raise DataError(
                f"{path} is empty: expected an official SAM2.1 checkpoint, download or copy it"
                " again"
            )
        file.seek(0)
        if path.suffix == ".safetensors":
            state, step, said = _read_safetensors(path, file.read())
        else:
            state, step, said = _read_torch(path, file)
    check_tensors(state, path)
    mtpano = said if isinstance(said, str) and len(said) <= MAX_RECORD else None
    return Checkpoint(path, state, sha256, step, mtpano)


def check_size(path: Path) -> None:
    """DataError for a pipe, or a file larger than a checkpoint: both are read for hours."""
    refuse_special(path)
    with storage_errors(path):
        size = path.stat().st_size
    if size > MAX_CHECKPOINT_BYTES:
        raise DataError(
            f"{path} has {size} bytes, the largest checkpoint has {MAX_CHECKPOINT_BYTES >> 30} GiB:"
            " it is none, or damaged. Download or copy it again"
        )


def refusal(error: Exception) -> str:
    """What torch refused, in one line and without its advice to load the file unsafely."""
    text = _TERMINAL_CODE.sub("", str(error)).strip()
    if found := _UNSAFE.search(text):
        return f"it asks to run {found[1]}, which is never done"
    if type(error).__name__ == "UnpicklingError":  # by name: pickle is imported nowhere
        return "it is no file of tensors"
    return f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"


def _read_torch(path: Path, file: BinaryIO) -> tuple[StateDict, int | None, object]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that it then refuses
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises half a dozen types here, by the kind of damage
        raise DataError(
            f"{path} cannot be read as a checkpoint: truncated, damaged, or holding more than"
            f" tensors ({refusal(error)}). Download or copy it again"
        ) from None
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = (
            sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        )
        raise DataError(
            f'{path} is no official SAM2 checkpoint: expected {{"model": state_dict}}, found'
            f" {found}"
        )
    step = content.get("step")
    return state, step if isinstance(step, int) else None, content.get(MTPANO)


def _read_safetensors(path: Path, data: bytes) -> tuple[StateDict, int | None, object]:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        state = from_bytes(data)
    except SafetensorError as error:
        raise DataError(
            f"{path} cannot be read as safetensors: truncated, damaged, or something else"
            f" ({error}). Copy or export it again"
        ) from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    said = header.get("__metadata__", {})
    step = str(said.get("step", ""))
    known = step.isascii() and step.isdigit() and len(step) < 19
    return state, int(step) if known else None, said.get(MTPANO)


def check_tensors(state: StateDict, path: Path) -> None:
    """DataError unless all are plain named tensors.

    Dense, not quantised, their values in the file.
    """
    for name, tensor in state.items():
        kind = _not_plain(name, tensor)
        if kind:
            raise DataError(
                f"{path}: expected plain tensors, {name!r} is {kind}. Save the weights as dense"
                " float tensors (SAM2's own are float32)"
            )


def _not_plain(name: object, tensor: Tensor) -> str | None:
    """What is wrong with an entry of a state dict, in words."""
    if not isinstance(name, str):
        return "not named by a text"
    if tensor.layout != torch.strided:
        return f"sparse ({tensor.layout})"
    if tensor.is_quantized:
        return f"quantised ({tensor.dtype})"
    if tensor.is_meta:
        return "without values (on the meta device)"
    if tensor.is_floating_point() and tensor.dtype not in FLOATS:
        return f"of type {tensor.dtype}, which loses most of a weight"
    return None


def check_architecture(state: StateDict, expected: StateDict, path: Path, size: Size) -> None:
    """DataError unless `state` has the keys, shapes and kinds of numbers of `expected`.

    All values must be finite. Weights of any float type become the model's; no other numbers become
    weights.
    """
    missing, unexpected = (
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
    )
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        example = _difference(state, expected)
        raise DataError(
            f"{path} does not fit model.size={size}: it looks like {looks_like(state)}"
            f" ({counted(len(missing), 'key')} missing, {len(unexpected)} unknown, {len(shapes)}"
            " of another"
            f" shape; {example}). Set model.size to the checkpoint's, or give another file"
        )
    other = [k for k in expected if not _same_kind(state[k].dtype, expected[k].dtype)]
    if other:
        raise DataError(
            f"{path}: {counted(len(other), 'tensor holds', 'tensors hold')} other numbers than"
            f" weights (first: {other[0]} is"
            f" {state[other[0]].dtype}, expected {expected[other[0]].dtype}): it was converted by"
            " something that does not keep them; take the original file"
        )
    damaged = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if damaged:
        raise DataError(
            f"{path}: {counted(len(damaged), 'tensor holds', 'tensors hold')} NaN or infinity"
            f" (first: {damaged[0]}): it is"
            " damaged or comes from a run that diverged; take an earlier one"
        )


def _same_kind(found: torch.dtype, expected: torch.dtype) -> bool:
    return found == expected or (found in FLOATS and expected in FLOATS)


def _difference(state: StateDict, expected: StateDict) -> str:
    """The first key in which two state dicts differ."""
    key = min(
        k
        for k in expected.keys() | state.keys()
        if k not in expected or k not in state or expected[k].shape != state[k].shape
    )
    if key not in state:
        return f"it lacks {key}"
    if key not in expected:
        return f"it has {key}"
    return f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"


def looks_like(state: StateDict) -> str:
    """What a state dict seems to be, for messages."""
    if _PATCH_KEY not in state:
        dense = any(key.startswith("backbone.vit.") for key in state)
        return "an MTPano (pano train with a dense section)" if dense else "no SAM2 at all"
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    width = state[_PATCH_KEY].shape[0] if state[_PATCH_KEY].dim() else 0
    size = TRUNKS.get((width, len(blocks)))
    family = "SAM 2.1" if _SAM21_KEY in state else "SAM 2.0 (not 2.1)"
    return (
        f"{family} {size}"
        if size
        else f"{family} with a trunk of {counted(len(blocks), 'block')} of width {width}"
    )
