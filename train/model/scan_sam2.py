"""SAM2Train with two defects boxed, the frozen encoder run once, and less kept in memory.

`ScanSAM2` takes and gives what `training.model.sam2.SAM2Train` does, from the same parameters under
the same names. It differs in six places, each tested against upstream:

- An image encoder without trainable parameters runs without autograd and stays in eval mode.
  Upstream's `freeze_image_encoder` leaves it in train mode, so DropPath keeps dropping blocks of a
  network that cannot adapt.
- A box prompt on a conditioning frame where the object is absent becomes no prompt (two padding
  points). Upstream hands SAM the box [W, H, −1, −1] of an empty mask (facebookresearch/sam2#470),
  and objects do leave a scan.
- A batch of panoramas with clicks (panoforge.train.data.clicks) is prompted by them, with
  probability `sphere_click`; never when it is 0. A batch of looks (`kind: looks`) always is, and
  its second frame by what the model said of the first.
- With `truth_every`, memories of every so many-th frame are made of the true masks (PanoSAM2 §4).
- Masks are handed to the loss at the decoder's quarter resolution and enlarged there
  (panoforge.train.losses.mask_loss). The last frame is not encoded into a memory that nobody will
  read. The memory attention's dropout keeps less (panoforge.train.model.efficient_dropout). All
  three change what is kept and computed, not what is learnt.

The memory encoder keeps only its inputs and is run again in the backward pass: a fifth of the
memory for little time. With `recompute` so do the mask decoder (for each click on each frame) and
the layers of the memory attention: much less memory, a quarter more time. The gradients are the
same to the bit.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample
from torch.utils.checkpoint import checkpoint
from training.model.sam2 import SAM2Train

from panoforge.train.data.clicks import click_prompt, clicks_of, places_of, prompted_frames
from panoforge.train.model.efficient_dropout import keep_less
from panoforge.train.model.panosam2.parts import PanoParts

# What ImageEncoder gives: vision_features, vision_pos_enc, backbone_fpn (three levels, fine first).
Encoded = dict[str, Any]

BOX_TOP_LEFT_LABEL = 2  # sam2.modeling.sam2_utils.sample_box_points
CLAMP = 10.0  # of logits: that of the evaluation's merge
PADDING_LABEL = -1  # sam2.modeling.sam.prompt_encoder: "not a point"


class ScanSAM2(SAM2Train):
    """SAM2Train for scan clips.

    `forward(batch)` gives one dict per frame, as the losses of `training` expect.
    """

    sphere_click = 0.0  # probability of prompting with sphere clicks
    truth_every = 0  # memories of every so many-th frame are made of true masks, in training
    recompute = False  # activation checkpointing; `recompute_activations` switches it on
    _places: Tensor | None = None  # of the batch, where it is one of looks
    _looks = False  # at this step
    _truth: Tensor | None = None  # O×1×S×S, at this step, where its memory is made of it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_less(self.memory_attention)

    def train(self, mode: bool = True) -> "ScanSAM2":
        """As `nn.Module.train`, but children without a trainable parameter stay in eval mode."""
        super().train(mode)
        if mode:
            for module in frozen_modules(self):
                module.eval()
        return self

    def forward(self, input: Any, encoded: Encoded | None = None) -> list[dict[str, Any]]:
        """As upstream.

        `encoded` (from `encode`) saves running the encoder again for other objects of the same
        frames.
        """
        if encoded is None:
            return super().forward(input)
        backbone_out = self.prepare_prompt_inputs(self.project(encoded), input)
        return self.forward_tracking(backbone_out, input)

    def encode(self, images: Tensor) -> Encoded:
        """The image encoder on N×3×S×S images; without a graph where it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen(self.image_encoder)):
            return self.image_encoder(images)

    def project(self, encoded: Encoded) -> Encoded:
        """The mask decoder's 1×1 convolutions on the two fine levels.

        They belong to the decoder and keep their gradient.
        """
        fine, middle, *coarse = encoded["backbone_fpn"]
        decoder = self.sam_mask_decoder
        return {
            **encoded,
            "backbone_fpn": [decoder.conv_s0(fine), decoder.conv_s1(middle), *coarse],
        }

    def forward_image(self, img_batch: Tensor) -> Encoded:
        """Features of N×3×S×S images, ready for tracking."""
        return self.project(self.encode(img_batch))

    def prepare_prompt_inputs(
        self, backbone_out: dict[str, Any], input: Any, start_frame_idx: int = 0
    ) -> dict[str, Any]:
        """As upstream, minus the boxes of empty masks.

        Validation scores the first prompt, so nothing is corrected there.
        """
        self._places = places_of(input)
        backbone_out = super().prepare_prompt_inputs(backbone_out, input, start_frame_idx)
        for frame, points in backbone_out["point_inputs_per_frame"].items():
            blank_absent_boxes(points, backbone_out["gt_masks_per_frame"][frame])
        drawn = self.training and self.sphere_click and self.rng.random() < self.sphere_click
        if self._places is not None:
            self.prompt_looks(backbone_out, input)
        elif drawn:
            self.prompt_with_clicks(backbone_out, input)
        if (
            not self.training or self.num_correction_pt_per_frame == 0
        ):  # upstream fails on zero corrections
            backbone_out["frames_to_add_correction_pt"] = []
        self._last_frame = (
            backbone_out["init_cond_frames"] + backbone_out["frames_not_in_init_cond"]
        )[-1]
        return backbone_out

    def prompt_with_clicks(self, backbone_out: dict[str, Any], input: Any) -> None:
        """Put the batch's clicks, if it has any, in place of the prompts that were drawn.

        As SAM2 does, correct the first frame and up to `max_corrected_frames` − 1 other prompted
        ones.
        """
        clicks = clicks_of(input)
        if clicks is None:
            return
        frames = prompted_frames(
            clicks, input.masks
        )  # the first is always among them: the clicks were drawn there
        others = self.rng.permutation(frames[1:])[
            : int(self.rng.integers(self.num_frames_to_correct_for_train))
        ]
        backbone_out.update(
            {
                "use_pt_input": True,
                "init_cond_frames": frames,
                "frames_not_in_init_cond": [t for t in range(input.num_frames) if t not in frames],
                "mask_inputs_per_frame": {},
                "point_inputs_per_frame": {t: click_prompt(clicks[t]) for t in frames},
                "frames_to_add_correction_pt": [frames[0], *others.tolist()],
            }
        )

    def prompt_looks(self, backbone_out: dict[str, Any], input: Any) -> None:
        """Prompt every frame of a batch of looks with its clicks, and correct none."""
        clicks = clicks_of(input)
        assert clicks is not None
        frames = list(range(input.num_frames))
        backbone_out.update(
            {
                "use_pt_input": True,
                "init_cond_frames": frames,
                "frames_not_in_init_cond": [],
                "mask_inputs_per_frame": {},
                "point_inputs_per_frame": {t: click_prompt(clicks[t]) for t in frames},
                "frames_to_add_correction_pt": [],
            }
        )

    def track_step(
        self, frame_idx: int, *args: Any, run_mem_encoder: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        """As upstream; in training the frame that is processed last leaves no memory.

        A look is prompted with what was said of the frame before it, without a gradient.
        """
        read_later = not self.training or frame_idx != self._last_frame
        if self._places is not None and frame_idx > 0:
            before = kwargs["output_dict"]["cond_frame_outputs"][frame_idx - 1]["pred_masks"]
            kwargs["prev_sam_mask_logits"] = moved(before, self._places[frame_idx])
        self._looks = "prev_sam_mask_logits" in kwargs
        taught = self.training and self.truth_every and frame_idx % self.truth_every == 0
        self._truth = kwargs.get("gt_masks") if taught else None
        return super().track_step(
            frame_idx, *args, run_mem_encoder=run_mem_encoder and read_later, **kwargs
        )

    def _use_multimask(self, *args: Any, **kwargs: Any) -> bool:
        """As upstream; one mask of a look, as `scan_zoom` asks for."""
        return not self._looks and bool(super()._use_multimask(*args, **kwargs))

    def _forward_sam_heads(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As upstream.

        In training the candidate masks for the loss (second item) stay at low resolution. Upstream
        keeps all three of them at S×S, and a dozen copies in the loss, for each click on each
        frame.
        """
        heads = (
            partial(_again, super()._forward_sam_heads)
            if self.recompute
            else super()._forward_sam_heads
        )
        low_res_masks, high_res_masks, *rest = heads(*args, **kwargs)
        return (low_res_masks, low_res_masks if self.training else high_res_masks, *rest)

    def _encode_new_memory(self, **kwargs: Any) -> Any:
        """As upstream, and again in the backward pass.

        Of the true masks where the step says so: as a mask that is given as a prompt is encoded.
        """
        if self._truth is not None:
            like = kwargs["pred_masks_high_res"]
            there = self._truth.flatten(1).any(dim=1, keepdim=True).to(like.dtype)
            kwargs |= {
                "pred_masks_high_res": self._truth.to(like.dtype) * 20 - 10,
                "object_score_logits": there * 20 - 10,
                "is_mask_from_pts": False,
            }
        return _again(super()._encode_new_memory, **kwargs)


def moved(logits: Tensor, places: Tensor) -> Tensor:
    """Logits O×1×h×w of one frame as the mask prompt of another.

    That one has them at `places` O×h×w×2; 0, neither yes nor no, beyond the frame. As in the merge,
    absence counts −CLAMP.
    """
    clamped = logits.detach().float().clamp(-CLAMP, CLAMP)
    places = places.to(clamped)
    return grid_sample(clamped, places, mode="bilinear", align_corners=False).to(logits)


def _again(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function` on these arguments, which draws nothing at random.

    Where a graph is made, again in the backward pass.
    """
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        determinism_check="none",
        **kwargs,
    )


def recompute_activations(model: ScanSAM2) -> None:
    """Switch `recompute` on.

    The memory attention's layers have dropout: they draw it again from the generator's state.
    """
    model.recompute = True
    for layer in model.memory_attention.layers:
        layer.forward = partial(_layer_again, layer, layer.forward)


def _layer_again(
    layer: nn.Module, forward: Callable[..., Tensor], *args: Any, **kwargs: Any
) -> Tensor:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, determinism_check="none", **kwargs)


