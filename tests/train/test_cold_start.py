"""A rank that is late to its first steps is waited for: `rank_timeout_s` holds once it has started.

Two real ranks, of which the second is late by more than that.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from train_small import SMALL

from panoforge.cluster.ray.node import free_ports
from panoforge.train.log import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RANK_TIMEOUT_S = 5.0
PANO = "from panoforge.cli import main; main()"
COLD_STORAGE = f"""
import itertools, time
from panoforge.train.data.loader import ClipSource
batch, calls = ClipSource.batch, itertools.count()
def cold(source, positions):
    if next(calls) == 0:
        time.sleep({2 * RANK_TIMEOUT_S + 5})
    return batch(source, positions)
ClipSource.batch = cold
"""


def train_two(
    folder: Path, dataset: Path, late: tuple[str, dict[str, str]], **changes: object
) -> list[dict]:
    """The steps of a run of two ranks. The second starts with other code, and other variables."""
    fields = {**SMALL, "rank_timeout_s": RANK_TIMEOUT_S, **changes}
    config = folder / "train.yaml"
    config.write_text(
        yaml.safe_dump({**fields, "run": str(folder / "run"), "dataset": str(dataset)})
    )
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
        "WORLD_SIZE": "2",
    }
    at_once = ("", {"TORCH_COMPILE_DISABLE": "1"})  # the first rank has nothing to wait for
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code + PANO, "train", str(config)],
            env={**common, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, (code, variables) in enumerate((at_once, late))
    ]
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return read_metrics(folder / "run" / "metrics.jsonl")


def test_a_cold_first_batch_is_waited_for(caps_dataset: Path, tmp_path: Path):
    rows = train_two(tmp_path, caps_dataset, (COLD_STORAGE, {}))
    assert len(rows) == SMALL["steps"] and rows[0]["seconds"] > RANK_TIMEOUT_S


def test_a_compilation_is_waited_for(caps_dataset: Path, tmp_path: Path):
    """A real one, of image encoder and memory encoder, with nothing of it cached."""
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    rows = train_two(tmp_path, caps_dataset, ("", caches), compile=True, steps=14)
    assert len(rows) == 14 and max(row["seconds"] for row in rows) > RANK_TIMEOUT_S
    assert any((tmp_path / "inductor").rglob("*.so")), "nothing was compiled"
