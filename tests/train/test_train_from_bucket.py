"""`pano train dataset=s3://…`: a real S3 server on loopback; the run is that of the same folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from buckets import bucket
from train_small import SMALL

from panoforge.cli import main
from panoforge.core.errors import ConfigError, StorageError
from panoforge.core.storage.store import Store
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

TIMING = ("seconds", "clips_per_s", "peak_memory_mb")


def pano(*words: str) -> int:
    """The exit code of the command, run in this process."""
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return int(stopped.value.code or 0)


def rows(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def test_a_dataset_in_a_bucket_is_trained_on(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {
        **SMALL,
        "model": {"size": "micro", "image_size": 128},
        "steps": 2,
        "optim": {"lr": 1e-4, "final_lr_ratio": 1.0},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content))
    local = tmp_path / "local"
    run_training(TrainConfig.model_validate(content), caps_dataset, local)
    with bucket(data=caps_dataset) as url:
        words = ("train", "train.yaml", f"dataset={url}/data")
        assert pano(*words, "run=remote", "steps=1") == 0
        assert pano(*words, "run=remote") == 0  # it goes on from the bucket, too
        assert rows(tmp_path / "remote") == rows(local)
        weights = [
            torch.load(run / "checkpoints/model.pt", weights_only=True)["model"]
            for run in (tmp_path / "remote", local)
        ]
        assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
        record = json.loads((tmp_path / "remote/train.json").read_text())
        assert record["dataset"]["panoramas"] == 8
        with pytest.raises(StorageError, match="nothing"):
            run_training(TrainConfig.model_validate(content), f"{url}/nothing", tmp_path / "none")
    assert not (tmp_path / "s3:").exists()


def test_checkpoints_in_a_bucket_outlive_their_folder(caps_dataset: Path, tmp_path: Path) -> None:
    """`checkpoints_to=s3://…`: the folder is lost after two steps; another one goes on from there,
    and ends with the bytes of an undisturbed run. A second run is kept out of the place.
    """
    fields = {**SMALL, "model": {"size": "micro", "image_size": 128}, "keep_last_k": 1}
    fields |= {"checkpoint_every": 1, "optim": {"lr": 1e-4, "final_lr_ratio": 1.0}}
    straight, first, second, other = (tmp_path / name for name in ("straight", "1", "2", "other"))
    run_training(TrainConfig.model_validate(fields), caps_dataset, straight)
    with bucket(data=caps_dataset) as url:
        fields["checkpoints_to"] = f"{url}/run/checkpoints"
        run_training(TrainConfig.model_validate({**fields, "steps": 2}), caps_dataset, first)
        shutil.rmtree(first)
        run_training(TrainConfig.model_validate(fields), caps_dataset, second)
        assert [row["step"] for row in rows(second)] == [3, 4]
        theirs = Store.at(fields["checkpoints_to"])
        assert theirs.read("model.pt") == (straight / "checkpoints/model.pt").read_bytes()
        names = ["latest", "model.pt", "model.pt.sha256", "run-id"]
        names += ["step-00000004.pt", "step-00000004.pt.sha256"]
        assert theirs.names("") == names
        run_training(
            TrainConfig.model_validate({**fields, "checkpoints_to": None}), caps_dataset, other
        )
        with pytest.raises(ConfigError, match="holds the checkpoints of another run"):
            run_training(TrainConfig.model_validate(fields), caps_dataset, other)
