"""One rank of a training run.

Opens the data, builds the model, goes on from the last checkpoint, trains, and on rank 0 exports
the weights and writes the record.
"""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoforge.core.errors import UsageError
from panoforge.core.foreign.files import own_path
from panoforge.core.numbers import counted
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.atomic import storage_errors, sweep_temporaries, write_bytes_atomic
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import hardware, versions
from panoforge.core.storage.store import StoreLike
from panoforge.train.config import TrainConfig
from panoforge.train.distributed import World
from panoforge.train.log import METRICS_FILE

if TYPE_CHECKING:
    from panoforge.train.trainer import Trainer

TRAIN_FILE = "train.json"
SMOKE_TEST_CLIPS = (
    10_000  # fewer clips than this teach a random network nothing that a report could call a model
)


def train_rank(
    config: TrainConfig,
    dataset: StoreLike,
    out: Path,
    world: World,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """One rank's part of a run; rank 0 holds the folder meanwhile.

    Args:
        config: What is trained.
        dataset: The dataset, a folder or a URL.
        out: The run's folder.
        world: Which rank this is.
        asked_to_stop: Asked before every step; all ranks stop where one of them is.

    Returns:
        The exported weights.

    Raises:
        InUse: another process trains into this folder.
        Stopped: it was asked to.
        LostRank: another rank hangs or is gone, or this one's GPU.
        RankError: this rank cannot take part, of several.
    """
    with world.named():
        return _train_rank(config, dataset, out, world, asked_to_stop)


def _train_rank(
    config: TrainConfig,
    dataset: StoreLike,
    out: Path,
    world: World,
    asked_to_stop: Callable[[], bool],
) -> Path:
    begin = time.monotonic()
    data = open_split(dataset, config.split)
    held_out = open_split(dataset, config.validate_split) if config.validate_every else None
    check_share(config, world)
    for part in ("checkpoints", METRICS_FILE, TRAIN_FILE):
        own_path(out / part, out)
    with storage_errors(out):
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    if config.wandb:
        from panoforge.train.log import import_wandb

        import_wandb()
    if not world.is_main:
        return _train(config, data, held_out, out, world, begin, asked_to_stop)
    with held(out / "checkpoints", "pano train") as lease:
        sweep_temporaries(out / "checkpoints")
        return _train(config, data, held_out, out, world, begin, asked_to_stop, lease.check)


def _train(
    config: TrainConfig,
    data: Dataset,
    held_out: Dataset | None,
    out: Path,
    world: World,
    begin: float,
    asked_to_stop: Callable[[], bool],
    may_write: Callable[[], object] = lambda: None,
) -> Path:
    from panoforge.train import checkpoints  # torch, after all that can be refused without it
    from panoforge.train.log import RunLog
    from panoforge.train.model.checkpoint_export import EXPORT, state_dict_sha256
    from panoforge.train.resume import check_no_other_results
    from panoforge.train.tasks.choose import open_task
    from panoforge.train.trainer import Trainer

    device = pick_device(config.device, world)
    task, weights = open_task(config, data, held_out)
    digest = task.source.mixture.sha256()
    trainer = Trainer(config, task, weights, out, device, world, digest)
    trainer.may_write, trainer.asked_to_stop = may_write, asked_to_stop
    messages: list[str] = []
    if trainer.mirror is not None:
        if world.is_main:
            trainer.mirror.claim()
        trainer.mirror.fetch()
    state = checkpoints.load_latest(trainer.folder, messages.append)
    if state is None:
        check_no_other_results(
            out / TRAIN_FILE, config.sha256(), trainer.dataset_sha256, weights.sha256
        )
    else:
        trainer.restore(state)
        messages += [
            f"from here on {change['key']} is {change['new']} (it was {change['old']})"
            for change in trainer.changes[len(state.changes) :]
        ]
        messages.append(f"going on from step {state.step} of {config.steps} ({trainer.folder})")
    resumed_at = trainer.step_done
    with (
        world.joined(device, config.rank_timeout_s, config.start_timeout_s),
        world.living_device(device),
        RunLog(
            out,
            config.steps,
            resumed_at,
            log_every=config.log_every,
            tensorboard=config.tensorboard,
            active=world.is_main,
            wandb=config.wandb,
        ) as log,
    ):
        for message in (*messages, *trainer.source.mixture.left_out()):
            log.say(message)
        same = {
            "code": code_sha256(),
            "config": config.sha256(),
            "data": trainer.dataset_sha256,
            "weights": state_dict_sha256(task.model.state_dict()),
        }
        world.check_same(same, device)
        if resumed_at < config.steps:
            trainer.run(log)
        if world.is_main:
            may_write()
            export(trainer)
            write_record(out, trainer, data, resumed_at, time.monotonic() - begin)
            log.say(statement(config, weights.source, weights.random, len(data)))
            if trainer.idle_steps:
                log.say(
                    f"{trainer.idle_steps} of the steps had nothing to learn from: their prompts"
                    " were the true masks of all frames (train more frames than"
                    " prompt.max_prompted_frames), or their loss does not reach what is trained"
                )
    return trainer.folder / EXPORT


def export(trainer: "Trainer") -> None:
    """Write the final weights in the formats that the config asks for."""
    from panoforge.train.model.checkpoint_export import (
        EXPORT,
        SAFETENSORS,
        export_official,
        export_safetensors,
    )

    weights, step = trainer.final_weights(), trainer.step_done
    said = trainer.task.describe()
    export_official(trainer.folder / EXPORT, weights, step, said)
    files = [trainer.folder / EXPORT]
    if "safetensors" in trainer.config.export:
        files.append(export_safetensors(trainer.folder / SAFETENSORS, weights, step, said))
    if trainer.mirror is not None:
        for path in files:
            trainer.mirror.send_file(path)


def open_split(dataset: StoreLike, split: str) -> Dataset:
    """The split to train on, with at least one panorama."""
    data = Dataset.open(dataset, split)
    if not len(data):
        raise UsageError(
            f"{dataset}: split {split!r} has no panorama; splits: {data.manifest.splits}"
        )
    return data


def check_share(config: TrainConfig, world: World) -> None:
    """UsageError unless every rank gets a forward pass of each step."""
    forwards = config.clips_per_step // config.clips_per_forward
    if forwards < world.num_ranks:
        raise UsageError(
            f"a step has {counted(forwards, 'forward pass', 'forward passes')} (clips_per_step"
            f" {config.clips_per_step} / clips_per_forward {config.clips_per_forward}) and the run"
            f" {counted(world.num_ranks, 'rank')}:"
            " take fewer ranks, or more clips per step"
        )


def code_sha256() -> str:
    """Digest of the code that decides a run's weights: the sources of core and train."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for package in ("core", "train"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def pick_device(wanted: str, world: World) -> Any:
    """The torch device of this rank.

    Raises:
        UsageError: there is no GPU, or fewer than there are ranks on this node.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device=cuda, but torch sees no CUDA device here: set device=auto or device=cpu, or see"
            " `pano doctor`"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if world.rank_of_node >= torch.cuda.device_count():
        raise UsageError(
            f"this node has {counted(torch.cuda.device_count(), 'GPU')} and none for its rank"
            f" {world.rank_of_node} (from 0): start no more ranks on a node than it has GPUs"
        )
    device = torch.device("cuda", world.rank_of_node)
    torch.cuda.set_device(device)
    return device


def statement(config: TrainConfig, source: str, random: bool, panoramas: int) -> str:
    """What this run is, in plain words, for every report that shows its results."""
    clips = config.steps * config.clips_per_step
    if config.dense is not None:
        return dense_statement(config, source, random, panoramas)
    work = (
        f"SAM2.1 {config.model.size} at {config.model.image_size} px,"
        f" {counted(config.steps, 'step')} over"
        f" {counted(clips, 'clip')} of {counted(panoramas, 'panorama')}"
    )
    if config.mixed:
        total = sum(entry.weight for entry in config.mixed.values())
        shares = (f"{entry.weight / total:.0%} {name}" for name, entry in config.mixed.items())
        work += f" mixed {' + '.join(shares)}"
    if random and clips < SMOKE_TEST_CLIPS:
        return f"{work}, from random weights: a smoke test of the pipeline, not a trained model."
    return (
        f"{work}, trained from random weights." if random else f"{work}, fine-tuned from {source}."
    )


def dense_statement(config: TrainConfig, source: str, random: bool, panoramas: int) -> str:
    """`statement` of a run of dense tasks."""
    assert config.dense is not None
    shown, model = config.steps * config.clips_per_step, config.dense.model
    work = (
        f"MTPano at {2 * model.height_px}×{model.height_px}, tasks {', '.join(model.tasks)},"
        f" {counted(config.steps, 'step')} over {counted(shown, 'panorama')} drawn from"
        f" {panoramas}"
    )
    if random and shown < SMOKE_TEST_CLIPS:
        return f"{work}, from random weights: a smoke test of the pipeline, not a trained model."
    return f"{work}, trained from {'random weights' if random else source}."


def write_record(
    out: Path, trainer: "Trainer", data: Dataset, resumed_at: int, seconds: float
) -> None:
    """Commit train.json."""
    from panoforge.train.model.checkpoint_export import EXPORT, sidecar

    config, weights = trainer.config, trainer.weights
    record = {
        "schema_version": 1,
        "statement": statement(config, weights.source, weights.random, len(data)),
        "config": config.model_dump(mode="json"),
        "config_sha256": config.sha256(),
        "weights": {"source": weights.source, "sha256": weights.sha256, "random": weights.random},
        "dataset": {
            "split": config.split,
            "panoramas": len(data),
            "sha256": trainer.dataset_sha256,
            "mixture": trainer.source.mixture.record(),
        },
        "export": {
            "file": f"checkpoints/{EXPORT}",
            "sha256": sidecar(trainer.folder / EXPORT).read_text().split()[0],
        },
        "seconds": round(seconds, 3),
        "resumed_at_step": resumed_at,
        "skipped_steps": trainer.skipped,
        "bad_samples": trainer.bad_samples,
        "idle_steps": trainer.idle_steps,
        "changes": list(trainer.changes),
        "device": str(trainer.device),
        "processes": trainer.world.num_ranks,
        "precision": "bfloat16" if trainer.bfloat16 else "float32",
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "trained_parameters": sum(p.numel() for p in trainer.trained),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_bytes_atomic(
        out / TRAIN_FILE, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n"
    )
