# %% [markdown]
# # Stream shards into your own loop
#
# Two ways: panoforge's map-style dataset, which any torch `DataLoader` takes, and plain webdataset.

# %%
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import panoforge

FOLDER = Path("runs/demo/dataset")


class Panoramas(Dataset):
    """Colours and ids as tensors; a member is read by its byte range and checked."""

    def __init__(self) -> None:
        self.data = panoforge.open_dataset(FOLDER)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        sample = self.data.read(index, ("rgb", "instance"))
        rgb = torch.from_numpy(sample.read("rgb").copy()).permute(2, 0, 1)
        return rgb, torch.from_numpy(sample.read("instance").astype("int32"))


order = torch.Generator().manual_seed(0)
for rgb, ids in DataLoader(Panoramas(), batch_size=2, shuffle=True, generator=order):
    print(tuple(rgb.shape), tuple(ids.shape), "ids up to", int(ids.max()))

# %% [markdown]
# Or without panoforge: the shards are tars that webdataset reads. docs/reference/format.md has a
# reader of `.zst` members in a dozen lines of numpy.

# %%
import json

import webdataset

shards = [str(path) for path in sorted((FOLDER / "shards").glob("train-*.tar"))]
for sample in webdataset.WebDataset(shards, shardshuffle=False):
    meta = json.loads(sample["meta.json"])
    print(sample["__key__"], meta["source"], len(meta["instances"]), "instances")
