"""Shared by the training tests: one small dataset, one small config, one model built from the
official tiny YAML.
"""

from pathlib import Path

import pytest
import torch
from train_small import small_config

from panoforge.core.shards.read import Dataset
from panoforge.train.data.loader import ClipSource
from panoforge.train.model.build import build_model


@pytest.fixture(autouse=True)
def one_thread():
    """One torch thread: the same bits on every machine's core count, and no fight with other
    tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def caps(caps_dataset: Path) -> Dataset:
    return Dataset.open(caps_dataset, "train")


@pytest.fixture(scope="session")
def source(caps: Dataset) -> ClipSource:
    return ClipSource(caps, small_config())


@pytest.fixture(scope="session")
def tiny_model():
    """SAM2.1 tiny at 128 px, random weights of seed 0, encoder frozen. Do not train it."""
    config = small_config(model={"size": "tiny"})
    return build_model(config.model, config.prompt, seed=0)[0]
