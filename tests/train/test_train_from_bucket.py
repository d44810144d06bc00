"""`pano train dataset=s3://…`: a real S3 server on loopback; the run is that of the same folder."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from buckets import bucket
from train_small import SMALL

from panoforge.cli import main
from panoforge.core.errors import StorageError
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
