"""First weights of an MTPano, and MTPanos in files.

A file is as SAM2's: `{"model": state_dict, "step": n}`, with a text beside them, `mtpano`, that
says the architecture: settings, number of classes and the backbone's config. It is read with
`weights_only=True`, or as safetensors, and rebuilds the model without the backbone's folder.
"""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.train.model.checkpoint_export import state_dict_sha256
from panoforge.train.model.checkpoint_io import (
    FLOATS,
    Checkpoint,
    StateDict,
    Weights,
    open_checkpoint,
)
from panoforge.train.model.mtpano.backbone import load_weights, parse_config, read_folder
from panoforge.train.model.mtpano.model import Mtpano
from panoforge.train.settings.mtpano import MtpanoSettings

MOST_CLASSES = 1000
CLASS_LAYERS = ("first.semantic.predict.", "heads.semantic.predict.")  # begin afresh: other classes


def build_mtpano(
    settings: MtpanoSettings, classes: int, *, checkpoint: Path | None = None, seed: int = 0
) -> tuple[Mtpano, Weights]:
    """The model in train mode, and where its weights came from.

    Args:
        settings: its parts.
        classes: of the semantic task.
        checkpoint: an MTPano of `pano train` to go on from; of another label set, all but the last
            layers of its semantic heads are taken.
        seed: decides random weights; torch's global generator is left as it was.

    Returns:
        The model and the record of its first weights.

    Raises:
        DataError: the backbone's folder or the checkpoint does not fit.
        UsageError: the folder needs a package that is not installed.
    """
    config = weights = None
    if settings.backbone.folder is not None:
        config, weights = read_folder(settings.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Mtpano(settings, classes, config)
    source, sha256 = f"random, seed {seed}", ""
    if weights is not None:
        source, sha256 = weights.parent.name, load_weights(model.backbone, weights)
    if checkpoint is not None:
        read = open_checkpoint(checkpoint)
        model.load_state_dict(_fitting(read, model))
        source, sha256 = checkpoint.name, read.sha256
    random = weights is None and checkpoint is None
    digest = sha256 or state_dict_sha256(model.state_dict())
    return model.train(), Weights(source, digest, random)


def describe(model: Mtpano) -> str:
    """What a file says of the model beside its weights, JSON: all that rebuilds it."""
    settings = model.settings.model_dump(mode="json")
    settings["backbone"]["folder"] = None
    return json.dumps(
        {"settings": settings, "classes": model.classes, "backbone": model.backbone.config}
    )


def load_dense(checkpoint: Path) -> Mtpano:
    """The MTPano of a file that `pano train` exported, in eval mode, on the CPU.

    Args:
        checkpoint: model.pt or model.safetensors.

    Returns:
        The model; `model.settings.classes` names its label set, `model.classes` is its size.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    read = open_checkpoint(checkpoint)
    settings, classes, config = _described(read)
    model = Mtpano(settings, classes, config)
    check_fits(read.state, model.state_dict(), checkpoint)
    model.load_state_dict(read.state)
    return model.eval()


def _described(read: Checkpoint) -> tuple[MtpanoSettings, int, str | None]:
    """What a file says of its architecture."""
    if read.mtpano is None:
        raise DataError(
            f"{read.path} is no MTPano of pano train: expected the weights with a text `mtpano`"
            " that says the architecture. Give the model.pt of a run with a dense section"
        )
    try:
        said: Any = json.loads(read.mtpano)
        settings = MtpanoSettings.model_validate(said["settings"])
        classes, config = said["classes"], said["backbone"]
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise DataError(
            f"{read.path}: what it says of its architecture cannot be read"
            f" ({type(error).__name__}): it is damaged, or of a newer panoforge"
        ) from None
    if not isinstance(classes, int) or not 0 < classes <= MOST_CLASSES:
        raise DataError(f"{read.path}: {classes!r} classes, expected 1 to {MOST_CLASSES}")
    if config is not None:
        parse_config(config if isinstance(config, str) else "")
    return settings, classes, config


def _fitting(read: Checkpoint, model: Mtpano) -> StateDict:
    """A checkpoint's weights for `model`, whose own class layers stay where the classes differ."""
    settings, classes, _ = _described(read)
    own = model.state_dict()
    other = (settings.classes, classes) != (model.settings.classes, model.classes)
    state = {
        **{k: v for k, v in own.items() if k.startswith(CLASS_LAYERS)},
        **{k: v for k, v in read.state.items() if not (other and k.startswith(CLASS_LAYERS))},
    }
    check_fits(state, own, read.path)
    return state


def check_fits(state: StateDict, expected: StateDict, path: Path) -> None:
    """DataError unless `state` has the keys and shapes of `expected`, and finite floats."""
    wrong = sorted(
        key
        for key in expected.keys() | state.keys()
        if key not in expected or key not in state or expected[key].shape != state[key].shape
    )
    if wrong:
        raise DataError(
            f"{path} does not fit this MTPano: {counted(len(wrong), 'tensor')} missing, unknown or"
            f" of another shape (first: {wrong[0]}). Set the model's parts to those that the file"
            " was trained with, or give another file"
        )
    damaged = [key for key, value in state.items() if not _finite(value)]
    if damaged:
        raise DataError(
            f"{path}: {counted(len(damaged), 'tensor holds', 'tensors hold')} NaN, infinity or no"
            f" floats (first: {damaged[0]}): it is damaged or comes from a run that diverged"
        )


def _finite(value: Tensor) -> bool:
    return value.dtype in FLOATS and bool(torch.isfinite(value).all())
