"""What a run writes about itself: metrics.jsonl, TensorBoard if wanted, a bar on a terminal, plain lines elsewhere.

metrics.jsonl has one object per step and only ever grows by whole lines. A resumed run first drops the lines of steps
that its checkpoint does not know, so the file tells one story.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pano.progress import Progress
from pano.storage import storage_errors, write_bytes_atomic

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps logged so far; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    with storage_errors(path):
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


class RunLog:
    """Log of one rank. Ranks other than the main one are silent."""

    def __init__(self, out: Path, steps: int, first_step: int, *, log_every: int, tensorboard: bool, active: bool) -> None:
        self.out, self.log_every, self.active = out, log_every, active
        self._progress = Progress("train", steps, unit="step") if active else None
        self._writer: Any = None
        if not active:
            return
        kept = [row for row in read_metrics(out / METRICS_FILE) if row["step"] <= first_step]
        write_bytes_atomic(out / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = open(out / METRICS_FILE, "a", buffering=1)  # noqa: SIM115  closed in __exit__
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)
        self._progress.done = first_step

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress:
            self._progress.__exit__(kind, value, trace)
            self._file.close()
        if self._writer:
            self._writer.close()

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
        if row["step"] % self.log_every == 0:
            self._progress.log(f"step {row['step']}: loss {row['loss']:.4g}, lr {row['lr']:.2e}, gradient {row['grad_norm']:.3g}, "
                               f"{row['clips_per_s']:.2f} clips/s"
                               + (f", val mIoU {row['val_miou']:.3f}" if "val_miou" in row else ""))
        self._progress.advance()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._progress:
            self._progress.log(text)
