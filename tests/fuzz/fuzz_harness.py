"""Fuzzing of readers: mutated files go in, only our own errors may come out.

A `Reader` says how its valid files look and how they are read. A child process mutates them one by
one, under limits of time and memory, and notes everything that is not a UserError. Case k of a
reader is a function of the seed, the reader's name and k alone, so a finding can be made again:

    python tests/fuzz/fuzz_harness.py --seconds 5 --reader coco --case 1234

Readers are listed in `fuzz_readers_*.py` beside this file: add a file, or a line to one.
"""

import argparse
import contextlib
import copy
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from panoforge.core.errors import UserError

MAX_SECONDS = 5.0  # of one file: of this process, however busy the machine is
MAX_WAIT_S = 60.0  # for one file, also where nothing is computed
MAX_BYTES = 1 << 30  # of memory for one file
FEWEST = 5  # cases of each reader, however busy the machine is
Structure = Literal["json", "text", "none"]


@dataclass(frozen=True)
class Reader:
    """One reader: valid files, and how the file called `file` in a folder is read.

    `prepare` puts into the folder what the file refers to (the image of an annotation, say).
    """

    name: str
    file: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    structure: Structure = "none"
    prepare: Callable[[Path], object] = lambda folder: None


@dataclass(frozen=True)
class Finding:
    """A file that a reader did not survive. `data` is where it was kept."""

    reader: str
    case: int
    what: str
    data: str


@dataclass(frozen=True)
class Cost:
    """What one file cost its reader: seconds of this process, bytes on top of what it had."""

    seconds: float = 0.0
    memory_bytes: int = 0

    def at_least(self, other: "Cost") -> "Cost":
        return Cost(max(self.seconds, other.seconds), max(self.memory_bytes, other.memory_bytes))


def all_readers() -> list[Reader]:
    """The readers of every fuzz_readers_*.py, by name."""
    here = Path(__file__).parent
    modules = [importlib.import_module(p.stem) for p in sorted(here.glob("fuzz_readers_*.py"))]
    return sorted((r for module in modules for r in module.READERS), key=lambda r: r.name)


def generator(reader: Reader, seed: int, case: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(reader.name.encode()), case])


def mutated(reader: Reader, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A file made from one of the valid ones by 1 to 4 mutations."""
    data = bytes(seeds[int(rng.integers(len(seeds)))])
    structural = {"json": mutate_json, "text": mutate_text}.get(reader.structure)
    for _ in range(int(rng.integers(1, 5))):
        if structural is not None and rng.random() < 0.7:
            data = structural(data, rng)
        else:
            data = mutate_bytes(data, seeds, rng)
    return data


def mutate_bytes(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Bits flipped, numbers at their limits, pieces removed, repeated, inserted or spliced."""
    out = bytearray(data)
    at = int(rng.integers(len(out) + 1))
    if rng.random() < 0.5:  # headers lie in front
        at = min(at, int(rng.integers(257)))
    length = int(rng.choice([1, 2, 4, 8, 64, 1024]))
    kind = int(rng.integers(8))
    if kind == 0 and out:
        for i in rng.integers(len(out), size=int(rng.integers(1, 9))):
            out[i] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        out[at : at + length] = rng.bytes(length)
    elif kind == 2:
        edge = (b"\x00", b"\xff", b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7, b"\x01")
        out[at : at + length] = (edge[int(rng.integers(len(edge)))] * length)[:length]
    elif kind == 3:
        del out[at : at + length]
    elif kind == 4:
        out[at:at] = out[at : at + length] * int(rng.integers(1, 9))
    elif kind == 5:
        out[at:at] = rng.bytes(length)
    elif kind == 6:
        del out[at:]
    else:
        other = seeds[int(rng.integers(len(seeds)))]
        out[at:] = other[min(at, len(other)) :]
    return bytes(out[: 4 << 20])


def deep(depth: int) -> Any:
    """A list in a list in a list."""
    out: Any = 1
    for _ in range(depth):
        out = [out]
    return out


NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, 1e308, -1e-320,
    float("nan"), float("inf"), "", "0", "1", "x", "\x00", "é", "\ud800", "../../etc/passwd",
    "/etc/passwd", "a" * 5000, [], {}, [[]], [{}], [None], {"": None}, {"size": [8, 8]},
    [1, 2, 3, 4, 5], [[1, 2, 3, 4, 5, 6]], [[1e308] * 6], [["a"] * 6], [8, 16], [2**40, 2**40],
    list(range(300)), deep(50),
)  # fmt: skip


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """A node replaced, removed, doubled, or exchanged for another node of the document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = list(_places(document)) if isinstance(document, (dict, list)) else []
    kind = int(rng.integers(5))
    if not places or (kind == 4 and rng.random() < 0.1):
        value = NASTY[int(rng.integers(len(NASTY)))]
        return json.dumps(value).encode("utf-8", "surrogatepass")
    parent, key = places[int(rng.integers(len(places)))]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(parent[key])] * int(rng.integers(1, 4))
    elif kind == 2:
        other, there = places[int(rng.integers(len(places)))]
        parent[key] = copy.deepcopy(other[there])
    elif kind == 3 and isinstance(parent[key], (int, float)):
        parent[key] = parent[key] * [-1, 0.5, 2, 1000, 2**40][int(rng.integers(5))]
    else:
        parent[key] = copy.deepcopy(NASTY[int(rng.integers(len(NASTY)))])
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(node: Any) -> Any:
    """Every (container, key) of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in list(items):
        yield node, key
        if isinstance(child, (dict, list)):
            yield from _places(child)


