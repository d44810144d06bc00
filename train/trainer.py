"""The training loop. Everything a step does is in `Trainer.step`, in the order it happens.

A step takes `clips_per_step` clips. Each rank runs its share in forward passes of
`clips_per_forward` clips. It adds up gradients of losses that are already divided by the whole
step's objects, and in its last backward pass they are summed over ranks
(panoforge.train.gradients). So any number of ranks gives the same step up to the order of float
additions. Randomness is set before each forward pass from (seed, step) and (seed, position): a
resumed step is the same step.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.distributed import Stopped, World
from panoforge.train.gradients import Gradients
from panoforge.train.log import RunLog
from panoforge.train.mirror import Mirror
from panoforge.train.model.checkpoint_io import StateDict, Weights
from panoforge.train.optim import restore_moments
from panoforge.train.resume import changes_on_resume
from panoforge.train.stops import TrainingError, as_asked, not_finite, too_many_bad
from panoforge.train.tasks.base import Task, trained_parameters
from panoforge.train.torch_settings import peak_memory_mb, reproducible, use_bfloat16

COMPILING_STEPS = 10  # torch.compile meets new shapes for some steps


@dataclass
class Trainer:
    """One rank of a run. `run()` goes from `step_done` to the last step."""

    config: TrainConfig
    task: Task
    weights: Weights
    out: Path
    device: torch.device
    world: World = field(default_factory=World)
    dataset_sha256: str = ""
    step_done: int = 0
    skipped: int = 0
    bad_samples: int = 0  # clips left out so far, on all ranks
    idle_steps: int = 0  # that had nothing to learn from, so far
    changes: tuple[dict[str, Any], ...] = ()  # of the config, when the run went on
    may_write: Callable[[], object] = lambda: None  # raises where another run took the folder over
    asked_to_stop: Callable[[], bool] = lambda: False  # on any rank: all stop after the same step
    ema: StateDict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model, self.source = self.task.model, self.task.source
        self.model.to(self.device)
        self.trained = trained_parameters(self.model)
        self.gradients = Gradients(self.model, self.world)
        self.optimizer = self.task.optimizer()
        self.task.prepare()
        place = self.config.checkpoints_to
        self.mirror = None if place is None else Mirror(self.folder, place)
        self.saver = checkpoints.Saver(
            self.folder,
            self.config.keep_last_k,
            self.mirror.send if self.mirror else lambda path: None,
        )
        self.bfloat16 = use_bfloat16(self.config.precision, self.device)
        if self.config.ema_decay:
            self.ema = {
                n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad
            }

    @property
    def folder(self) -> Path:
        """Where the run's checkpoints lie."""
        return self.out / "checkpoints"

    def run(self, log: RunLog) -> None:
        """Train to the last step, saving every `checkpoint_every` steps and at the end."""
        config, first = self.config, self.step_done
        self.gradients.share()
        with reproducible(self.device, config.torch_threads), self.saver.settled():
            begin = saved = time.perf_counter()
            for forwards in self.source.steps(
                self.step_done, self.world.rank, self.world.num_ranks
            ):
                self.saver.check()
                figures = self.step(forwards)
                if self.step_done - first == (COMPILING_STEPS if config.compile else 1):
                    self.world.has_started()
                if self.task.validates and self.step_done % config.validate_every == 0:
                    figures |= self.task.validate(self.world)
                if config.picture_every and self.step_done % config.picture_every == 0:
                    self.show(forwards, log)
                now = time.perf_counter()
                seconds, begin = now - begin, now
                log.step(
                    {
                        "step": self.step_done,
                        **figures,
                        "seconds": round(seconds, 4),
                        "ranks": self.world.num_ranks,
                        "clips_per_s": round(config.clips_per_step / seconds, 4),
                        "peak_memory_mb": peak_memory_mb(self.device),
                    }
                )
                late = 0 < config.checkpoint_every_s <= now - saved
                if self.step_done < config.steps and (
                    late or self.step_done % config.checkpoint_every == 0
                ):
                    saved = now
                    self.save(wait=not config.async_save)
            self.save()

    def step(self, forwards: list[tuple[tuple[int, ...], Any]]) -> dict[str, Any]:
        """One optimisation step over this rank's (positions, batch) pairs.

        Gives the figures of the whole step.
        """
        config, step = self.config, self.step_done
        here = [
            f"position {p}: {self.source.bad[p]}"
            for positions, _ in forwards
            for p in positions
            if p in self.source.bad
        ]
        held = [(positions, batch) for positions, batch in forwards if batch is not None]
        own = sum(self.task.weight(batch) for _, batch in held)
        total, bad, stops = self.world.sum([own, len(here), self.asked_to_stop()], self.device)
        if stops:
            raise Stopped(as_asked(self.step_done, config.steps, self.save_and_end()))
        named = self.name_bad_samples(here) if bad else []
        epoch = self.epoch(step)
        self.task.begin_step(step, epoch)
        self.optimizer.zero_grad(set_to_none=True)
        names = self.task.loss_names
        totals, taught = torch.zeros(len(names), dtype=torch.float64), 0
        left = sum(self.task.passes(batch) for _, batch in held)
        if not left:  # all clips are bad
            self.gradients.add(None, last=True)
        for positions, batch in held:
            batch = batch.to(self.device, non_blocking=True)
            for forward in self.task.forwards(positions, batch, total):
                left -= 1
                losses = self.gradients.add(forward, last=not left)
                # True masks on every frame leave nothing to predict; so do frozen parts.
                taught += losses["loss"].requires_grad
                totals += torch.stack([losses[name].detach() for name in names]).double().cpu()
        *sums, taught_anywhere = self.world.sum([*totals.tolist(), taught], self.device)
        figures = dict(zip(names, sums, strict=True))
        self.task.after_backward(step)
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, config.optim.grad_clip))
        rate = self.task.set_rates(self.optimizer, step, epoch)
        good = math.isfinite(figures["loss"]) and math.isfinite(norm)
        if not good:
            self.refuse_step(figures, norm)
        elif taught_anywhere:
            self.optimizer.step()
            self.update_ema()
        else:
            self.idle_steps += 1
        self.step_done += 1
        return {
            "epoch": epoch,
            **figures,
            "lr": rate,
            "grad_norm": norm,
            self.task.counts: int(total),
            **({} if good else {"skipped": True}),
            **({} if taught_anywhere else {"idle": True}),
            **({"bad": named} if named else {}),
        }

    def show(self, forwards: list[tuple[tuple[int, ...], Any]], log: RunLog) -> None:
        """A picture of the predictions on a batch of the step, from the main rank."""
        shown = next((batch for _, batch in forwards if batch is not None), None)
        if shown is not None and self.world.is_main:
            log.picture(self.step_done, self.task.picture(shown.to(self.device)))

    def epoch(self, step: int) -> int:
        """The epoch of a step, as schedules count them."""
        position, clips = step * self.config.clips_per_step, self.config.epoch_clips
        return position // clips if clips else self.source.mixture.epoch(position)

    def name_bad_samples(self, here: list[str]) -> list[str]:
        """All ranks' bad samples of this step, counted.

        TrainingError where there have been too many.
        """
        gathered = self.world.gather_texts(
            "\n".join(text.replace("\n", " ") for text in here), self.device
        )
        lines = [line for text in gathered for line in text.split("\n") if line]
        named = sorted(lines, key=lambda line: int(line.split()[1].rstrip(":")))
        total, limit = self.bad_samples + len(named), self.config.max_bad_samples
        if total > limit:
            saved = self.save_and_end()  # before they are counted: the next run meets them again
            raise TrainingError(too_many_bad(self.step_done, total, limit, saved, named))
        self.bad_samples = total
        return named

    def refuse_step(self, figures: dict[str, float], norm: float) -> None:
        """A loss or gradient that is not finite.

        Leave the weights as they are, and stop unless the config says skip.
        """
        config, step = self.config, self.step_done
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        if config.on_bad_loss == "skip" and self.skipped <= config.max_skipped_steps:
            return
        first = step * config.clips_per_step
        keys = self.source.keys(range(first, first + config.clips_per_step))
        saved = self.save_and_end()
        raise TrainingError(not_finite(step, figures, norm, self.skipped, config, saved, keys))

    def update_ema(self) -> None:
        """Ema ← decay·ema + (1 − decay)·weights."""
        if self.ema:
            now = dict(self.model.named_parameters())
            torch._foreach_lerp_(
                list(self.ema.values()),
                [now[n].detach() for n in self.ema],
                1 - self.config.ema_decay,
            )

    def save(self, wait: bool = True) -> Path:
        """Commit the state after `step_done` steps, beside the training unless told to wait.

        The main rank writes; the others have nothing to add.
        """
        if self.world.is_main:
            self.may_write()
            self.saver.save(self.state(), wait=wait)
        return checkpoints.checkpoint_path(self.folder, self.step_done)

    def save_and_end(self) -> Path:
        """Save where all ranks are about to end: none of them goes before the state is kept.

        Who watches them (Ray Train, torchrun) ends the others with the first that is gone, and the
        main rank may still be writing then.
        """
        saved = self.save()
        self.world.sum([0.0], self.device)
        return saved

    def state(self) -> checkpoints.TrainState:
        """The state after `step_done` steps."""
        return checkpoints.TrainState(
            step=self.step_done,
            position=self.step_done * self.config.clips_per_step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            ema=dict(self.ema),
            skipped=self.skipped,
            bad_samples=self.bad_samples,
            idle_steps=self.idle_steps,
            changes=self.changes,
            config=self.config.numbers(),
            config_sha256=self.config.sha256(),
            dataset_sha256=self.dataset_sha256,
            weights_sha256=self.weights.sha256,
        )

    def restore(self, state: checkpoints.TrainState) -> None:
        """Go on from `state`, under the rates of this config."""
        changed = changes_on_resume(
            state, self.config.numbers(), self.dataset_sha256, self.weights.sha256, self.folder
        )
        self.changes = (*state.changes, *changed)
        self.model.load_state_dict(state.model)
        restore_moments(self.optimizer, state.optimizer)
        self.ema = {name: tensor.to(self.device) for name, tensor in state.ema.items()}
        self.step_done, self.skipped = state.step, state.skipped
        self.bad_samples, self.idle_steps = state.bad_samples, state.idle_steps

    def final_weights(self) -> StateDict:
        """What is exported: the averaged weights where there are some."""
        return {**self.model.state_dict(), **self.ema}
