"""PanoSAM2's decoder and memory on a SAM2.

One mixin, for the model that is trained and for the one that is scored.

`PanoParts` goes before a subclass of `SAM2Base` in a class's bases; `add_parts` gives the model its
extra modules, all of them under `panosam2`. The mixin overrides four steps of `SAM2Base` and leaves
each as it was where its part is off:

    forward_image                          the fine feature levels pass their blocks, once a frame
    _prepare_memory_conditioned_features   recent memories are modulated for this frame
    memory_attention (a pre-hook)          … and the long-term pointers join SAM2's own
    _forward_sam_heads                     the conditioned features pass their block and the fusion

A frame that is prompted is predicted without the previous mask: its prompt says where the object is
(§3.1).
"""

from typing import Any

import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor, nn
from torch.nn.functional import interpolate

from panoforge.train.model.panosam2.decoder import PanoDecoder
from panoforge.train.model.panosam2.memory import LongShortMemory, sample_frames
from panoforge.train.settings.sam2 import PanoSam2Settings

PREFIX = "panosam2."


def add_parts(model: Any, settings: PanoSam2Settings) -> None:
    """Give a `PanoParts` model its modules."""
    model.panosam2 = nn.ModuleDict()
    if settings.decoder:
        model.panosam2["decoder"] = PanoDecoder(
            model.hidden_dim, settings.previous_mask, settings.fusion_kernel
        )
    if settings.memory:
        model.panosam2["memory"] = LongShortMemory(
            model.hidden_dim, model.mem_dim, settings.long_pointers
        )
        model.memory_attention.register_forward_pre_hook(model.join_long_pointers, with_kwargs=True)