WORDS = (
    b"", b"null", b"-1", b"1e400", b"nan", b"inf", b"true", b"[]", b"{}", b"'", b'"', b"\x00",
    b"\xff", b"\xef\xbb\xbf", b";", b",", b"\t", b"\r", b"&a", b"*a", b"!!python/object:os.system",
    b"${run}", b"${oc.env:HOME}", b"- - - -", b"? :", b"{a: {b: {c: ", b"99999999999999999999",
    b"0x_", b"<<: *a", b"|", b">", b"%", b"@", b"`",
)  # fmt: skip


def mutate_text(data: bytes, rng: np.random.Generator) -> bytes:
    """A word exchanged, a line doubled, moved or removed, an indentation changed."""
    lines = data.split(b"\n")
    at = int(rng.integers(len(lines)))
    kind = int(rng.integers(5))
    if kind == 0:
        lines[at:at] = [lines[at]] * int(rng.integers(1, 50))
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines[at] = b" " * int(rng.integers(1, 9)) + lines[at]
    elif kind == 3:
        other = int(rng.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        words = lines[at].split(b" ")
        words[int(rng.integers(len(words)))] = WORDS[int(rng.integers(len(WORDS)))]
        lines[at] = b" ".join(words)
    return b"\n".join(lines)


class _TooSlow(BaseException):
    """Raised by the alarm; no reader's `except Exception` catches it."""


def _alarm(*_: object) -> None:
    raise _TooSlow


def fuzz(
    readers: Sequence[Reader], seconds: float, seed: int, kept: Path, only: int | None = None
) -> tuple[list[Finding], dict[str, int], dict[str, "Cost"]]:
    """Fuzz `readers` in turn for `seconds` in all, here. Gives findings, cases run and the worst
    that one file of each reader cost.
    """
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPROF, _alarm)
    findings: list[Finding] = []
    cases: dict[str, int] = {}
    worst: dict[str, Cost] = {}
    for reader in readers:
        with tempfile.TemporaryDirectory() as folder:
            reader.prepare(Path(folder))
            seeds, path = reader.seeds(), Path(folder) / reader.file
            for data in seeds:  # a valid file is read
                path.write_bytes(data)
                reader.read(path)
            until = time.monotonic() + seconds / len(readers)
            case = -1 if only is None else only - 1
            while (time.monotonic() < until or case < FEWEST - 1) and len(findings) < 20:
                case += 1
                data = mutated(reader, seeds, generator(reader, seed, case))
                (kept / "current").write_bytes(data)
                (kept / "current.json").write_text(json.dumps([reader.name, case]))
                path.write_bytes(data)
                what, cost = _trouble(reader, path)
                worst[reader.name] = cost.at_least(worst.get(reader.name, Cost()))
                if what:
                    name = str(kept / f"{reader.name}-{case}")
                    Path(name).write_bytes(data)
                    findings.append(Finding(reader.name, case, what, name))
                if only is not None:
                    break
            cases[reader.name] = case + 1
    return findings, cases, worst


def _trouble(reader: Reader, path: Path) -> tuple[str | None, "Cost"]:
    """What went wrong, or None: the file was read, or refused by an error of ours. And its cost."""
    before, start = _most_memory(anew=True), time.process_time()
    what = _read(reader, path)
    cost = Cost(time.process_time() - start, _most_memory() - before)
    if what is None and cost.memory_bytes > MAX_BYTES:
        what = f"took {cost.memory_bytes >> 20} MiB"
    return what, cost


def _read(reader: Reader, path: Path) -> str | None:
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_WAIT_S)
    try:
        reader.read(path)
    except UserError as error:
        if not str(error).strip():
            return f"{type(error).__name__} says nothing"
    except _TooSlow:
        return f"took over {MAX_SECONDS:g} s of computing, or {MAX_WAIT_S:g} s of waiting"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _most_memory(anew: bool = False) -> int:
    """The most bytes that this process ever held, or has held since it was asked `anew`."""
    if anew:
        with contextlib.suppress(OSError):  # not every container lets it be reset
            Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def limit_memory(extra_bytes: int) -> None:
    """Let this process map no more than `extra_bytes` on top of what it has mapped."""
    status = Path("/proc/self/status").read_text()
    mapped = next(int(x.split()[1]) << 10 for x in status.splitlines() if x.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (mapped + extra_bytes,) * 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append")
    parser.add_argument("--case", type=int)
    parser.add_argument("--kept", type=Path, default=None)
    asked = parser.parse_args()
    kept = asked.kept or Path(tempfile.mkdtemp(prefix="fuzz-"))
    readers = [r for r in all_readers() if not asked.reader or r.name in asked.reader]
    for reader in readers:  # what readers load is not what a file costs
        with tempfile.TemporaryDirectory() as folder:
            reader.prepare(Path(folder))
            path = Path(folder) / reader.file
            path.write_bytes(reader.seeds()[0])
            reader.read(path)
    limit_memory(MAX_BYTES)
    findings, cases, worst = fuzz(readers, asked.seconds, asked.seed, kept, asked.case)
    report = {
        "cases": cases,
        "worst": {name: vars(cost) for name, cost in worst.items()},
        "findings": [vars(f) for f in findings],
    }
    (kept / "report.json").write_text(json.dumps(report))
    for finding in findings:
        print(f"== {finding.reader}, case {finding.case}, kept as {finding.data}\n{finding.what}")
    for name, cost in worst.items():
        print(
            f"{name}: {cases[name]} files, worst {cost.seconds:.2f} s,"
            f" {cost.memory_bytes / 1e6:.0f} MB"
        )
    sys.stdout.flush()
    os._exit(1 if findings else 0)  # no destructors under the memory limit


if __name__ == "__main__":
    main()
