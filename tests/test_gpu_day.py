"""The GPU day's rehearsal: it goes on where it was, and one part's failure is not the day's."""

import json
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from repository import ROOT

from bench.gpu import gpu_name, mean_watts, watts
from bench.gpu_day import PARTS, Part, main

QUICK = ("merging", "panorama", "propagation, 50 objects")


def outcomes(folder: Path) -> dict[str, str]:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("toy/*.json"))]
    return {record["name"]: record["outcome"] for record in records}


def test_a_part_that_fails_is_written_down_and_tried_again(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
):
    """One that breaks, one that hangs, one that finds nothing, one that works, in toy size. The
    next call leaves what is done, and a third is not begun where there is no time.
    """
    (tmp_path / "that_hangs.py").write_text("import time; time.sleep(600)")
    (tmp_path / "that_breaks.py").write_text("print('so far', flush=True); assert not 1, 'a|b'")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    wrong = (
        Part("breaks", "that_breaks"),
        Part("hangs", "that_hangs", limit_s=0.4),
        Part("finds nothing", "platform"),
    )
    parts, words = (*wrong, Part("merging", "bench.merge")), ["--toy", f"--folder={tmp_path}"]
    assert main(words, parts) == 1  # a rehearsal finds what fails
    expected = {"breaks": "exit code 1: AssertionError: a/b", "hangs": "given up after 2 s"}
    expected |= {"finds nothing": "no result", "merging": "done"}
    assert outcomes(tmp_path) == expected
    assert "that_breaks.py" in (tmp_path / "toy/breaks.log").read_text()  # all of its traceback
    done = (tmp_path / "toy/merging.json").read_bytes()
    assert main(words, [Part(part.name, "bench.nowhere") for part in parts]) == 1
    assert (tmp_path / "toy/merging.json").read_bytes() == done
    table = (tmp_path / "toy/gpu_day.md").read_text()
    assert "| hangs | **exit code 1: " in table and "| merging | full-panorama grid" in table
    capfd.readouterr()
    assert main([*words, "--minutes=0", "--only", "hangs", "merging"], parts) == 1
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last["done"] == 1 and last["left"] == ["hangs"] and not last["ok"]


def test_a_peer_that_is_not_installed_is_no_failure(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
):
    """Its part says so, and is tried again by the next call."""
    (tmp_path / "lacks.py").write_text("import a_peer.of_ours\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    words = ["--toy", f"--folder={tmp_path}"]
    for _ in range(2):
        assert main(words, [Part("lacks", "lacks")]) == 0
        assert outcomes(tmp_path) == {"lacks": "not installed: a_peer (bench/peers.txt)"}
        last = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert last["done"] == 0 and last["left"] == ["lacks"] and last["ok"]


SMI = """#!/bin/bash
[[ "$*" == *--id=GPU-7 ]] || exit 9
case "$*" in *power.draw*) echo "${DRAWS}" ;; *name*) echo "NVIDIA H200" ;; esac
"""


def test_the_gpu_that_may_be_used_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As nvidia-smi answers, a figure and where it knows none; a machine may have more of them."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    for draws, expected in (
        ("123.50", 123.5),
        ("[N/A]", None),
        ("[Insufficient Permissions]", None),
    ):
        monkeypatch.setenv("DRAWS", draws)
        with watts(every_s=0.05) as measured:
            time.sleep(0.6)
        assert mean_watts(measured) == expected
    assert gpu_name() == "NVIDIA H200"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # the tool fails
    assert gpu_name() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # there are some, but not for us
    assert gpu_name() is None


@pytest.mark.real
def test_some_parts_run_at_toy_size(tmp_path: Path):
    """All of them are too much for every run of the tests: see the next test."""
    assert main(["--toy", f"--folder={tmp_path}", "--only", *QUICK]) == 0
    assert outcomes(tmp_path) == dict.fromkeys(sorted(QUICK), "done")


@pytest.mark.real
@pytest.mark.timeout(1800)
def test_the_whole_rehearsal_passes(tmp_path: Path):
    """`make bench-gpu QUICK=1`, whether or not what bench/peers.txt names is installed."""
    assert main(["--toy", f"--folder={tmp_path}"]) == 0
    absent = "view sampling" if find_spec("py360convert") is None else None
    for part in PARTS:
        if part.toy and part.name != absent:
            assert outcomes(tmp_path)[part.name] == "done", part.name
