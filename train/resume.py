"""What a run may be resumed under: the same numbers, data and first weights."""

from pathlib import Path
from typing import Any

from panoforge.core.errors import ConfigError
from panoforge.train.checkpoints import TrainState


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