def compile_parts(model: ScanSAM2) -> None:
    """torch.compile the image encoder and the memory encoder.

    They are called with few shapes and hold no complex numbers (those of the rotary attention do).
    Names in the state dict stay.
    """
    for module in (model.image_encoder, model.memory_encoder):
        module.forward = torch.compile(module.forward)


class PanoScanSAM2(PanoParts, ScanSAM2):
    """ScanSAM2 with PanoSAM2's parts.

    `panoforge.train.model.panosam2.parts.add_parts` makes them.
    """

    forward_image = ScanSAM2.forward_image  # which projects, and there the parts come in

    def project(self, encoded: Encoded) -> Encoded:
        """As ScanSAM2, and the fine levels through their blocks."""
        return self.seam_consistent(super().project(encoded))

    def prepare_prompt_inputs(
        self, backbone_out: dict[str, Any], input: Any, start_frame_idx: int = 0
    ) -> dict[str, Any]:
        """As ScanSAM2.

        In training the long-term frames are drawn anew for each forward pass, from torch's
        generator.
        """
        if self.training and "memory" in self.panosam2:
            self.sampling_seed = int(torch.randint(2**31, ()))
        return super().prepare_prompt_inputs(backbone_out, input, start_frame_idx)


def blank_absent_boxes(points: Mapping[str, Tensor], masks: Tensor) -> None:
    """Turn the boxes of empty masks into padding points, in place.

    Boxes are O×2×2 corners with labels 2 and 3, masks O×1×S×S.
    """
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
