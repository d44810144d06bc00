"""What a run writes about itself.

Metrics.jsonl, TensorBoard and Weights & Biases if wanted, pictures of predictions, a bar on a
terminal, plain lines elsewhere.

metrics.jsonl has one object per step and only ever grows by whole lines. A resumed run first drops
the lines of steps that its checkpoint does not know, so the file tells one story.
"""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UsageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.progress import Progress
from panoforge.core.sample.products import encode_product
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic

METRICS_FILE = "metrics.jsonl"
VALIDATED = {  # figures of a validation, in words
    "val_miou": "val mIoU",
    "val_abs_rel": "val AbsRel",
    "val_normal_deg": "val normals in degrees",
}
MAX_METRICS_BYTES = 4 << 30  # millions of steps


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps logged so far, up to the first line that is none: a kill cuts the last one short.

    DataError for a pipe, or what else is no file.
    """
    if not path.exists():
        return []
    rows = []
    for line in read_bytes(path, MAX_METRICS_BYTES).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def import_wandb() -> Any:
    """The package, or a UsageError that says how to get it."""
    try:
        import wandb
    except ImportError:
        raise UsageError(
            "wandb is set, but the package is not installed here: `pip install wandb` (and `wandb"
            " login`), or leave wandb out: metrics.jsonl and tensorboard=true have the same figures"
        ) from None
    return wandb


def run_id(out: Path) -> str:
    """A name of a run folder that a resumed run finds again."""
    return hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]


class RunLog:
    """Log of one rank. Ranks other than the main one are silent."""

    def __init__(
        self,
        out: Path,
        steps: int,
        first_step: int,
        *,
        log_every: int,
        tensorboard: bool,
        active: bool,
        wandb: str | None = None,
    ) -> None:
        self.out, self.log_every, self.active = out, log_every, active
        self._progress = (
            Progress("train", steps, already=first_step, unit="step") if active else None
        )
        self._writer: Any = None
        self._wandb: Any = None
        if not active:
            return
        kept = [row for row in read_metrics(out / METRICS_FILE) if row["step"] <= first_step]
        write_bytes_atomic(
            out / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in kept).encode()
        )
        self._file = open(out / METRICS_FILE, "a", buffering=1)  # noqa: SIM115
        assert self._progress
        self._progress.log(f"train: a line a step in {out / METRICS_FILE}")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)
        if wandb:
            self._wandb = import_wandb().init(
                project=wandb, name=out.name, dir=str(out), resume="allow", id=run_id(out)
            )

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.__exit__(kind, value, trace)
            self._file.close()
        if self._writer:
            self._writer.close()
        if self._wandb:
            self._wandb.finish(exit_code=int(kind is not None))

    def step(self, row: dict[str, Any]) -> None:
        """One finished step: its number (from 1) and its figures."""
        if not self._progress:
            return
        for text in row.get("bad", ()):
            self._progress.log(f"step {row['step']}: bad sample left out: {text}")
        with storage_errors(self.out / METRICS_FILE):
            self._file.write(json.dumps(row) + "\n")
        for key, value in row.items():
            if self._writer and isinstance(value, (int, float)) and key != "step":
                self._writer.add_scalar(key, value, row["step"])
        if self._wandb:
            self._wandb.log(
                {k: v for k, v in row.items() if isinstance(v, (int, float))}, step=row["step"]
            )
        if row["step"] % self.log_every == 0:
            self._progress.log(
                f"step {row['step']}: loss {row['loss']:.4g}, lr {row['lr']:.2e}, gradient"
                f" {row['grad_norm']:.3g}, {row['clips_per_s']:.2f} clips/s"
                + "".join(
                    f", {words} {row[key]:.3f}" for key, words in VALIDATED.items() if key in row
                )
            )
        self._progress.advance()

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """A picture of predictions, RGB: pictures/step-N.png, and TensorBoard."""
        if not self._progress:
            return
        write_bytes_atomic(
            self.out / "pictures" / f"step-{step:08d}.png", encode_product("rgb.png", image)
        )
        if self._writer:
            self._writer.add_image("predictions", image, step, dataformats="HWC")

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._progress:
            self._progress.log(text)
