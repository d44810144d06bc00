"""The GPU day's rehearsal: it goes on where it was, and one part's failure is not the day's."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from repository import ROOT

from bench.gpu_day import PARTS, Part, main

QUICK = ("merging", "panorama", "propagation, 50 objects")


def outcomes(folder: Path) -> dict[str, str]:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("toy/*.json"))]
    return {record["name"]: record["outcome"] for record in records}


def test_a_part_that_fails_is_written_down_and_tried_again(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
):
    """One that is not there, one that hangs, one that finds nothing, one that works, in toy size.
    The next call leaves what is done, and a third is not begun where there is no time.
    """
    (tmp_path / "that_hangs.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    wrong = (
        Part("absent", "bench.nowhere"),
        Part("hangs", "that_hangs", limit_s=0.4),
        Part("finds nothing", "platform"),
    )
    parts, words = (*wrong, Part("merging", "bench.merge")), ["--toy", f"--folder={tmp_path}"]
    assert main(words, parts) == 1  # a rehearsal finds what fails
    expected = {"absent": "exit code 1", "hangs": "given up after 2 s"}
    expected |= {"finds nothing": "no result", "merging": "done"}
    assert outcomes(tmp_path) == expected
    done = (tmp_path / "toy/merging.json").read_bytes()
    assert main(words, [Part(part.name, "bench.nowhere") for part in parts]) == 1
    assert (tmp_path / "toy/merging.json").read_bytes() == done
    table = (tmp_path / "toy/gpu_day.md").read_text()
    assert "| hangs | **exit code 1** |" in table and "| merging | full-panorama grid" in table
    capfd.readouterr()
    assert main([*words, "--minutes=0", "--only", "hangs", "merging"], parts) == 1
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last["done"] == 1 and last["left"] == ["hangs"] and not last["ok"]


@pytest.mark.real
def test_some_parts_run_at_toy_size(tmp_path: Path):
    """All of them are too much for every run of the tests: see the next test."""
    assert main(["--toy", f"--folder={tmp_path}", "--only", *QUICK]) == 0
    assert outcomes(tmp_path) == dict.fromkeys(sorted(QUICK), "done")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_rehearsal_passes(tmp_path: Path):
    """`make bench-gpu QUICK=1`, without what bench/peers.txt names where that is not installed."""
    missing = {"view sampling"} if find_spec("py360convert") is None else set()
    names = [part.name for part in PARTS if part.toy and part.name not in missing]
    assert main(["--toy", f"--folder={tmp_path}", "--only", *names]) == 0
