"""SAM2's own modules, called for many objects at once.

Image encoder, prompt encoder and mask decoder, memory encoder. What they are given and give back
has names here; who calls them when says `panoforge.eval.predictors.batched_sam2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.sam2_video import model_input, model_points


@dataclass(frozen=True)
class EncodedFrame:
    """One encoded frame.

    `high_res`: 1×C×h×w maps for the mask decoder; `top` and `position`: HW×1×C of the coarsest
    level, whose height and width are `size`.
    """

    high_res: list[Tensor]
    top: Tensor
    position: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class MaskPrediction:
    """Outputs of the mask decoder for a batch of B objects.

    `masks` B×1×h×w logits; `high_res` B×1×S×S, the same at input size; `pointer` B×C; `score` B×1,
    above 0 where the object is there. `candidates` B×M×h×w and their predicted IoUs `quality` B×M,
    where there was more than one mask to choose from.
    """

    masks: Tensor
    high_res: Tensor
    pointer: Tensor
    score: Tensor
    candidates: Tensor | None = None
    quality: Tensor | None = None


class Sam2Modules:
    """The modules of `model`, a SAM2VideoPredictor (or any SAM2Base) in eval mode."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.mask_position: Tensor  # of a memory's tokens; known once something is remembered

    def encode(self, frames: Sequence[FrameInput]) -> list[EncodedFrame]:
        """Encode frames, as one batch."""
        images = [
            model_input(frame.image, self.model.image_size, self.model.device) for frame in frames
        ]
        out = self.model.forward_image(torch.cat(images))
        levels = out["backbone_fpn"][-self.model.num_feature_levels :]
        position = out["vision_pos_enc"][-1]
        return [
            EncodedFrame(
                [level[k : k + 1] for level in levels[:-1]],
                sequence_of(levels[-1][k : k + 1]),
                sequence_of(position[k : k + 1]),
                tuple(levels[-1].shape[-2:]),
            )
            for k in range(len(images))
        ]

    def points(self, clicked: Sequence[tuple[ObjectPrompt, int, FrameInput]]) -> dict[str, Tensor]:
        """SAM2's point inputs of (object, frame number, frame), all with equally many points."""
        points = [
            model_points(prompt.points[t][0], frame, self.model.image_size)
            for prompt, t, frame in clicked
        ]
        labels = [prompt.points[t][1] for prompt, t, _ in clicked]
        return {
            "point_coords": torch.from_numpy(np.stack(points)).to(self.model.device),
            "point_labels": torch.from_numpy(np.stack(labels)).to(self.model.device),
        }

    def masks(self, masks: Sequence[np.ndarray]) -> Tensor:
        """Mask logits of a frame → 0 or 1, B×1×S×S, as `add_new_mask` makes them."""
        above = torch.from_numpy(np.stack(masks) > 0)[:, None].float().to(self.model.device)
        size = (self.model.image_size,) * 2
        if above.shape[-2:] == size:
            return above
        return (
            torch.nn.functional.interpolate(above, size=size, mode="bilinear", antialias=True)
            >= 0.5
        ).float()

    def given(self, features: EncodedFrame, masks: Tensor) -> MaskPrediction:
        """Masks that were given, as predictions.

        SAM2 shows its decoder the frame without `no_mem_embed` here.
        """
        image = image_of(features.top.expand(-1, len(masks), -1), features.size)
        high_res = [level.expand(len(masks), -1, -1, -1) for level in features.high_res] or None
        _, _, _, low, high, pointer, score = self.model._use_mask_as_output(image, high_res, masks)
        return MaskPrediction(low, high, pointer, score)

    def decode(
        self,
        image: Tensor,
        features: EncodedFrame,
        points: dict[str, Tensor] | None,
        multimask: bool,
    ) -> MaskPrediction:
        """SAM's prompt encoder and mask decoder on B×C×H×W image features."""
        high_res = [level.expand(image.shape[0], -1, -1, -1) for level in features.high_res] or None
        candidates, _, quality, low, high, pointer, score = self.model._forward_sam_heads(
            backbone_features=image,
            point_inputs=points,
            high_res_features=high_res,
            multimask_output=multimask,
        )
        several = candidates is not None and candidates.shape[1] > 1
        return MaskPrediction(
            low,
            high,
            pointer,
            score,
            candidates if several else None,
            quality if several else None,
        )

    def remember(
        self, features: EncodedFrame, high_res: Tensor, score: Tensor, from_clicks: bool
    ) -> list[Tensor]:
        """Encode masks into spatial memories, HW×C' bfloat16 each."""
        spatial, position = self.model._encode_new_memory(
            current_vision_feats=[features.top.expand(-1, high_res.shape[0], -1)],
            feat_sizes=[features.size],
            pred_masks_high_res=high_res,
            object_score_logits=score,
            is_mask_from_pts=from_clicks,
        )
        # HW×C', the same for all frames and objects
        self.mask_position = position[-1][0].flatten(1).T
        return list(spatial.to(torch.bfloat16).flatten(2).permute(0, 2, 1))


def sequence_of(feature: Tensor) -> Tensor:
    """1×C×H×W → HW×1×C."""
    return feature.flatten(2).permute(2, 0, 1)


def image_of(sequence: Tensor, size: tuple[int, int]) -> Tensor:
    """HW×B×C → B×C×H×W."""
    return sequence.permute(1, 2, 0).reshape(sequence.shape[1], sequence.shape[2], *size)


def logits_of(batch: Sequence[int], out: MaskPrediction) -> dict[int, Tensor | None]:
    """Mask logits h×w by object; None where the model says that the object is not there."""
    there = (out.score > 0).flatten().tolist()
    return {
        k: mask[0] if present else None
        for k, mask, present in zip(batch, out.masks, there, strict=True)
    }
