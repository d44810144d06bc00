"""SAM2Train with two defects boxed and the frozen encoder run as one.

`ScanSAM2` takes and gives what `training.model.sam2.SAM2Train` does, from the same parameters under the same names. It
differs in three places, each tested against upstream:

- An image encoder without trainable parameters runs without autograd and stays in eval mode. Upstream's
  `freeze_image_encoder` leaves it in train mode, so DropPath keeps dropping blocks of a network that cannot adapt.
- A box prompt on a conditioning frame where the object is absent becomes no prompt (two padding points). Upstream
  hands SAM the box [W, H, −1, −1] of an empty mask (facebookresearch/sam2#470), and objects do leave a scan.
- The draw of prompt kinds is seeded from outside (`rng`), step by step, so that a resumed run draws the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from training.model.sam2 import SAM2Train

BOX_TOP_LEFT_LABEL = 2  # sam2.modeling.sam2_utils.sample_box_points
PADDING_LABEL = -1  # sam2.modeling.sam.prompt_encoder: "not a point"


class ScanSAM2(SAM2Train):
    """SAM2Train for scan clips. `forward(batch)` gives one dict per frame, as the losses of `training` expect."""

    def train(self, mode: bool = True) -> "ScanSAM2":
        """As `nn.Module.train`, but children without a trainable parameter stay in eval mode."""
        super().train(mode)
        if mode:
            for module in frozen_modules(self):
                module.eval()
        return self

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Features of N×3×S×S images. The mask decoder's 1×1 convolutions on them (conv_s0, conv_s1) keep their gradient."""
        if not is_frozen(self.image_encoder):
            return super().forward_image(img_batch)
        with torch.no_grad():
            backbone_out = self.image_encoder(img_batch)
        features = backbone_out["backbone_fpn"]
        features[0] = self.sam_mask_decoder.conv_s0(features[0])
        features[1] = self.sam_mask_decoder.conv_s1(features[1])
        return backbone_out

    def prepare_prompt_inputs(self, backbone_out: dict[str, Any], input: Any, start_frame_idx: int = 0) -> dict[str, Any]:
        """As upstream, minus the boxes of empty masks."""
        backbone_out = super().prepare_prompt_inputs(backbone_out, input, start_frame_idx)
        for frame, points in backbone_out["point_inputs_per_frame"].items():
            blank_absent_boxes(points, backbone_out["gt_masks_per_frame"][frame])
        return backbone_out


def blank_absent_boxes(points: Mapping[str, Tensor], masks: Tensor) -> None:
    """Turn the boxes (O×2×2 corners with labels 2 and 3) of empty masks (O×1×S×S) into padding points, in place."""
    labels, coords = points["point_labels"], points["point_coords"]
    absent = (labels[:, 0] == BOX_TOP_LEFT_LABEL) & ~masks.flatten(1).any(dim=1)
    labels[absent] = PADDING_LABEL
    coords[absent] = 0.0


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of `module` is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The topmost modules that own parameters, none of which is trained."""
    found = []
    for child in model.children():
        if next(child.parameters(), None) is None:
            continue
        found += [child] if is_frozen(child) else frozen_modules(child)
    return found
