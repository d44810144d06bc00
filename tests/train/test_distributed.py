"""Several ranks: what they exchange, and what one of them says. Whole runs of several ranks are in
test_real_kills.py (torchrun) and in tests/cluster/ray/test_training.py (Ray Train).
"""

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from train_small import small_config

from panoforge.core.errors import DataError, UsageError
from panoforge.train.config import TrainConfig
from panoforge.train.data.plan import positions_of_rank
from panoforge.train.distributed import (
    LostDevice,
    LostRank,
    RankError,
    World,
    interface_towards,
)
from panoforge.train.log import read_metrics
from panoforge.train.rank import check_share, code_sha256, pick_device, train_rank
from panoforge.train.trainer import Trainer

CPU = torch.device("cpu")


def test_a_lone_process_is_a_world_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert World.detect() == World(0, 1, 0)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert World.detect() == World(5, 8, 1) and not World.detect().is_main
    assert World().sum([1, 2.5], torch.device("cpu")) == [1, 2.5]


class TwoRanks(World):
    """Rank 0 of two, whose texts are given: what they exchange is not the test's business."""

    others: list[str]

    def gather_texts(self, text: str, device: torch.device) -> list[str]:
        return [text, *self.others]


def other_ranks(*texts: str) -> World:
    world = TwoRanks(0, 1 + len(texts))
    object.__setattr__(world, "others", list(texts))
    return world


def test_ranks_of_other_code_or_data_are_named():
    found, here = {"code": "c0", "data": "d0", "weights": "w0"}, socket.gethostname()
    other_ranks("far\nc0\nd0\nw0").check_same(found, CPU)
    with pytest.raises(
        UsageError,
        match=rf"rank 2 \(node far\) has other code and data than rank 0 \(node {here}\):",
    ):
        other_ranks("near\nc0\nd0\nw0", "far\nc1\nd1\nw0").check_same(found, CPU)


def test_the_code_has_a_digest():
    assert len(code_sha256()) == 64 and code_sha256() == code_sha256()


def test_a_mistake_on_one_of_several_ranks_has_its_number_and_node():
    def fail(world: World, error: Exception) -> None:
        with world.named():
            raise error

    with pytest.raises(DataError, match=r"^bad$"):
        fail(World(), DataError("bad"))
    with pytest.raises(RankError, match=rf"^rank 1 of 2 \(node {socket.gethostname()}\): bad$"):
        fail(World(1, 2), DataError("bad"))
    with pytest.raises(LostRank, match=r"^gone$"):
        fail(World(1, 2), LostRank("gone"))
    with pytest.raises(RankError) as caught:
        fail(World(1, 2), UsageError("wrong"))
    assert caught.value.exit_code == UsageError.exit_code


def test_a_node_without_the_dataset_is_named(tmp_path: Path):
    with pytest.raises(RankError, match=r"rank 1 of 2 \(node .*\): .*nowhere"):
        train_rank(small_config(), tmp_path / "nowhere", tmp_path / "run", World(1, 2))


def test_a_step_is_shared_out_to_any_number_of_ranks():
    """Every forward pass once, in the one order, also where the ranks do not divide a step."""
    config = small_config(clips_per_step=8, clips_per_forward=2)
    whole = positions_of_rank(3, 8, 2, 0, 1)
    for ranks in (2, 3, 4):
        check_share(config, World(0, ranks))
        shares = [positions_of_rank(3, 8, 2, rank, ranks) for rank in range(ranks)]
        assert sorted(p for share in shares for p in share) == whole and all(shares)
    with pytest.raises(UsageError, match=r"a step has 4 forward passes .* and the run 5 ranks"):
        check_share(config, World(0, 5))
    with pytest.raises(ValueError, match="a step is made of whole forward passes"):
        TrainConfig.model_validate({"clips_per_step": 3, "clips_per_forward": 2})


def test_more_ranks_than_gpus_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="this node has 2 GPUs and none for its rank 2"):
        pick_device("auto", World(2, 4, 2))


def test_a_gpu_that_disappears_is_named_and_nothing_saved_is_lost(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What torch raises when a device falls off the bus, here in the third step."""
    config = small_config(model={"size": "micro"}, checkpoint_every=1)
    step = Trainer.step

    def fails(trainer: Trainer, forwards: list) -> dict:
        if trainer.step_done == 2:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with …")
        return step(trainer, forwards)

    monkeypatch.setattr(Trainer, "step", fails)
    with pytest.raises(LostDevice) as caught:
        train_rank(config, caps_dataset, tmp_path, World())
    assert str(caught.value) == (
        f"rank 0 of 1 (node {socket.gethostname()}): its device cpu failed: CUDA error: unspecified"
        " launch failure. What is saved stays; the same command goes on from the last checkpoint"
    )
    monkeypatch.undo()
    train_rank(config, caps_dataset, tmp_path, World())
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_gloo_takes_the_interface_that_leads_to_the_others():
    assert interface_towards("127.0.0.1") == "lo"
    for name, addresses in psutil.net_if_addrs().items():
        for found in addresses:
            if found.family is socket.AF_INET and name != "lo":
                assert interface_towards(found.address) == name


ENDING = """
import sys, time, torch
from pathlib import Path
from types import SimpleNamespace
from panoforge.train.distributed import World
from panoforge.train.trainer import Trainer
rank, kept = int(sys.argv[1]), Path(sys.argv[2] + ".kept")
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
)
save = [lambda: (time.sleep(1), kept.touch()), lambda: None][rank]
Trainer.save_and_end(SimpleNamespace(save=save, world=World(rank, 2), device=torch.device("cpu")))
assert kept.exists()
torch.distributed.destroy_process_group()  # gloo's threads abort a process that just ends
"""


@pytest.mark.slow
def test_no_rank_ends_before_rank_0_has_saved(tmp_path: Path):
    """Ray Train and torchrun end all with the first that is gone."""
    ranks = [
        subprocess.Popen([sys.executable, "-c", ENDING, str(rank), str(tmp_path / "store")])
        for rank in range(2)
    ]
    assert [rank.wait(60) for rank in ranks] == [0, 0]
