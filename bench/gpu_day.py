"""A day with a GPU, prepared: all benchmarks that a GPU changes, one after the other, in one table.

    make bench-gpu            on the machine with the GPU
    make bench-gpu QUICK=1    the same at toy size on CPUs: the rehearsal, whose figures say nothing

Each part is a process of its own with a time limit, and has its peer in the same run. A part that
fails or takes too long is written down as that, with the last line that it said, and the next one
runs. All that it said is in a file beside. One whose peer is not installed says so and is no
failure. No part is begun after `--minutes`. What is done is in FOLDER and not done again: the same
command goes on, and tries again what failed (`--fresh` begins anew). The parts come in the order of
what they are worth, for a short loan. Beside each stand the GPU's watts (mean over the part, from
nvidia-smi) and what its time costs at `--usd-per-hour`.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import machine
from bench.gpu import gpu_name, mean_watts, watts
from panoforge.core.storage.atomic import write_bytes_atomic

TABLE = "gpu_day.md"
ABSENT = "not installed: "
MISSING = re.compile(r"^ModuleNotFoundError: No module named '([\w.]+)'", re.MULTILINE)
BUSY = 5  # times as long may a part of the rehearsal take: its CPUs have other work, too


@dataclass(frozen=True)
class Part:
    """One of the benchmarks: the module and its arguments, and how long it may take."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    limit_s: float = 60.0
    toy: bool = True  # part of the rehearsal; else another part runs the same code


TRAIN, PROPAGATE = "bench.train_step", "bench.propagate"
BOTH = ("--quick", "--sides", "peer", "ours", "recompute")
# Limits as the official loops take on a GPU: SAM2's some 25 ms for an object in a frame.
PARTS = (
    Part("train step, tiny", TRAIN, ("--size=tiny", *BOTH), 150),
    Part("propagation, 50 objects", PROPAGATE, ("--objects=50",), 90),
    Part("panorama", "bench.panorama", ("--reference=64",), 300),
    Part("end to end", "bench.end_to_end", (), 120),
    Part("propagation, 128 objects", PROPAGATE, ("--objects=128",), 150, toy=False),
    Part("train step, large", TRAIN, ("--size=large", *BOTH), 150, toy=False),
    Part("train step, 24 frames", TRAIN, ("--frames=24", *BOTH), 150, toy=False),
    Part("train step, compiled", TRAIN, ("--quick", "--sides", "peer", "ours", "compiled"), 240),
    Part("propagation, few objects", PROPAGATE, ("--objects", "1", "16"), 120, toy=False),
    Part("propagation, VOS mode", PROPAGATE, ("--objects=16", "--vos"), 300),
    Part("merging", "bench.merge", (), 60),
    Part("view sampling", "bench.view_sampling", (), 120),
)


def main(words: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Run the parts that are not done yet. 0, but for a rehearsal in which one was not done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu_day"))
    parser.add_argument("--toy", action="store_true", help="the rehearsal: toy size, on CPUs")
    parser.add_argument("--fresh", action="store_true", help="forget what was done")
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no part after this")
    parser.add_argument("--usd-per-hour", type=float, default=3.0, help="price of the GPU")
    parser.add_argument("--only", nargs="*", help="names of parts")
    args = parser.parse_args(words)
    folder = args.folder / ("toy" if args.toy else "full")
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [
        part
        for part in parts
        if (part.toy or not args.toy) and (not args.only or part.name in args.only)
    ]
    records, end = [], time.monotonic() + 60 * args.minutes
    for part in chosen:
        path = folder / f"{part.name.replace(' ', '-').replace(',', '')}.json"
        record = _read(path)
        if record is None and time.monotonic() < end:
            print(f"== {part.name}", flush=True)
            record = run(part, args.toy, path.with_suffix(".log"))
            print(f"   {record['outcome']} after {record['seconds']:g} s", flush=True)
            write_bytes_atomic(path, json.dumps(record, indent=1).encode() + b"\n")
        records.append(record or {"name": part.name, "outcome": "not begun: out of time"})
        write_bytes_atomic(folder / TABLE, table(records, args.usd_per_hour).encode())
    print((folder / TABLE).read_text())
    done = sum(record["outcome"] == "done" for record in records)
    left = [record["name"] for record in records if record["outcome"] != "done"]
    absent = sum(record["outcome"].startswith(ABSENT) for record in records)
    ok = done + absent == len(chosen)
    print(json.dumps({"bench": "gpu_day", "ok": ok, "done": done, "left": left, "toy": args.toy}))
    return 1 if args.toy and not ok else 0


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier call found; None where the part is to be run (again)."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text())
        return record if record["outcome"] == "done" else None
    return None


def run(part: Part, toy: bool, log: Path) -> dict[str, Any]:
    """Run one part to its end or its limit; how it ended and what it found. `log`: what it said."""
    command = [sys.executable, "-m", part.module, *part.arguments, *(["--toy"] if toy else [])]
    limit_s = part.limit_s * (BUSY if toy else 1)
    begin = time.monotonic()
    with watts() as measured, log.open("w") as words:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, start_new_session=True
        )
        try:
            said, _ = process.communicate(timeout=limit_s)
            outcome = "done" if process.returncode == 0 else _failure(process.returncode, log)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            said, _ = process.communicate()
            outcome = f"given up after {limit_s:.0f} s"
        except BaseException:  # asked to stop: leave nothing behind
            os.killpg(process.pid, 9)
            process.wait()
            raise
    found = None
    with contextlib.suppress(IndexError, ValueError):
        found = json.loads(said.strip().splitlines()[-1])
    if outcome == "done" and not isinstance(found, dict):
        outcome = "no result"
    mean = mean_watts(measured)
    return {
        "name": part.name,
        "command": command[1:],
        "outcome": outcome,
        "seconds": round(time.monotonic() - begin, 1),
        "watts": None if mean is None else round(mean),
        "found": found if isinstance(found, dict) else None,
        "gpu": gpu_name(),
        "machine": machine(),
    }


def _failure(code: int, log: Path) -> str:
    """Why a part failed: a package that is missing, or what it said last."""
    said = log.read_text(errors="replace").strip()
    if missing := MISSING.findall(said):
        return f"{ABSENT}{missing[-1]} (bench/peers.txt)"
    last = said.splitlines()[-1][:200].replace("|", "/") if said else "not a word"
    return f"exit code {code}: {last}"


def table(records: Sequence[dict[str, Any]], usd_per_hour: float) -> str:
    """All parts as Markdown, a line for each peer."""
    gpu = next((record["gpu"] for record in records if record.get("gpu")), "no GPU, CPUs only")
    lines = [
        f"# GPU day: {gpu}, {machine()}\n",
        "| part | peer | ours | peer's | unit | ratio | target | seconds | W | USD |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        seconds = record.get("seconds", 0)
        usd = seconds / 3600 * usd_per_hour if record.get("gpu") else 0
        end = f"{seconds:g} | {record.get('watts') or '–'} | {usd:.3f} |"
        found = record.get("found")
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
    sys.exit(main())
