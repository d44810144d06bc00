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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from panoforge.core.errors import UserError
from panoforge.core.numbers import counted
from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.object_groups import object_groups
from panoforge.train.data.plan import noise_seed, prompt_rng
from panoforge.train.distributed import Stopped, World
from panoforge.train.gradients import Gradients
from panoforge.train.log import RunLog
from panoforge.train.losses.build import build_loss
from panoforge.train.losses.sam2_loss import LOSS_NAMES
from panoforge.train.mirror import Mirror
from panoforge.train.model.checkpoint_io import StateDict, Weights
from panoforge.train.model.scan_sam2 import (
    Encoded,
    PanoScanSAM2,
    ScanSAM2,
    compile_parts,
    recompute_activations,
)
from panoforge.train.model.windows import windows
from panoforge.train.optim import build_optimizer, lr_scale, restore_moments, set_learning_rates
from panoforge.train.resume import changes_on_resume
from panoforge.train.torch_settings import peak_memory_mb, reproducible, use_bfloat16
from panoforge.train.validate import picture, validate

COMPILING_STEPS = 10  # torch.compile meets new shapes for some steps


class TrainingError(UserError):
    """Training cannot go on; its state is kept."""


@dataclass
class Trainer:
    """One rank of a run. `run()` goes from `step_done` to the last step."""

    config: TrainConfig
    model: ScanSAM2
    weights: Weights
    source: ClipSource
    out: Path
    device: torch.device
    world: World = field(default_factory=World)
    dataset_sha256: str = ""
    held_out: ClipSource | None = None  # clips to validate on every `validate_every` steps
    step_done: int = 0
    skipped: int = 0
    bad_samples: int = 0  # clips left out so far, on all ranks
    idle_steps: int = 0  # that had nothing to learn from, so far
    changes: tuple[dict[str, Any], ...] = ()  # of the config, when the run went on
    may_write: Callable[[], object] = lambda: None  # raises where another run took the folder over
    asked_to_stop: Callable[[], bool] = lambda: False  # on any rank: all stop after the same step
    ema: StateDict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.to(self.device)
        self.loss = build_loss(self.config.loss)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.gradients = Gradients(self.model, self.world)
        self.optimizer = build_optimizer(self.model, self.config.optim)
        if self.config.recompute:
            recompute_activations(self.model)
        if self.config.compile:
            compile_parts(self.model)
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
                if self.held_out and self.step_done % config.validate_every == 0:
                    figures["val_miou"] = validate(
                        self.model,
                        self.held_out,
                        config.validate_clips,
                        self.device,
                        self.world,
                        self.autocast(),
                    )
                if (
                    config.picture_every
                    and self.step_done % config.picture_every == 0
                    and self.world.is_main
                ):
                    shown = next((batch for _, batch in forwards if batch is not None), None)
                    if shown is not None:
                        log.picture(
                            self.step_done,
                            picture(self.model, shown.to(self.device), self.autocast()),
                        )
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
        own_objects = sum(batch.masks.shape[1] for _, batch in forwards if batch is not None)
        objects, bad, stops = self.world.sum(
            [own_objects, len(here), self.asked_to_stop()], self.device
        )
        if stops:
            raise self.stopped()
        named = self.name_bad_samples(here) if bad else []
        epoch = self.epoch(step)
        self.set_phase(epoch)
        self.model.rng = prompt_rng(config.seed, step)
        self.optimizer.zero_grad(set_to_none=True)
        totals, taught = torch.zeros(len(LOSS_NAMES), dtype=torch.float64), 0
        prompts = self.model.rng.bit_generator.state
        held = [(positions, batch) for positions, batch in forwards if batch is not None]
        left = sum(self.passes(batch) for _, batch in held)
        if not left:  # all clips are bad
            self.gradients.add(None, last=True)
        for positions, batch in held:
            batch = batch.to(self.device, non_blocking=True)
            with self.autocast():
                encoded = (
                    None if self.in_windows(batch) else self.model.encode(batch.flat_img_batch)
                )
            for index, group in enumerate(object_groups(batch, config.objects_per_forward)):
                self.model.rng.bit_generator.state = (
                    prompts  # every forward pass of a step draws the same kinds of prompts
                )
                torch.manual_seed(noise_seed(config.seed, positions[0], index))
                parts = self.losses(group, encoded, objects)
                for _ in range(self.num_windows(batch)):
                    left -= 1
                    losses = self.gradients.add(partial(next, parts), last=not left)
                    # True masks on every frame leave nothing to predict; so do frozen parts.
                    taught += losses["loss"].requires_grad
                    totals += (
                        torch.stack([losses[name].detach() for name in LOSS_NAMES.values()])
                        .double()
                        .cpu()
                    )
        *sums, taught_anywhere = self.world.sum([*totals.tolist(), taught], self.device)
        figures = dict(zip(LOSS_NAMES.values(), sums, strict=True))
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, config.optim.grad_clip))
        scale = lr_scale(step, config.steps, config.optim, epoch)
        set_learning_rates(self.optimizer, scale)
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
            "lr": config.optim.lr * scale,
            "grad_norm": norm,
            "objects": int(objects),
            **({} if good else {"skipped": True}),
            **({} if taught_anywhere else {"idle": True}),
            **({"bad": named} if named else {}),
        }

    def stopped(self) -> Stopped:
        """The end that was asked for, with the state saved."""
        saved = self.save_and_end()
        return Stopped(
            f"stopped as asked after step {self.step_done} of {self.config.steps}, saved to"
            f" {saved}. The same command goes on from there"
        )

    def in_windows(self, batch: Any) -> bool:
        """Whether gradients go back through a part of the clips only."""
        return 0 < self.config.backprop_frames < batch.num_frames

    def num_windows(self, batch: Any) -> int:
        """Parts of the clips that gradients go back through, each by itself."""
        frames = self.config.backprop_frames
        return math.ceil(batch.num_frames / frames) if self.in_windows(batch) else 1

    def passes(self, batch: Any) -> int:
        """Forward passes of a batch, with a backward pass each."""
        groups = object_groups(batch, self.config.objects_per_forward)
        return sum(1 for _ in groups) * self.num_windows(batch)

    def losses(
        self, batch: Any, encoded: Encoded | None, objects: float
    ) -> Iterator[dict[str, Tensor]]:
        """The losses of one batch at once, or window by window where `encoded` is None.

        Those of a window are to be back-propagated before the next is asked for.
        """
        if encoded is not None:
            yield self.forward(batch, encoded, objects)
            return
        parts = windows(self.model, batch, self.config.backprop_frames)
        while True:
            with self.autocast():
                part = next(parts, None)
            if part is None:
                return
            frames, outs = part
            yield self.loss(outs, batch.masks[frames], objects)

    def forward(self, batch: Any, encoded: Encoded, objects: float) -> dict[str, Tensor]:
        """The losses of one batch, as its share of a step of `objects` objects.

        `encoded` are its frames, encoded.
        """
        with self.autocast():
            outs = self.model(batch, encoded)
        return self.loss(outs, batch.masks, objects)  # in float32: sums over a million pixels

    def epoch(self, step: int) -> int:
        """The epoch of a step, as schedules count them."""
        position, clips = step * self.config.clips_per_step, self.config.epoch_clips
        return position // clips if clips else self.source.mixture.epoch(position)

    def set_phase(self, epoch: int) -> None:
        """What the model does in this epoch: whose masks it remembers, and how."""
        truth = self.config.memory_from_truth
        self.model.truth_every = 0 if truth is None else truth.every(epoch)
        if isinstance(self.model, PanoScanSAM2):
            self.model.long_memory_on = epoch >= self.config.model.panosam2.memory_from_epoch

    def autocast(self) -> torch.autocast:
        """bf16 for what profits from it, where `precision` says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

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
            raise TrainingError(
                f"step {self.step_done + 1}: {counted(total, 'bad sample')} so far, max_bad_samples"
                f" is {limit}. The weights are as they were after step {self.step_done}, saved to"
                f" {saved}. Of this step: {'; '.join(named[:4])}{' …' if len(named) > 4 else ''}."
                " Mend the data, or raise the limit: the run goes on from there"
            )
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
        parts = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        skipping = (
            f" (skipped steps so far: {self.skipped}, max_skipped_steps is"
            f" {config.max_skipped_steps})"
        )
        raise TrainingError(
            f"step {step + 1}: expected a finite loss and gradient, got {parts}, gradient norm"
            f" {norm:.4g}{skipping if config.on_bad_loss == 'skip' else ''}. The weights were left"
            f" as they were after step {step}, saved to {saved}. Clips of this step:"
            f" {', '.join(keys[:4])}{' …' if len(keys) > 4 else ''}. Run it again with a lower"
            " optim.lr or on_bad_loss=skip: it goes on from there. precision=float32 needs a new"
            " run that starts from that file (model.checkpoint)"
        )

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
