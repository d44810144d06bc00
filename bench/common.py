"""What all benchmarks share: interleaved timing, the JSON line, the table of results.

A benchmark builds its work, asserts that ours and every peer's result are right, then calls
`interleave` and `finish`:

    seconds = interleave({"ours": ours, "py360convert": peer}, repeats=7)
    finish(Outcome("view_sampling", unit="ms", n=24, ours=…, peers=(Peer("py360convert 1.0.4", …,
    target=8),)), args)

Runs are interleaved A/B/A/B and medians are compared. One thread everywhere, and CPU seconds of
this process are counted: on an idle machine they are the wall's, on a busy one a neighbour's time
slices are left out. Where a GPU works for the process, the clock counts. The last line printed is
JSON with the fields that DESIGN.md lists, ratio > 1 meaning ours is better; peers after the first
are under "also". `--record` appends to bench/RESULTS.md, misses included.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Peer:
    """A peer on the same work: its figure, where smaller is better, and ours where it is not the
    outcome's (`unit` says what it is then).
    """

    name: str
    value: float
    target: float
    ours: float | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found; figures are such that smaller is better. `facts` go into the JSON
    line as they are.
    """

    bench: str
    ours: float
    unit: str
    n: int
    peers: tuple[Peer, ...]
    facts: Mapping[str, object] = field(default_factory=dict)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The command line that every benchmark has."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest honest size")
    parser.add_argument(
        "--toy", action="store_true", help="show that it runs; its figures say nothing"
    )
    parser.add_argument(
        "--record", action="store_true", help="append the result to bench/RESULTS.md"
    )
    return parser


def use_one_thread() -> None:
    """One thread for OpenCV, and for BLAS and torch where they are loaded after this."""
    for name in ONE_THREAD:
        os.environ[name] = "1"
    import cv2

    cv2.setNumThreads(1)


def interleave(
    work: Mapping[str, Callable[[], object]], repeats: int = 5, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each piece of work (`now_s`), `repeats` times in turn, after a warm-up round.

    GC is off while timing: collecting would evict caches and penalise short runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values() if warm_up else ():
        function()
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, function in work.items():
                begin = now_s()
                function()
                seconds[name].append(now_s() - begin)
    finally:
        gc.enable()
    return seconds


def now_s() -> float:
    """CPU seconds of this process; with a GPU the clock's, once it has done what it was given."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> str:
    """'12.3 (11.9 – 14.0)' in milliseconds: median and range."""
    return f"{1e3 * median(values):.4g} ({1e3 * min(values):.4g} – {1e3 * max(values):.4g})"


def version(distribution: str) -> str:
    """'name 1.2.3' of an installed distribution."""
    return f"{distribution} {metadata.version(distribution)}"


def machine() -> str:
    """Processor, cores and memory in a phrase."""
    from panoforge.core.storage.runlog import hardware

    found = hardware()
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, Python"
        f" {platform.python_version()}"
    )


def finish(outcome: Outcome, args: argparse.Namespace) -> None:
    """Print a line per peer and the JSON line; append to the table if asked to."""
    entries = [_entry(outcome, peer) for peer in outcome.peers]
    for peer, entry in zip(outcome.peers, entries, strict=True):
        met = "met" if entry["ratio"] >= peer.target else "MISSED"
        print(
            f"{outcome.bench}: {entry['ratio']:.1f} × {peer.name} (target {peer.target:g} ×: {met})"
        )
    line = {
        "bench": outcome.bench,
        **entries[0],
        "unit": outcome.unit,
        "n": outcome.n,
        "machine": machine(),
        "quick": args.quick,
        "toy": args.toy,
        **outcome.facts,
        "also": entries[1:],
    }
    if args.record:
        _record(outcome, entries)
    print(json.dumps(line))


def _entry(outcome: Outcome, peer: Peer) -> dict:
    ours = outcome.ours if peer.ours is None else peer.ours
    return {
        "ratio": round(peer.value / ours, 3),
        "target": peer.target,
        "ours": float(f"{ours:.5g}"),
        "peer": float(f"{peer.value:.5g}"),
        "peer_name": peer.name,
    } | ({"unit": peer.unit} if peer.unit else {})


def _record(outcome: Outcome, entries: list[dict]) -> None:
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    with open(RESULTS, "a") as file:
        for entry in entries:
            met = "yes" if entry["ratio"] >= entry["target"] else "**no**"
            unit, ratio, target = (
                entry.get("unit", outcome.unit),
                f"{entry['ratio']:.2f}",
                f"{entry['target']:.3g}",
            )
            cells = (
                today,
                outcome.bench,
                entry["peer_name"],
                entry["ours"],
                entry["peer"],
                unit,
                ratio,
                target,
                met,
                machine(),
            )
            file.write("| " + " | ".join(map(str, cells)) + " |\n")
