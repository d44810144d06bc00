"""Samples of a dataset of ours as the frames of a video."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from panoforge.core.shards.read import Dataset
from panoforge.core.types import Labels, Rgb


@dataclass
class DatasetFrames:
    """Samples of a dataset of ours: the frames of a video, or one panorama. They have labels."""

    dataset: Dataset
    keys: Sequence[str]
    fps: float = 0.0

    def __post_init__(self) -> None:
        meta = self.dataset.by_key(self.keys[0], ()).meta
        self.size = meta.width, meta.height

    @property
    def names(self) -> Sequence[str]:
        """The keys of the samples."""
        return self.keys

    @property
    def sha256(self) -> str:
        """Of the digests that the index has of the samples."""
        wanted, digest = set(self.keys), hashlib.sha256()
        table = self.dataset.samples
        for key, sha in zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True):
            if key in wanted:
                digest.update(f"{key} {sha}\n".encode())
        return digest.hexdigest()

    def rgb(self, number: int) -> Rgb:
        """A frame, uint8 H×W×3."""
        return np.asarray(self.dataset.by_key(self.keys[number], ("rgb",)).read("rgb"))

    def labels(self, number: int) -> Labels:
        """Its true ids, uint16 H×W."""
        return np.asarray(self.dataset.by_key(self.keys[number], ("instance",)).read("instance"))

    def again(self) -> "DatasetFrames":
        """Reading keeps nothing: it is its own."""
        return self

    def close(self) -> None:
        """Nothing is open."""
