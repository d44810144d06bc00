"""SAM2's automatic mask generator as a teacher of entities.

The generator is SAM2's own class: a grid of clicks over the view, masks that are sure and stable,
duplicates removed. Its model is the image part of what `pano train` and `pano eval` load.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from panoforge.eval.config import ModelConfig
from panoforge.eval.predictors.load import LoadedModel, load_weights
from panoforge.label.teachers.base import Entities, ViewImage


@dataclass(frozen=True)
class Sam2Masks:
    """Entities by SAM2's own generator.

    Attributes:
        loaded: The model.
        name: What it is called.
        points_per_side: Clicks along each side of a view.
        least_iou: Least quality that SAM2 gives its own mask.
        least_stability: Least IoU of a mask with itself at a higher and a lower threshold.
    """

    loaded: LoadedModel
    name: str = "sam2"
    points_per_side: int = 32
    least_iou: float = 0.8
    least_stability: float = 0.95

    @staticmethod
    def load(
        settings: ModelConfig, device: str, *, seed: int = 0, points_per_side: int = 32,
        least_iou: float = 0.8, least_stability: float = 0.95, name: str = "sam2",
    ) -> "Sam2Masks":  # fmt: skip
        """Load weights. DataError for a checkpoint that is damaged or of another architecture."""
        loaded = load_weights(settings, seed, device)
        return Sam2Masks(loaded, name, points_per_side, least_iou, least_stability)

    @property
    def digest(self) -> str:
        """Of its weights and settings."""
        settings = (self.points_per_side, self.least_iou, self.least_stability)
        return hashlib.sha256(f"{self.loaded.weights.sha256} {settings}".encode()).hexdigest()

    @cached_property
    def _generator(self) -> Any:
        generator = SAM2AutomaticMaskGenerator(
            self.loaded.model,
            points_per_side=self.points_per_side,
            pred_iou_thresh=self.least_iou,
            stability_score_thresh=self.least_stability,
        )
        size = self.loaded.model.image_size  # SAM2's own list is of 1024 pixels
        generator.predictor._bb_feat_sizes = [(size // k, size // k) for k in (4, 8, 16)]
        return generator

    def entities(self, view: ViewImage) -> Entities:
        """The masks of one view; their confidence is SAM2's estimate of their IoU."""
        with torch.inference_mode():
            found = self._generator.generate(view.rgb)
        masks = np.zeros((len(found), view.height, view.width), bool)
        for mask, one in zip(masks, found, strict=True):
            mask[:] = one["segmentation"]
        confidence = np.array([one["predicted_iou"] for one in found], np.float32)
        return Entities(masks, np.clip(confidence, 0, 1))