class PanoParts:
    """The mixin; see the module."""

    panosam2: Any  # nn.ModuleDict, whose entries have types of their own
    _previous_mask: Tensor | None = (
        None  # B×1×h×w logits of the frame before, while a frame is tracked
    )
    _long: tuple[Tensor, Tensor] | None = None  # pointer tokens of the frame, their positions
    sampling_seed = 0  # of the long-term frames
    long_memory_on = True  # training may leave the module out of its first epochs

    # Of the SAM2Base that the mixin is put before.
    image_size: int
    mem_dim: int
    num_maskmem: int
    use_signed_tpos_enc_to_obj_ptrs: bool
    max_obj_ptrs_in_encoder: int
    proj_tpos_enc_in_obj_ptrs: bool
    sigmoid_scale_for_mem_enc: float
    sigmoid_bias_for_mem_enc: float
    memory_encoder: Any
    obj_ptr_tpos_proj: Any

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Features of N×3×S×S images."""
        return self.seam_consistent(super().forward_image(img_batch))  # type: ignore[misc]

    def seam_consistent(self, backbone_out: dict[str, Any]) -> dict[str, Any]:
        """The two fine levels through their blocks."""
        if "decoder" not in self.panosam2:
            return backbone_out
        fine, middle, *coarse = backbone_out["backbone_fpn"]
        decoder = self.panosam2["decoder"]
        return {
            **backbone_out,
            "backbone_fpn": [decoder.fine(fine), decoder.middle(middle), *coarse],
        }

    def _track_step(
        self, frame_idx: int, is_init_cond_frame: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """As SAM2Base.

        Remembers the previous frame's mask for `_forward_sam_heads`, also for later corrections.
        """
        names = (
            "current_vision_feats",
            "current_vision_pos_embeds",
            "feat_sizes",
            "point_inputs",
            "mask_inputs",
            "output_dict",
            "num_frames",
            "track_in_reverse",
            "prev_sam_mask_logits",
        )
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        before = frame_idx + 1 if given.get("track_in_reverse") else frame_idx - 1
        previous = None if is_init_cond_frame else _outputs(given["output_dict"]).get(before)
        self._previous_mask = None if previous is None else previous["pred_masks"].detach()
        return super()._track_step(  # type: ignore[misc]
            frame_idx, is_init_cond_frame, *args, **kwargs
        )

    def _forward_sam_heads(self, backbone_features: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As SAM2Base, on features that went through the pano-aware block."""
        if "decoder" in self.panosam2:
            decoder = self.panosam2["decoder"]
            backbone_features = decoder.top(backbone_features)
            if decoder.fusion is not None and self._previous_mask is not None:
                backbone_features = decoder.fusion(
                    backbone_features, self.mask_features(self._previous_mask)
                )
        return super()._forward_sam_heads(backbone_features, *args, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def mask_features(self, logits: Tensor) -> Tensor:
        """B×1×h×w mask logits → B×C×H×W, as SAM2 encodes masks into memories.

        Up to where image features are added.
        """
        size = (self.image_size, self.image_size)
        mask = interpolate(logits.float(), size, mode="bilinear", align_corners=False).sigmoid()
        mask = mask * self.sigmoid_scale_for_mem_enc + self.sigmoid_bias_for_mem_enc
        return self.memory_encoder.mask_downsampler(mask)

    def _prepare_memory_conditioned_features(
        self,
        frame_idx: int,
        is_init_cond_frame: bool,
        current_vision_feats: list[Tensor],
        *args: Any,
        output_dict: dict[str, Any],
        num_frames: int,
        track_in_reverse: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """As SAM2Base, on modulated recent memories; `join_long_pointers` adds the pointers."""
        if self.uses_long_memory and not is_init_cond_frame:
            output_dict, self._long = self.long_memories(
                frame_idx, current_vision_feats[-1], output_dict, num_frames, track_in_reverse
            )
        try:
            return super()._prepare_memory_conditioned_features(  # type: ignore[misc]
                frame_idx,
                is_init_cond_frame,
                current_vision_feats,
                *args,
                output_dict=output_dict,
                num_frames=num_frames,
                track_in_reverse=track_in_reverse,
                **kwargs,
            )
        finally:
            self._long = None

    @property
    def uses_long_memory(self) -> bool:
        """Whether the module is there and, in training, its epoch has come."""
        return "memory" in self.panosam2 and self.long_memory_on

    def long_memories(
        self,
        frame_idx: int,
        features: Tensor,
        output_dict: dict[str, Any],
        num_frames: int,
        backwards: bool,
    ) -> tuple[dict[str, Any], tuple[Tensor, Tensor] | None]:
        """What a frame attends to under the module.

        The outputs of the frames before with modulated memories in place of the recent ones, and
        the tokens (N·C/D)×B×D of the long-term pointers with their positions. Both as they were,
        and None, where no frame has been seen before.
        """
        module: LongShortMemory = self.panosam2["memory"]
        outputs = _outputs(output_dict)
        sign = -1 if backwards else 1
        past = sorted((t for t in outputs if sign * (frame_idx - t) > 0), key=lambda t: sign * t)
        if not past:
            return output_dict, None
        chosen = sample_frames(
            torch.stack([_score(outputs[t]) for t in past]),
            int(module.size),
            (self.sampling_seed, frame_idx),
        )
        pointers = torch.stack([outputs[t]["obj_ptr"] for t in past]).to(features.dtype)
        pointers = pointers.gather(0, chosen[..., None].expand(-1, -1, pointers.shape[-1]))
        ages = torch.tensor([self.age_of(frame_idx, t, sign) for t in past], device=features.device)
        recent = output_dict["non_cond_frame_outputs"]
        reach = self.num_maskmem - 1
        short = [
            t
            for t in past
            if t in recent
            and sign * (frame_idx - t) <= reach
            and recent[t]["maskmem_features"] is not None
        ]
        if short:
            memories = torch.stack([recent[t]["maskmem_features"] for t in short])
            modulated = module(
                pointers,
                torch.stack([recent[t]["obj_ptr"] for t in short]).to(features.dtype),
                memories.to(features.device, features.dtype),
            )
            replaced = {
                t: {**recent[t], "maskmem_features": own}
                for t, own in zip(short, modulated, strict=True)
            }
            output_dict = {**output_dict, "non_cond_frame_outputs": {**recent, **replaced}}
        return output_dict, self.pointer_tokens(pointers, ages[chosen], num_frames)

    def age_of(self, frame_idx: int, t: int, sign: int) -> int:
        """How long ago frame `t` was, as SAM2Base counts for its own pointers: signed in SAM2.1."""
        signed = sign * (frame_idx - t)
        return signed if self.use_signed_tpos_enc_to_obj_ptrs else abs(signed)

    def pointer_tokens(
        self, pointers: Tensor, ages: Tensor, num_frames: int
    ) -> tuple[Tensor, Tensor]:
        """N×B×C pointers of frames `ages` (N×B) ago → tokens and positions.

        As SAM2Base splits and encodes its own.
        """
        count, b, width = pointers.shape
        dim = self.mem_dim
        reach = max(min(num_frames, self.max_obj_ptrs_in_encoder) - 1, 1)
        far = get_1d_sine_pe(
            (ages / reach).reshape(-1), dim=width if self.proj_tpos_enc_in_obj_ptrs else dim
        )
        far = self.obj_ptr_tpos_proj(far.to(pointers.dtype)).reshape(count, b, dim)
        tokens = pointers.reshape(count, b, width // dim, dim).permute(0, 2, 1, 3).flatten(0, 1)
        return tokens, far.repeat_interleave(width // dim, dim=0)

    def join_long_pointers(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pre-hook of the memory attention: long-term pointers after SAM2's own.

        It is told how many of the last tokens are pointers.
        """
        if self._long is None:
            return None
        tokens, far = self._long
        own: int = kwargs["num_obj_ptr_tokens"]
        return args, {
            **kwargs,
            "num_obj_ptr_tokens": own + len(tokens),
            "memory": torch.cat([kwargs["memory"].to(tokens.dtype), tokens]),
            "memory_pos": torch.cat([kwargs["memory_pos"], far]),
        }


def _outputs(output_dict: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {**output_dict["non_cond_frame_outputs"], **output_dict["cond_frame_outputs"]}


def _score(out: dict[str, Any]) -> Tensor:
    """The occlusion score of an output, (B,): after its last correction in training."""
    logits = (
        out["object_score_logits"]
        if "object_score_logits" in out
        else out["multistep_object_score_logits"][-1]
    )
    return logits.flatten()
