"""A day with a GPU, prepared: all benchmarks that a GPU changes, one after the other, in one table.

    make bench-gpu            on the machine with the GPU, about ten minutes
    make bench-gpu QUICK=1    the same at toy size on CPUs: the rehearsal

Each part is a process of its own with a time limit, and has its peer in the same run. A part that
fails or takes too long is written down as that, and the next one runs. What is done is in FOLDER
and not done again: give the same command after an interruption (`--fresh` begins anew). Beside each
part stand the GPU's watts (mean over the part, from nvidia-smi) and what its time costs at
`--usd-per-hour`.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import machine
from panoforge.core.storage.atomic import write_bytes_atomic

TABLE = "gpu_day.md"


@dataclass(frozen=True)
class Part:
    """One of the benchmarks: the module and its arguments, and how long it may take."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    limit_s: float = 150.0
    quick: bool = True  # part of the rehearsal on CPUs


PARTS = (
    Part("train step, tiny", "bench.train_step", ("--size=tiny",)),
    Part("train step, large", "bench.train_step", ("--size=large",), 200, quick=False),
    Part("train step, 24 frames", "bench.train_step", ("--frames=24",), 200, quick=False),
    Part("propagation", "bench.propagate", (), 240),
    Part("merging", "bench.merge"),
    Part("view sampling", "bench.view_sampling"),
    Part("end to end", "bench.end_to_end", (), 240),
    Part("gradients over ranks", "bench.all_reduce", ("--ranks", "1"), 150),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu_day"))
    parser.add_argument("--quick", action="store_true", help="toy size, on CPUs")
    parser.add_argument("--fresh", action="store_true", help="forget what was done")
    parser.add_argument("--usd-per-hour", type=float, default=3.0, help="price of the GPU")
    parser.add_argument("--only", nargs="*", help="names of parts")
    args = parser.parse_args()
    folder = args.folder / ("quick" if args.quick else "full")
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [
        part
        for part in PARTS
        if (part.quick or not args.quick) and (not args.only or part.name in args.only)
    ]
    records = []
    for part in chosen:
        path = folder / f"{part.name.replace(' ', '-').replace(',', '')}.json"
        if path.exists():
            record = json.loads(path.read_text())
        else:
            print(f"== {part.name}", flush=True)
            record = run(part, args.quick)
            if record["outcome"] == "done":  # what failed is tried again by the next call
                write_bytes_atomic(path, json.dumps(record, indent=1).encode() + b"\n")
        records.append(record)
        write_bytes_atomic(folder / TABLE, table(records, args.usd_per_hour).encode())
    print((folder / TABLE).read_text())
    done = sum(record["outcome"] == "done" for record in records)
    print(json.dumps({"bench": "gpu_day", "ok": done == len(records), "done": done}))


def run(part: Part, quick: bool) -> dict[str, Any]:
    """Run one part to its end or its limit; how it ended and what it found."""
    command = [sys.executable, "-m", part.module, *part.arguments, *(["--quick"] if quick else [])]
    begin = time.monotonic()
    with watts() as measured:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            said, _ = process.communicate(timeout=part.limit_s)
            outcome = "done" if process.returncode == 0 else f"exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            said, _ = process.communicate()
            outcome = f"given up after {part.limit_s:.0f} s"
    found = None
    with contextlib.suppress(IndexError, ValueError):
        found = json.loads(said.strip().splitlines()[-1])
    if outcome == "done" and not isinstance(found, dict):
        outcome = "no result"
    return {
        "name": part.name,
        "command": command[1:],
        "outcome": outcome,
        "seconds": round(time.monotonic() - begin, 1),
        "watts": round(sum(measured) / len(measured)) if measured else None,
        "found": found if isinstance(found, dict) else None,
        "gpu": gpu_name(),
        "machine": machine(),
    }


@contextlib.contextmanager
def watts() -> Iterator[list[float]]:
    """What the GPU draws each second of a `with` block; empty without nvidia-smi."""
    found: list[float] = []
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(found, ended), daemon=True)
    if shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _watch(found: list[float], ended: threading.Event) -> None:
    while not ended.wait(1.0):
        with contextlib.suppress(ValueError, OSError, subprocess.SubprocessError):
            found.append(float(_ask("power.draw").split()[0]))


def gpu_name() -> str | None:
    """The first GPU; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return _ask("name").strip()
    return None


def _ask(what: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    return said.splitlines()[0]


def table(records: list[dict[str, Any]], usd_per_hour: float) -> str:
    """All parts as Markdown, a line for each peer."""
    lines = [
        f"# GPU day: {records[0]['gpu'] or 'no GPU, CPUs only'}, {records[0]['machine']}\n",
        "| part | peer | ours | peer's | unit | ratio | target | seconds | W | USD |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        end = (
            f"{record['seconds']:g} | {record['watts'] or '–'} |"
            f" {record['seconds'] / 3600 * usd_per_hour if record['gpu'] else 0:.3f} |"
        )
        found = record["found"]
        if record["outcome"] != "done" or found is None:
            lines.append(f"| {record['name']} | **{record['outcome']}** | | | | | | {end}")
            continue
        for entry in (found, *found.get("also", ())):
            lines.append(
                f"| {record['name']} | {entry.get('peer_name', '')} | {entry.get('ours', '')} |"
                f" {entry.get('peer', '')} | {entry.get('unit', found.get('unit', ''))} |"
                f" {entry.get('ratio', '')} | {entry.get('target', '')} | {end}"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
