"""`pano train` with a dense section, as a user meets it: one line for each mistake, and the codes.

2 where the words are wrong or ask sound data for what they lack, 1 where a file is not there or
is not what it is to be: weights, a backbone's folder. Each fault has one code in all verbs.
"""

import json
from pathlib import Path

import pytest
import yaml
from train_small import small_dense

SHARED = ("steps", "device", "clips_per_step", "torch_threads")


@pytest.fixture
def config(tmp_path: Path, caps_dataset: Path) -> Path:
    """A small run on caps, which have no normals."""
    section = {
        "tasks": ["semantic", "depth"],
        "height_px": 32,
        "channels": 32,
        "backbone": {"patch_px": 8, "width": 32, "depth": 4, "heads": 2},
    }
    run = {
        "run": str(tmp_path / "run"),
        "dataset": str(caps_dataset),
        "dense": {"model": section},
        **{key: getattr(small_dense(), key) for key in SHARED},
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({**run, "steps": 1}))
    return path


def folder_of(tmp_path: Path, **config: object) -> Path:
    folder = tmp_path / "backbone"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"none")
    return folder


def errors_of(stderr: str) -> list[str]:
    """Its lines, but for warnings and progress."""
    return [line for line in stderr.splitlines() if not line.startswith(("warning", "eval: "))]


CASES = {
    "another size": ("dense.model.height_px=40", "multiple of 16, two tokens", 2),
    "a class table that is none": ("dense.model.classes=coco", "classes", 2),
    "a task without its product": ("dense.model.tasks=[normal]", "has no normal", 2),
    "no such folder": ("dense.model.backbone={folder: nowhere, patch_px: 8}", "config.json", 1),
    "an empty split": ("split=val", "has no split 'val'", 2),
    "no such checkpoint": ("dense.checkpoint=nothing.pt", "nothing.pt", 1),
    "what dense does not read": ("clip.frames=3", "clip is set", 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line(pano, config: Path, case: str) -> None:
    override, message, expected = CASES[case]
    code, _, stderr = pano("train", config, override)
    assert code == expected and message in stderr, stderr
    assert len(errors_of(stderr)) == 1, stderr


def test_a_backbone_of_another_architecture_is_one_line(pano, config: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, model_type="swin", hidden_size=96)
    code, _, stderr = pano(
        "train", config, f"dense.model.backbone={{folder: {folder}, patch_px: 8}}"
    )
    assert code == 1 and "expected model_type dinov2" in stderr and "'swin'" in stderr
    assert len(errors_of(stderr)) == 1


def test_a_patch_size_that_is_not_the_backbones_is_the_configs_mistake(
    pano, config: Path, tmp_path: Path
) -> None:
    dino = {"model_type": "dinov2", "hidden_size": 96, "patch_size": 14}
    folder = folder_of(
        tmp_path, **dino, num_hidden_layers=12, num_attention_heads=6, image_size=518, mlp_ratio=4
    )
    code, _, stderr = pano(
        "train", config, f"dense.model.backbone={{folder: {folder}, patch_px: 8}}"
    )
    assert code == 2 and "set that to 14" in stderr and len(errors_of(stderr)) == 1


# The same faults in `pano eval`: words, what is said, code.
SCORED = {
    "a class table that is none": (["dense.classes=coco"], "classes", 2),
    "a task without its product": (["dense.tasks=[normal]"], "has no normal", 2),
    "an empty split": (["split=val"], "has no split 'val'", 2),
    "no such checkpoint": (
        ["dense.predictor=model", "dense.checkpoint=nothing.pt"],
        "nothing.pt",
        1,
    ),
}


@pytest.mark.parametrize("case", SCORED)
def test_a_mistake_has_the_same_code_where_it_is_scored(
    pano, tmp_path: Path, caps_dataset: Path, case: str
) -> None:
    words, message, expected = SCORED[case]
    asked = {
        **{"run": str(tmp_path / "run"), "dataset": str(caps_dataset), "task": "dense"},
        **{"split": "train", "dense": {"predictor": "truth", "tasks": ["semantic", "depth"]}},
    }
    path = tmp_path / "eval.yaml"
    path.write_text(yaml.safe_dump(asked))
    code, _, stderr = pano("eval", path, *words)
    assert code == expected and message in stderr, stderr
    assert case not in CASES or CASES[case][2] == code
    assert len(errors_of(stderr)) == 1


def test_an_mtpano_is_no_sam2_and_says_so(pano, config: Path, tmp_path: Path) -> None:
    code, stdout, _ = pano("train", config)
    assert code == 0
    code, _, stderr = pano(
        "train",
        config,
        "dense=null",
        f"model.checkpoint={stdout.strip()}",
        f"run={tmp_path}/other",
        "mixture=panoramas-only",
        "model.size=tiny",
    )
    assert code == 1 and "an MTPano (pano train with a dense section)" in stderr
