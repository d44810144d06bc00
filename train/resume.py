"""What may change when a run goes on in its folder, and what would make it another run.

A run may be lengthened, and its rates changed, from its last checkpoint on. The schedule is a
function of (step, steps). So a run lengthened under a cosine follows the longer cosine from there
on: its rate jumps up from where the shorter one had fallen to. With `optim.final_lr_ratio: 1` and
no change of rate, a lengthened run is the long run to the bit. Every change is kept in the
checkpoints and in train.json. Everything else that decides the weights (model, data, clips, seed)
is refused by the name of its key: results of one identity never overwrite another's.
"""

import json
from pathlib import Path
from typing import Any

from panoforge.core.errors import ConfigError
from panoforge.core.foreign.files import read_bytes
from panoforge.train.checkpoints import TrainState

CHANGEABLE = (
    "steps",
    "optim.lr",
    "optim.encoder_lr",
    "optim.layer_decay",
    "optim.final_lr_ratio",
    "optim.schedule",
    "optim.step_epochs",
    "optim.step_gamma",
    "optim.warmup_steps",
    "optim.weight_decay",
    "optim.grad_clip",
    "on_bad_loss",
    "max_skipped_steps",
)


def changes_on_resume(
    state: TrainState,
    config: dict[str, Any],
    dataset_sha256: str,
    weights_sha256: str,
    folder: Path,
) -> list[dict[str, Any]]:
    """What changes when the run of `state` goes on under another config.

    Args:
        state: the checkpoint that the run goes on from.
        config: `TrainConfig.numbers()` of now.
        dataset_sha256: of the data of now.
        weights_sha256: of the first weights of now.
        folder: where the checkpoints lie, for messages.

    Returns:
        One entry for each changed key: `key`, `old`, `new` and `after_step`.

    Raises:
        ConfigError: a key, the data or the first weights would make it another run, or fewer steps
            are asked for than are done.
    """
    advice = f"Go on with what {folder} was started with, or train into another folder"
    differing = sorted(different_keys(state.config, config), key=lambda found: found[0])
    refused = [found for found in differing if found[0] not in CHANGEABLE]
    if refused:
        shown = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, old, new in refused[:5])
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
    if config["steps"] < state.step:
        raise ConfigError(
            f"steps is {config['steps']}, but {folder} holds a run that has done {state.step}: a"
            f" run is not made shorter. Set steps to {state.step} or more, or train into another"
            " folder"
        )
    return [
        {"key": key, "old": old, "new": new, "after_step": state.step}
        for key, old, new in differing
    ]


def check_no_other_results(
    record: Path, config_sha256: str, dataset_sha256: str, weights_sha256: str
) -> None:
    """ConfigError where a run is to start over the results of another one.

    Its checkpoints are gone. `record` is the train.json of the folder, if it has one.
    """
    if not record.exists():
        return
    text = read_bytes(record)
    try:
        found = json.loads(text)
        there = found["config_sha256"], found["dataset"]["sha256"], found["weights"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        there = None
    if there != (config_sha256, dataset_sha256, weights_sha256):
        raise ConfigError(
            f"{record.parent} holds the results of another run ({record.name}) and no checkpoint to"
            " go on from: a new run would overwrite them. Train into another folder, or remove"
            " these results first"
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
