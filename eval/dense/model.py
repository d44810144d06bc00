"""A trained model of dense tasks as a predictor of maps: whatever the size of the picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoforge.core.categories.class_sets import ClassSet, class_set
from panoforge.core.errors import UsageError
from panoforge.core.types import Rgb
from panoforge.eval.maps import (
    DenseMaps,
    DenseSample,
    nearest_pixels,
    resized_rgb,
    smooth_pixels,
)
from panoforge.eval.predictors.load import pick_device
from panoforge.eval.predictors.roles import WeightsRecord
from panoforge.train.model.checkpoint_io import open_checkpoint
from panoforge.train.model.mtpano.build import load_dense
from panoforge.train.settings.mtpano import DenseTask


class DenseModel:
    """A model in eval mode on its device, shown every panorama at its own size, `height_px` rows.

    Classes come back by nearest pixel, depth and normals bilinear across the seam.
    """

    def __init__(self, model: Any, record: WeightsRecord, device: torch.device) -> None:
        self.model, self.record, self._device = model.to(device), record, device
        self.tasks: tuple[DenseTask, ...] = tuple(model.settings.tasks)
        self.classes = class_set(model.settings.classes)
        self.height_px: int = model.settings.height_px
        self.name = record.source

    @classmethod
    def load(cls, checkpoint: Path, device: str = "auto") -> "DenseModel":
        """The model of a checkpoint that pano train wrote. DataError where it is none."""
        read = open_checkpoint(checkpoint)
        record = WeightsRecord("checkpoint", checkpoint.name, read.sha256, read.step)
        return cls(load_dense(checkpoint), record, pick_device(device))

    def check_fits(self, tasks: Sequence[DenseTask], classes: ClassSet) -> None:
        """UsageError unless the model has these tasks, and its classes are of this label set."""
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            raise UsageError(
                f"{self.name} was trained on {', '.join(self.tasks)}, and dense.tasks asks for"
                f" {missing[0]}: leave it out"
            )
        same = (self.classes.column, len(self.classes)) == (classes.column, len(classes))
        if "semantic" in tasks and not same:
            raise UsageError(
                f"{self.name} was trained on {self.classes.title} ({len(self.classes)}), and"
                f" dense.classes is {classes.name} ({len(classes)}): set it to {self.classes.name}"
            )

    def predict(self, sample: DenseSample) -> DenseMaps:
        """The maps of a panorama at its size."""
        return self.maps(sample.rgb)

    def maps(self, rgb: Rgb) -> DenseMaps:
        """The maps of a panorama uint8 H×W×3, at its size."""
        height = rgb.shape[0]
        shown = np.ascontiguousarray(resized_rgb(rgb, self.height_px))
        picture = torch.from_numpy(shown).to(self._device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            found = self.model(picture)
        semantic = depth_m = normal = None
        if found.semantic is not None:
            classes = found.semantic[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
            semantic = nearest_pixels(classes, height)
        if found.depth_m is not None:
            depth_m = smooth_pixels(found.depth_m[0].float().cpu().numpy(), height)
        if found.normal is not None:
            vectors = found.normal[0].permute(1, 2, 0).float().cpu().contiguous().numpy()
            vectors = smooth_pixels(vectors, height)
            length = np.linalg.norm(vectors, axis=-1, keepdims=True)
            normal = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
        return DenseMaps(semantic, depth_m, normal)
