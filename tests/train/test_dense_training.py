"""Runs of dense tasks: they learn, resume to the bit, add up, and say what they cannot do."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from train_small import small_config, small_dense

from bench.dense_worlds import stage_rooms
from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.core.categories.class_sets import class_set
from panoforge.core.config.load import load_config
from panoforge.core.errors import ConfigError, UsageError
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.data.dense_source import PanoramaSource
from panoforge.train.log import read_metrics
from panoforge.train.model.mtpano.build import load_dense
from panoforge.train.model.mtpano.model import Mtpano
from panoforge.train.run import run_training
from panoforge.train.tasks.choose import open_task
from panoforge.train.tasks.mtpano import MtpanoTask, is_small
from panoforge.train.trainer import Trainer

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """As a kill would: nothing catches it."""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    stage_rooms(folder / "staged", 4, 0, width=64)
    pack(folder / "staged", folder / "dataset", PackOptions())
    return folder / "dataset"


def numbers(out: Path) -> list[dict]:
    """The log without what a clock or an allocator says."""
    unlike = ("seconds", "clips_per_s", "peak_memory_mb")
    rows = read_metrics(out / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in unlike} for row in rows]


def run_of(config: TrainConfig, rooms: Path, out: Path) -> list[dict]:
    run_training(config, rooms, out)
    return numbers(out)


@pytest.fixture(scope="module")
def straight(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run_training(small_dense({"ema_decay": 0.9}), rooms, out)
    return out


def test_a_run_is_logged_exported_and_rebuilt_from_its_file(straight: Path) -> None:
    rows = numbers(straight)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["panoramas"] == 2 and row["normal"] > 0 and row["auxiliary"] > 0 for row in rows)
    record = json.loads((straight / "train.json").read_text())
    assert record["statement"].startswith("MTPano at 64×32, tasks semantic, depth, normal, 4 steps")
    model = load_dense(straight / "checkpoints/model.pt")
    assert model.settings == small_dense().dense.model
    state = checkpoints.load_latest(straight / "checkpoints", print)
    exported = model.state_dict()
    assert all(torch.equal(exported[name], value) for name, value in state.ema.items())


@pytest.mark.parametrize("kill_at", [1, 3])
def test_a_resumed_run_is_bit_equal(
    rooms: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    config = small_dense({"ema_decay": 0.9})
    run_killed(config, rooms, tmp_path, monkeypatch, kill_at)
    assert_equal_runs(tmp_path, straight)


def test_a_resumed_mixture_is_bit_equal(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where the second source's depth is merged no longer: it goes on from there."""
    second = {"weight": 1, "dataset": str(rooms), "depth_supervision": "random_view"}
    mixture = {"truth": {"weight": 2}, "teachers": second}
    config = small_dense({"ema_decay": 0.9, "steps": 6}, mixture=mixture, merged_steps=2)
    run_training(config, rooms, tmp_path / "straight")
    run_killed(config, rooms, tmp_path / "killed", monkeypatch, kill_at=3)
    assert_equal_runs(tmp_path / "killed", tmp_path / "straight")


