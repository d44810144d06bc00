"""configs/train/sap.yaml: what it trains, what it refuses, and a run of it that is killed and goes
on.
"""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from repository import ROOT
from same_runs import assert_same_run
from source_trees import sa1b, sav

from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.cluster.config.sections import load_section
from panoforge.core.errors import ConfigError, UsageError
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import clip_views
from panoforge.train.data.plan import clip_plan
from panoforge.train.model.build import build_model
from panoforge.train.run import run_training
from panoforge.train.settings.clips import ClipSettings

RECIPE = ROOT / "configs/train/sap.yaml"
FOUR = ("memory_attention.", "memory_encoder.", "sam_mask_decoder.", "sam_prompt_encoder.")


def recipe(*overrides: str) -> TrainConfig:
    return load_section(RECIPE, TrainJobConfig, overrides).train


def test_model_size_picks_weights_and_four_modules_are_trained() -> None:
    tiny = recipe("model.size=tiny", "model.image_size=128")
    assert tiny.model.checkpoint is not None
    assert tiny.model.checkpoint.name == "sam2.1_hiera_tiny.pt"
    settings = tiny.model.model_copy(update={"checkpoint": None})
    model, _ = build_model(settings, tiny.prompt)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    others = {name for name, _ in model.named_parameters()} - trained
    assert trained and all(name.startswith(FOUR) for name in trained)
    assert not [name for name in others if name.startswith(FOUR)]
    assert (tiny.clips_per_step, tiny.optim.lr, tiny.optim.grad_clip) == (128, 2e-4, 0.1)
    assert (tiny.optim.weight_decay, tiny.optim.final_lr_ratio) == (0.1, 0.0)


def test_a_window_goes_on_from_the_end_of_the_scan_to_its_beginning() -> None:
    settings = ClipSettings(frames=24)
    cycle = scan_views(ScanSpec(90.0, 0.5, 64))
    for position in range(20):
        plan = clip_plan(settings, 0, position, [512])
        shifted = scan_views(ScanSpec(90.0, 0.5, 64), plan.yaw0_deg)
        twice = shifted + shifted
        assert clip_views(settings, plan, 64) == twice[plan.start : plan.start + len(cycle)]
        assert 0 <= plan.start < len(cycle)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("clip.frames=49", "more than the 48 frames of a scan twice over"),
        ("mixture={panoramas: {kind: shards, weight: 1}}", r"SAP scored 54\.0 mIoU so, less than"),
        ("mixture=everything", "expected a mapping"),
    ],
)
def test_what_sap_found_to_fail_is_refused_in_one_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        recipe(word)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_panoramas_alone_must_be_asked_for_and_are_a_run_without_a_mixture() -> None:
    asked = recipe("mixture=panoramas-only")
    assert asked.mixed == {} and "mixture" not in asked.numbers()
    again = TrainConfig.model_validate(asked.model_dump(mode="json"))
    assert again == asked
    videos = {"panoramas-only": {"kind": "scan_of_video", "weight": 1}}  # the word, of videos
    of_videos = recipe("prompt.sphere_click=0").model_dump(mode="json") | {"mixture": videos}
    assert TrainConfig.model_validate(of_videos).mixed["panoramas-only"].kind == "scan_of_video"
    from_nothing = {"mixture": {}, "model": {"checkpoint": None}}
    assert TrainConfig.model_validate(from_nothing).mixed == {}  # nothing to forget


def small_words(folder: Path, dataset: Path, run: Path) -> list[str]:
    """The recipe on a small picture size, from random weights, with a mixture made here."""
    for make, name in ((sa1b, "sa1b"), (partial(sav, mp4=False), "sav")):
        if not (folder / name).exists():
            make(folder / name)
    return [
        f"run={run}",
        f"dataset={dataset}",
        "model.size=tiny",
        "model.image_size=128",
        "model.checkpoint=null",
        "clip.min_area_sr=0.01",
        "clip.max_objects=1",
        "prompt.corrections=1",
        f"mixture.sa1b.folder={folder / 'sa1b'}",
        f"mixture.sav.folder={folder / 'sav'}",
        "steps=3",
        "clips_per_step=4",
        "checkpoint_every=1",
        "precision=float32",
        "device=cpu",
        "loader_threads=1",
        "torch_threads=1",
        "tensorboard=false",
    ]


def test_a_source_that_is_missing_is_named(caps_dataset: Path, tmp_path: Path) -> None:
    words = small_words(tmp_path, caps_dataset, tmp_path / "run")
    config = recipe(*words, f"mixture.sav.folder={tmp_path / 'no'}")
    with pytest.raises(UsageError, match=r"mixture\.sav: .*no is no folder") as caught:
        run_training(config, caps_dataset, tmp_path / "run")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_resumed_it_ends_bit_equal(caps_dataset: Path, tmp_path: Path) -> None:
    """`pano train configs/train/sap.yaml model.size=tiny`, killed after its first step."""
    for name in ("straight", "killed"):
        run = tmp_path / name
        words = small_words(tmp_path, caps_dataset, run)
        command = [sys.executable, "-m", "panoforge", "train", str(RECIPE), *words]
        if name == "killed":
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                while not list(run.glob("checkpoints/step-*.pt.sha256")):  # the commit point
                    assert process.poll() is None
                    time.sleep(0.05)
                process.kill()
            assert not (run / "checkpoints/model.pt").exists()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert ("going on from step" in done.stderr) == (name == "killed"), done.stderr
        record = json.loads((run / "train.json").read_text())
        assert [entry["share"] for entry in record["dataset"]["mixture"]] == [0.5, 0.25, 0.25]
    assert_same_run(tmp_path / "killed", tmp_path / "straight")
