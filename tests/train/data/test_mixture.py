"""Mixtures: exact shares by enumeration, the shards alone as ever, bad samples counted, named and
never replaced.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import source_trees as trees
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from train_small import SMALL, small_config

from panoforge.core.errors import ConfigError, DataError
from panoforge.core.shards.read import Dataset
from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import build_clip
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.mixture import MAX_PERIOD, Mixture, Schedule, whole_weights
from panoforge.train.data.plan import clip_plan, positions_of_rank
from panoforge.train.distributed import World
from panoforge.train.log import read_metrics
from panoforge.train.rank import statement
from panoforge.train.run import run_training
from panoforge.train.stops import TrainingError
from panoforge.train.tasks.base import trained_parameters
from panoforge.train.tasks.sam2 import Sam2Task


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_prefix_has_its_shares_to_within_one(weights: list[int]):
    schedule = Schedule(tuple(weights))
    order = schedule.order
    given_ = np.cumsum(order[:, None] == np.arange(len(weights)), axis=0)
    wanted = np.arange(1, order.size + 1)[:, None] * np.array(weights) / sum(weights)
    assert np.abs(given_ - wanted).max() < 1
    assert given_[-1].tolist() == weights  # a period is exact, so periods can be laid end to end


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10**12))
@settings(max_examples=60, deadline=None)
def test_places_far_out_are_looked_up(weights: list[int], far: int):
    """Each source's own line has no gap and no repeat, here and a million million passes later."""
    schedule = Schedule(tuple(weights))
    first = far - far % schedule.period
    lines: dict[int, list[int]] = {}
    for forward in range(first, first + 3 * schedule.period):
        source, before = schedule.at(forward)
        lines.setdefault(source, []).append(before)
    for source, line in lines.items():
        begin = first // schedule.period * weights[source]
        assert line == list(range(begin, begin + 3 * weights[source]))


def test_weights_are_proportions():
    assert (
        whole_weights({"a": 0.7, "b": 0.2, "c": 0.1})
        == {"a": 7, "b": 2, "c": 1}
        == whole_weights({"a": 70, "b": 20, "c": 10})
    )
    assert whole_weights({"a": 1.5, "b": 1}) == {"a": 3, "b": 2}
    with pytest.raises(
        ConfigError, match=f"in no small proportion .* the limit is {MAX_PERIOD}.*round them"
    ):
        whole_weights({"a": 0.70001, "b": 0.2})


@pytest.fixture
def mixed(tmp_path: Path) -> dict:
    """Config changes: half panoramas, the rest SA-1B images and SA-V videos."""
    trees.sa1b(tmp_path / "sa1b")
    trees.sav(tmp_path / "sav", mp4=False)
    return {
        "mixture": {
            "panoramas": {"kind": "shards", "weight": 0.5},
            "sa1b": {"kind": "sa1b", "weight": 0.25, "folder": tmp_path / "sa1b"},
            "sav": {"kind": "sav", "weight": 0.25, "folder": tmp_path / "sav"},
        }
    }


def test_shards_alone_are_todays_clips(caps: Dataset):
    config = small_config()
    alone = small_config(mixture={"only": {"kind": "shards", "weight": 3}})
    source, mixture = ClipSource(caps, config), Mixture.open(alone, caps)
    for position in (0, 5, 19):
        plan = clip_plan(config.clip, config.seed, position, caps.samples["width"].to_pylist())
        direct = build_clip(caps[plan.sample], plan, config.clip, 128)
        for clip in (source.mixture.clip(position), mixture.clip(position)):
            assert all(
                a.data.equal(b.data) for a, b in zip(clip.frames, direct.frames, strict=True)
            )
        assert (
            source.keys([position])
            == [caps.samples["key"][plan.sample].as_py()]
            == [mixture.key(position)]
        )
        assert source.mixture.epoch(position) == plan.epoch
    assert source.mixture.sha256() == mixture.sha256() and source.mixture.record() == []
    assert "mixture" not in config.numbers()