def run_killed(
    config: TrainConfig, rooms: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    """A run that ends without a word at the beginning of a step, and its second call."""
    step = Trainer.step

    def killed(self: Trainer, forwards: list) -> dict:
        if self.step_done == kill_at:
            raise Killed
        return step(self, forwards)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(Killed):
            run_training(config, rooms, out)
    run_training(config, rooms, out)


def assert_equal_runs(out: Path, other: Path) -> None:
    assert numbers(out) == numbers(other)
    ours, theirs = (checkpoints.load_latest(o / "checkpoints", print) for o in (out, other))
    for name in ("model", "ema"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_says_where(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run_of(small_dense({"steps": 40, "checkpoint_every": 40}), rooms, tmp_path)
    assert f"a line a step in {tmp_path / 'metrics.jsonl'}\n" in capsys.readouterr().err
    for name in ("semantic", "depth", "normal", "intermediate"):
        first, last = (sum(row[name] for row in part) for part in (rows[:5], rows[-5:]))
        assert last < 0.9 * first, name


def test_small_heads_are_trained_alone_at_first(rooms: Path, tmp_path: Path) -> None:
    dense = {"heads_first": {"steps": 2, "lr": 0.01}}
    config = small_dense({"steps": 3}, **dense)
    task, weights = open_task(config, Dataset.open(rooms, "train"), None)
    trainer = Trainer(config, task, weights, tmp_path, torch.device("cpu"))
    forwards = next(task.source.steps(0, 0, 1))

    def changed() -> tuple[set[str], float]:
        before = {n: p.detach().clone() for n, p in task.model.named_parameters()}
        rate = trainer.step(forwards)["lr"]
        now = dict(task.model.named_parameters())
        return {n for n, p in before.items() if not torch.equal(p, now[n])}, rate

    small = {n for n, _ in task.model.named_parameters() if is_small(n)}
    for _ in range(2):
        found, rate = changed()
        assert found == small and rate == 0.01
    found, rate = changed()
    assert "backbone.vit.patches.weight" in found and rate == pytest.approx(1e-3)


def test_a_step_does_not_depend_on_how_panoramas_are_dealt_out(rooms: Path, tmp_path: Path) -> None:
    def gradients(per_forward: int) -> dict[str, torch.Tensor]:
        config = small_dense({"clips_per_forward": per_forward, "steps": 1})
        task, weights = open_task(config, Dataset.open(rooms, "train"), None)
        trainer = Trainer(config, task, weights, tmp_path, torch.device("cpu"))
        trainer.optimizer.step = lambda: None
        trainer.step(next(task.source.steps(0, 0, 1)))
        return {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}

    one, both = gradients(1), gradients(2)
    assert one.keys() == both.keys()
    scale = max(float(g.abs().max()) for g in both.values())
    assert max(float((one[n] - both[n]).abs().max()) for n in one) < 1e-5 * scale


def test_scores_and_pictures_on_the_way_change_nothing(rooms: Path, tmp_path: Path) -> None:
    shown = {"validate_every": 1, "validate_clips": 2, "validate_split": "train"}
    options = {"with": {**shown, "picture_every": 1}, "without": {}}
    rows = {
        name: run_of(small_dense({"steps": 2, **extra}), rooms, tmp_path / name)
        for name, extra in options.items()
    }
    assert [r["loss"] for r in rows["with"]] == [r["loss"] for r in rows["without"]]
    last = rows["with"][-1]
    assert (
        0 <= last["val_miou"] <= 1 and last["val_abs_rel"] > 0 and 0 < last["val_normal_deg"] < 180
    )
    assert len(list((tmp_path / "with/pictures").glob("*.png"))) == 2


def test_true_predictions_score_full_marks(rooms: Path) -> None:
    from panoforge.train.data.dense_source import held_out_panoramas
    from panoforge.train.dense_validate import validate_dense
    from panoforge.train.distributed import World
    from panoforge.train.model.mtpano.model import DensePrediction

    source = held_out_panoramas(Dataset.open(rooms, "train"), small_dense())
    classes = 80

    class Oracle(torch.nn.Linear):
        """Says the truth of the batch that comes next, or depth half as far again."""

        def __init__(self, factor: float) -> None:
            super().__init__(1, 1)
            self.classes, self.factor, self.position = classes, factor, 0

        def forward(self, rgb: torch.Tensor) -> DensePrediction:
            batch = source.batch((self.position,))
            self.position += 1
            assert torch.equal(batch.rgb, rgb)
            known = batch.semantic.clamp(max=classes - 1)
            logits = torch.nn.functional.one_hot(known, classes).movedim(-1, 1).float()
            return DensePrediction(logits, batch.depth_m * self.factor, batch.normal, {})

    def score(factor: float) -> dict[str, float]:
        return validate_dense(Oracle(factor), source, 3, World(), torch.no_grad())

    assert score(1.0)["val_miou"] == 1 and score(1.0)["val_abs_rel"] < 1e-6
    assert score(1.0)["val_normal_deg"] < 0.1
    assert score(1.5)["val_abs_rel"] == pytest.approx(0.5, rel=1e-5)


def test_a_run_under_other_settings_is_another_run(rooms: Path, straight: Path) -> None:
    for dense in ({"depth_supervision": "merged"}, {"augment": {"tilt_deg": 1}}):
        with pytest.raises(ConfigError, match="another config"):
            run_training(small_dense({"ema_decay": 0.9}, **dense), rooms, straight)


@pytest.mark.parametrize(
    ("run", "dense", "message"),
    [
        ({"clip": {"frames": 2}}, {}, "clip is set, and a run with a dense section"),
        ({"mixture": "panoramas-only"}, {}, "mixture is set"),
        ({}, {"model": {"height_px": 40}}, "multiple of 16, two tokens"),
        ({}, {"model": {"streams": False, "bridge": False, "azimuth": "ray"}}, "without streams"),
        ({}, {"merged_steps": 3}, "depth_supervision solved does not read it"),
        ({}, {"model": {"classes": "cityscapes"}}, "ade20k"),
        ({}, {"mixture": {"a": {"weight": 1}, "b": {"weight": 1}}}, "would show every panorama 2"),
        ({}, {"model": {"backbone": {"width": 30}}}, "multiple of"),
        ({"optim": {"poly_power": 2}}, {}, "set schedule to poly"),
        (
            {"optim": {"layer_decay": 0.5}},
            {},
            "layer_decay is 0.5, and a run",
        ),
        ({"epoch_clips": 4}, {}, "nothing in this run counts in epochs"),
        ({}, {"heads_first": {"lr": 0.5}}, r"heads_first\.lr is 0\.5, and its steps are 0"),
        ({}, {"heads_first": {"steps": 2}, "model": {"streams": False}}, "would train nothing"),
        *(
            ({}, {"loss": {key: value}, "model": model}, rf"loss\.{key} is .* without {needs}")
            for key, value, model, needs in (
                ("semantic", 2, {"tasks": ["depth"]}, "semantic"),
                ("depth_limit_m", 5, {"tasks": ["normal"]}, "depth"),
                ("scale_shift", True, {"tasks": ["semantic"]}, "depth"),
                ("normal_edges", 0.5, {"tasks": ["depth"]}, "normal"),
                ("intermediate", 0.5, {"streams": False}, "streams"),
                ("auxiliary", 0.5, {"auxiliary": []}, "auxiliary"),
            )
        ),
    ],
)
def test_what_cannot_run_is_refused(run: dict, dense: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small_dense(run, **dense)


def test_adam_is_not_for_sam2() -> None:
    with pytest.raises(ValidationError, match=r"optim\.optimizer is adam"):
        small_config(optim={"optimizer": "adam"})


def test_runs_of_sam2_that_began_before_keep_their_digest() -> None:
    said = small_config().numbers()
    assert "dense" not in said and "optimizer" not in said["optim"]
    assert not set(small_dense().numbers()) & {"model", "clip", "prompt", "loss", "mixture"}


def test_poly_falls_to_nothing_after_its_warm_up(rooms: Path) -> None:
    optim = {"lr": 1e-3, "encoder_lr": 1e-4, "schedule": "poly", "optimizer": "adam"}
    config = small_dense({"optim": optim, "steps": 10}, heads_first={"steps": 2, "lr": 0.5})
    task, _ = open_task(config, Dataset.open(rooms, "train"), None)
    optimizer = task.optimizer()
    assert type(optimizer) is torch.optim.Adam
    rates = [task.set_rates(optimizer, step, 0) for step in range(10)]
    assert rates[:2] == [0.5, 0.5]
    assert rates[2:] == pytest.approx([1e-3 * (1 - i / 8) ** 0.9 for i in range(8)])
    assert min(g["lr"] for g in optimizer.param_groups) == pytest.approx(rates[-1] / 10)


def test_a_backbone_that_is_frozen_stays(rooms: Path) -> None:
    backbone = {"patch_px": 8, "width": 32, "depth": 4, "heads": 2, "frozen": True}
    config = small_dense(model={"backbone": backbone})
    task, _ = open_task(config, Dataset.open(rooms, "train"), None)
    assert isinstance(task, MtpanoTask)
    trained = {n for n, p in task.model.named_parameters() if p.requires_grad}
    assert trained and not any(n.startswith("backbone.") for n in trained)


def test_biases_and_norms_do_not_decay(rooms: Path) -> None:
    task, _ = open_task(small_dense(), Dataset.open(rooms, "train"), None)
    names = {id(p): name for name, p in task.model.named_parameters()}
    still = {
        names[id(p)]
        for group in task.optimizer().param_groups
        for p in group["params"]
        if group["weight_decay"] == 0
    }
    norms = [m for m in task.model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and {names[id(p)] for m in norms for p in m.parameters()} <= still
    # whatever is a matrix or a kernel decays
    assert all(p.ndim < 2 or "bias" in n for n, p in task.model.named_parameters() if n in still)
    assert len(still) < len(names)


def test_depth_of_unknown_scale_is_fitted_where_the_run_says_so(rooms: Path) -> None:
    data = Dataset.open(rooms, "train")
    for fitted in (False, True):
        task, _ = open_task(small_dense(loss={"scale_shift": fitted}), data, None)
        assert bool(task.source.batch((0,)).fit_depth[0]) is fitted


def test_a_dataset_without_panoramas_is_refused(rooms: Path) -> None:
    data = Dataset.open(rooms, "train")
    empty = Dataset(data.folder, data.manifest, data.samples.slice(0, 0))
    with pytest.raises(UsageError, match=r"dataset has no panorama in this split: name another"):
        open_task(small_dense(), empty, None)
    with pytest.raises(UsageError, match=r"has no split 'vall', only .*'train'.* mean 'val'"):
        run_training(small_dense({"split": "vall"}), rooms, rooms.parent / "none")


def test_the_papers_config_is_a_model_of_its_size_and_a_task(rooms: Path) -> None:
    """configs/train/mtpano.yaml without its weights' bytes: built, optimised and run on `meta`."""
    config = load_config(ROOT / "configs/train/mtpano.yaml", TrainJobConfig).train
    assert config.dense is not None
    with torch.device("meta"):
        model = Mtpano(config.dense.model, len(class_set(config.dense.model.classes)), None)
        rgb = torch.zeros((config.clips_per_forward, 3, 512, 1024))
    said = model(rgb)
    count = sum(p.numel() for n, p in model.named_parameters() if n.startswith("backbone."))
    assert 300e6 < count < 310e6  # ViT-L
    assert said.semantic.shape == (4, 150, 512, 1024) and said.normal.shape == (4, 3, 512, 1024)
    task = MtpanoTask(config, model, PanoramaSource(Dataset.open(rooms, "train"), config))
    optimizer = task.optimizer()
    assert {group["lr"] for group in optimizer.param_groups} == {2e-5}
    taken = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert taken == sum(p.numel() for p in model.parameters())
    assert task.heads_first.steps == 1000
