"""Every reader of files that others may have written, against mutated files: only our own errors,
at most 5 s and 1 GB for one file. 20 s of it in `make test`, 10 minutes under the marker `slow`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_harness
import numpy as np
import pytest
from fuzz_harness import Finding, Reader, all_readers, fuzz, generator, mutated

from panoforge.core.errors import DataError

HARNESS = Path(fuzz_harness.__file__)


def fuzzed(folder: Path, seconds: float, seed: int) -> dict:
    """The child's report; what it did last where it died."""
    done = subprocess.run(
        [
            sys.executable, str(HARNESS), "--seconds", str(seconds), "--seed", str(seed),
            "--kept", str(folder),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
        },
        capture_output=True,
        text=True,
        timeout=2 * seconds + 120,  # every reader gets its fewest files, however busy the machine
    )  # fmt: skip
    report = folder / "report.json"
    if not report.exists():
        last = folder / "current.json"
        pytest.fail(f"the child died at {last.read_text() if last.exists() else 'its start'}:"
                    f" {done.stderr[-3000:]}")  # fmt: skip
    return json.loads(report.read_text())


def check(report: dict) -> None:
    told = [f"{f['reader']} case {f['case']}: {f['what'][-1500:]}" for f in report["findings"]]
    assert not told, "\n".join(told)
    assert set(report["cases"]) == {reader.name for reader in all_readers()}
    assert all(cases >= fuzz_harness.FEWEST for cases in report["cases"].values()), report["cases"]


@pytest.mark.timeout(180)
def test_every_reader_survives_seconds_of_mutated_files(tmp_path: Path) -> None:
    check(fuzzed(tmp_path, seconds=20, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_reader_survives_minutes_of_mutated_files(tmp_path: Path) -> None:
    check(fuzzed(tmp_path, seconds=600, seed=2))


def planted(read) -> Reader:
    return Reader("planted", "x.json", lambda: [b'{"a": [1, 2]}'], read, "json")


def found(read, folder: Path, seconds: float = 0.3) -> list[Finding]:
    return fuzz([planted(read)], seconds, 0, folder)[0]


def test_the_harness_finds_what_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign error, a slow reader and a silent error are found; our errors are not."""

    def refuses(path: Path) -> None:
        if path.read_bytes() != b'{"a": [1, 2]}':
            raise DataError("not the document")

    assert not found(refuses, tmp_path)
    assert "KeyError" in found(lambda path: json.loads(path.read_bytes())["a"], tmp_path)[
        0
    ].what or found(lambda path: json.loads(path.read_bytes())["a"], tmp_path)

    def silent(path: Path) -> None:
        if path.read_bytes() != b'{"a": [1, 2]}':
            raise DataError("")

    assert found(silent, tmp_path)[0].what == "DataError says nothing"
    monkeypatch.setattr(fuzz_harness, "MAX_SECONDS", 0.05)

    def slow(path: Path) -> None:
        while path.read_bytes() != b'{"a": [1, 2]}':
            pass

    assert "took over" in found(slow, tmp_path)[0].what


def test_a_case_is_a_function_of_seed_name_and_number(tmp_path: Path) -> None:
    reader = planted(lambda path: None)
    one = [mutated(reader, reader.seeds(), generator(reader, 3, k)) for k in range(50)]
    two = [mutated(reader, reader.seeds(), generator(reader, 3, k)) for k in range(50)]
    assert one == two and len(set(one)) > 25
    assert np.unique([len(x) for x in one]).size > 5