def test_ranks_share_out_one_mixture(caps: Dataset, mixed: dict):
    config = small_config(**mixed, clips_per_step=8, clips_per_forward=2)
    mixture = Mixture.open(config, caps)
    for step in range(3):
        alone = [p for forward in positions_of_rank(step, 8, 2, 0, 1) for p in forward]
        for ranks in (2, 4):
            dealt = [
                p
                for rank in range(ranks)
                for forward in positions_of_rank(step, 8, 2, rank, ranks)
                for p in forward
            ]
            assert sorted(dealt) == alone
    names = [mixture.at(p)[0].name for p in range(80)]
    assert all(names[p] == names[p + 1] for p in range(0, 80, 2))  # a batch comes from one source
    assert {name: names.count(name) for name in set(names)} == {
        "panoramas": 40,
        "sa1b": 20,
        "sav": 20,
    }
    own = [mixture.at(p)[1] for p in range(80) if names[p] == "sav"]
    assert own == list(range(20))
    source = ClipSource(caps, config)
    frames = {mixture.at(p)[0].name: source.batch((p, p + 1)).num_frames for p in range(0, 8, 2)}
    assert frames == {"panoramas": 3, "sa1b": 1, "sav": 3}
    assert any(key.startswith("sa1b: sa_00000") for key in source.keys(range(8)))
    share = {entry["name"]: entry["share"] for entry in mixture.record()}
    assert share == {"panoramas": 0.5, "sa1b": 0.25, "sav": 0.25}


