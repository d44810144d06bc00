"""Why a run stops in the middle, in words: what was expected, what came, what to do next."""

from panoforge.core.errors import UserError
from panoforge.core.numbers import counted
from panoforge.train.config import TrainConfig


class TrainingError(UserError):
    """Training cannot go on; its state is kept."""


def shortened(parts: list[str], separator: str) -> str:
    """The first four, and that there are more."""
    return f"{separator.join(parts[:4])}{' …' if len(parts) > 4 else ''}"


def too_many_bad(step: int, total: int, limit: int, saved: object, named: list[str]) -> str:
    """More bad samples than `max_bad_samples`. `step` from 0, not done; `named` are of it."""
    return (
        f"step {step + 1}: {counted(total, 'bad sample')} so far, max_bad_samples"
        f" is {limit}. The weights are as they were after step {step}, saved to"
        f" {saved}. Of this step: {shortened(named, '; ')}."
        " Mend the data, or raise the limit: the run goes on from there"
    )


def not_finite(
    step: int,
    figures: dict[str, float],
    norm: float,
    skipped: int,
    config: TrainConfig,
    saved: object,
    keys: list[str],
) -> str:
    """A loss or gradient that is not finite. `step` from 0, not done; `keys` are of its clips."""
    parts = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    skipping = (
        f" (skipped steps so far: {skipped}, max_skipped_steps is {config.max_skipped_steps})"
    )
    return (
        f"step {step + 1}: expected a finite loss and gradient, got {parts}, gradient norm"
        f" {norm:.4g}{skipping if config.on_bad_loss == 'skip' else ''}. The weights were left"
        f" as they were after step {step}, saved to {saved}. Clips of this step:"
        f" {shortened(keys, ', ')}. Run it again with a lower"
        " optim.lr or on_bad_loss=skip: it goes on from there. precision=float32 needs a new"
        " run that starts from that file (model.checkpoint)"
    )


def as_asked(step: int, steps: int, saved: object) -> str:
    """The end that was asked for, with the state saved."""
    return (
        f"stopped as asked after step {step} of {steps}, saved to"
        f" {saved}. The same command goes on from there"
    )