def test_where_a_dataset_lies_is_not_what_it_is(caps: Dataset, mixed: dict, tmp_path: Path):
    here = small_config(**mixed)
    shutil.copytree(tmp_path / "sa1b", tmp_path / "moved")
    entries = {
        **mixed["mixture"],
        "sa1b": {**mixed["mixture"]["sa1b"], "folder": tmp_path / "moved"},
    }
    moved = small_config(mixture=entries)
    assert here.sha256() == moved.sha256() != small_config().sha256()
    assert Mixture.open(here, caps).sha256() == Mixture.open(moved, caps).sha256()
    (tmp_path / "moved/sa_000000/sa_100.jpg").unlink()
    assert Mixture.open(here, caps).sha256() != Mixture.open(moved, caps).sha256()
    text = statement(here, "x", False, 8)
    assert "mixed 50% panoramas + 25% sa1b + 25% sav" in text


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": {"kind": "sa1b", "weight": 1}}, "kind sa1b needs folder"),
        ({"a": {"kind": "shards", "weight": 1, "folder": "x"}}, "takes no folder"),
        (
            {"a": {"kind": "shards", "weight": 1}, "b": {"kind": "shards", "weight": 2}},
            "would show every clip 2 times",
        ),
        ({"a": {"kind": "shards", "weight": 0}}, "greater than 0"),
        (
            {"a": {"kind": "pickle", "weight": 1}},
            "'shards', 'looks', 'video', 'scan_of_video', 'sa1b', 'sav', 'vos' or 'coco'",
        ),
    ],
)
def test_mixtures_that_cannot_run_are_refused(entries: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        small_config(mixture=entries)


def damaged(caps_dataset: Path, copy: Path, samples: int) -> tuple[Path, list[str]]:
    """A copy of the dataset with the first samples' bytes flipped, and their keys."""
    shutil.copytree(caps_dataset, copy)
    rows = Dataset.open(copy, "train").samples.slice(0, samples).to_pylist()
    for row in rows:
        with open(copy / row["shard"], "r+b") as file:
            file.seek(row["offset"] + row["length"] // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    return copy, [row["key"] for row in rows]


def without_a_model(monkeypatch) -> None:
    """Steps that count objects and bad samples, and compute nothing."""
    monkeypatch.setattr(
        Sam2Task,
        "forward",
        lambda self, batch, encoded, objects: {
            name: sum(p.sum() for p in trained_parameters(self.model)) * 0
            + batch.masks.shape[1] / objects
            for name in ("loss", "loss_mask", "loss_dice", "loss_iou", "loss_objectness")
        },
    )
    monkeypatch.setattr("panoforge.train.model.scan_sam2.ScanSAM2.encode", lambda self, images: {})


def test_bad_samples_are_left_out_counted_named_and_resumed(
    caps_dataset: Path, tmp_path: Path, monkeypatch
):
    """All 8 panoramas in 4 steps of 2 clips, two of them damaged: the limit of one stops at the
    second, two go through.
    """
    without_a_model(monkeypatch)
    data, keys = damaged(caps_dataset, tmp_path / "data", 2)
    one, two = (small_config(max_bad_samples=n, checkpoint_every=9) for n in (1, 2))
    out = tmp_path / "out"
    with pytest.raises(
        TrainingError,
        match=r"2 bad samples so far, max_bad_samples is 1\..*position \d: .*raise the limit",
    ):
        run_training(one, data, out)
    state = checkpoints.load_latest(out / "checkpoints", print)
    run_training(two, data, out)  # the limit is no part of a run's identity
    rows = read_metrics(out / "metrics.jsonl")
    named = [line for row in rows for line in row.get("bad", [])]
    assert len(named) == 2 and all(sum(key in line for line in named) == 1 for key in keys)
    bad = [int(line.split()[1].rstrip(":")) for line in named]
    assert (
        bad == sorted(bad)
        and state.step == bad[1] // 2
        and state.bad_samples == (bad[0] // 2 < state.step)
    )
    clean = ClipSource(Dataset.open(caps_dataset, "train"), two)
    for row in rows:  # what is left is what would have been there without the bad clip
        positions = [p for p in range(2 * row["step"] - 2, 2 * row["step"]) if p not in bad]
        assert row["objects"] == sum(clean.batch((p,)).masks.shape[1] for p in positions)
        assert np.isfinite(row["loss"])
    assert checkpoints.load_latest(out / "checkpoints", print).bad_samples == 2
    assert json.loads((out / "train.json").read_text())["bad_samples"] == 2


def test_a_step_of_bad_samples_alone_changes_nothing(
    caps_dataset: Path, tmp_path: Path, monkeypatch
):
    without_a_model(monkeypatch)
    data, _ = damaged(caps_dataset, tmp_path / "data", 8)
    run_training(small_config(max_bad_samples=99, steps=1), data, tmp_path / "out")
    row = read_metrics(tmp_path / "out/metrics.jsonl")[0]
    assert (row["objects"], row["loss"], len(row["bad"])) == (0, 0.0, 2)


def test_by_default_the_first_bad_sample_stops_the_run(
    caps_dataset: Path, tmp_path: Path, monkeypatch
):
    without_a_model(monkeypatch)
    data, keys = damaged(caps_dataset, tmp_path / "data", 8)
    with pytest.raises(DataError, match="|".join(keys)):
        run_training(small_config(), data, tmp_path / "out")


GATHER = """
import sys, torch
from panoforge.train.distributed import World
rank, cpu = int(sys.argv[1]), torch.device("cpu")
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
)
texts = World(rank, 2).gather_texts(["position 3: ü\\nposition 5: x", ""][rank], cpu)
assert texts == ["position 3: ü\\nposition 5: x", ""], texts
torch.distributed.destroy_process_group()  # gloo's threads abort a process that just ends
"""


@pytest.mark.slow
def test_every_rank_learns_the_names_of_all(tmp_path: Path):
    assert World().gather_texts("position 3: ü", torch.device("cpu")) == ["position 3: ü"]
    ranks = [
        subprocess.Popen([sys.executable, "-c", GATHER, str(rank), str(tmp_path / "store")])
        for rank in range(2)
    ]
    assert [rank.wait(60) for rank in ranks] == [0, 0]


def test_the_model_learns_from_a_still_image(
    caps: Dataset, mixed: dict, tiny_model, tmp_path: Path
):
    """A one-frame batch, which has no memory to attend to, through the real model."""
    config = small_config(**mixed, clips_per_step=4)
    source = ClipSource(caps, config)
    task = Sam2Task(config, tiny_model, source)
    image = source.batch((next(p for p in range(4) if source.mixture.at(p)[0].name == "sa1b"),))
    tiny_model.rng = np.random.default_rng(0)
    loss = task.forward(image, tiny_model.encode(image.flat_img_batch), image.masks.shape[1])[
        "loss"
    ]
    loss.backward()
    gradients = {
        name: p.grad.abs().sum() for name, p in tiny_model.named_parameters() if p.grad is not None
    }
    assert image.num_frames == 1 and torch.isfinite(torch.stack([loss, *gradients.values()])).all()
    assert gradients["sam_mask_decoder.iou_token.weight"] > 0
    tiny_model.zero_grad(set_to_none=True)


def test_pictures_of_strangers_that_are_damaged_or_gone_are_counted_too(
    caps: Dataset, tmp_path: Path
):
    """Of COCO's two images one is cut, then gone: left out by name, or the first stops the run."""
    folder = trees.coco(tmp_path)
    entry = {"kind": "coco", "weight": 1, "folder": folder}
    one = folder / "train2017/000000000001.jpg"
    whole = one.read_bytes()
    clip = {"max_objects": SMALL["clip"]["max_objects"]}  # pictures read no other key of clips
    alone = {**SMALL, "clip": clip, "mixture": {"coco": entry}}
    for damage in (lambda: one.write_bytes(whole[: len(whole) // 2]), one.unlink):
        damage()
        tolerant = ClipSource(caps, TrainConfig.model_validate({**alone, "max_bad_samples": 9}))
        batches = [tolerant.batch((position,)) for position in range(2)]
        assert len(tolerant.bad) == 1 and one.name in "".join(tolerant.bad.values())
        assert [batch is None for batch in batches] == [p in tolerant.bad for p in range(2)]
        strict = ClipSource(caps, TrainConfig.model_validate(alone))
        with pytest.raises(DataError, match=one.name):
            strict.batch((0, 1))
