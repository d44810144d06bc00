"""Propagation along a scan, batched over objects: SAM2's video predictor without its loop over
objects.

The official predictor tracks objects one by one and, when prompts come in several frames, runs its
image encoder again for every object and frame. Here every frame is encoded once, also one that is
shown twice. On each frame, all objects that attend to equally many memories are one batch for
memory attention, mask decoder and memory encoder: the very modules of the official model. What an
object sees is the same as in the official predictor with all prompts added first:

    clicked frames   predicted from the click alone; their masks become conditioning memories,
                     kept for the whole scan
    other frames     attend to all conditioning memories (also later ones), the 6 frames before,
                     and object pointers

so masks agree with the official predictor's up to floating-point summation order (tested;
bench/propagate.py). Memory is bounded: features of one scan, conditioning memories, and per object
6 memories and 15 pointers; older ones are dropped, as nothing will ever attend to them. `max_batch`
bounds what one call to the model holds.
"""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.sam2_video import model_input, model_points
from panoforge.eval.views.merge import FrameLogits


@dataclass(frozen=True)
class _Features:
    """One encoded frame. `high_res`: 1×C×h×w maps for the mask decoder; `top` and `position`:
    HW×1×C of the coarsest level, whose height and width are `size`.
    """

    high_res: list[Tensor]
    top: Tensor
    position: Tensor
    size: tuple[int, int]


@dataclass
class _Memory:
    """What one object remembers, by frame: `spatial` HW×C' memories in bfloat16 (as SAM2 keeps
    them), `pointer` (C,) vectors. Conditioning frames are kept, others dropped when they are out of
    reach.
    """

    conditioning: dict[int, Tensor] = field(default_factory=dict)
    conditioning_pointer: dict[int, Tensor] = field(default_factory=dict)
    recent: dict[int, Tensor] = field(default_factory=dict)
    recent_pointer: dict[int, Tensor] = field(default_factory=dict)

    def forget(self, frame: int, memories: int, pointers: int) -> None:
        """Drop what `frame` and later frames cannot reach."""
        for store, reach in ((self.recent, memories), (self.recent_pointer, pointers)):
            for old in [t for t in store if t < frame - reach]:
                del store[old]


@dataclass(frozen=True)
class _Prediction:
    """Outputs of the mask decoder for a batch of B objects.

    `masks` B×1×h×w logits; `high_res` B×1×S×S, the same at input size; `pointer` B×C; `score` B×1,
    above 0 where the object is there.
    """

    masks: Tensor
    high_res: Tensor
    pointer: Tensor
    score: Tensor


class BatchedSam2:
    """SAM2 as a predictor, batched over objects. `model` is a SAM2VideoPredictor (or any SAM2Base)
    in eval mode.
    """

    name, sees_labels = "SAM2", False

    def __init__(self, model: Any, *, max_batch: int = 64, encode_batch: int | None = None) -> None:
        if model.memory_temporal_stride_for_eval != 1 or model.max_cond_frames_in_attn != -1:
            raise ValueError(
                "batched propagation follows SAM2.1's settings: memory stride 1, no limit on"
                " conditioning frames"
            )
        self.model = model
        self.max_batch = max_batch
        self.encode_batch = encode_batch or (8 if model.device.type == "cuda" else 1)

    @torch.inference_mode()
    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Logits of each frame's objects, in the order of the frames."""
        with self._precision():
            memories = [_Memory() for _ in prompts]
            prompted = sorted({t for prompt in prompts for t in prompt.frames()})
            first, last = _showings(frames)
            features = self._encode_some(frames, sorted({first[t] for t in prompted}))
            clicked: dict[int, dict[int, Tensor | None]] = {}
            for t in prompted:
                known = _as_before(t, first[t], prompts, memories, clicked)
                own = features[first[t]]
                new = self._condition(t, frames[t], own, prompts, memories, known)
                clicked[t] = known | new
        for t in range(len(frames)):
            with self._precision():
                if first[t] not in features:
                    ahead = [s for s in range(t, len(frames)) if s == first[s]]
                    ahead = [s for s in ahead if s not in features]
                    features |= self._encode_some(frames, ahead[: self.encode_batch])
                said = clicked.pop(t, {})
                others = [
                    k for k, prompt in enumerate(prompts) if prompt.frames() and k not in said
                ]
                for batch in self._batches(t, others, memories):
                    said |= self._track(t, len(frames), features[first[t]], batch, memories)
            if t == last[first[t]]:
                del features[first[t]]
            there = {k: own for k, own in sorted(said.items()) if own is not None}
            logits = (
                torch.stack(list(there.values()))
                if there
                else torch.zeros((0, 1, 1), device=self.model.device)
            )
            yield FrameLogits(t, np.array(list(there), np.int64), logits.float())

    @torch.inference_mode()
    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[Tensor | None]:
        """One object in each picture, as SAM2's image predictor does it, in batches: encoded
        `encode_batch` at a time, decoded together where they have equally many points. With a mask
        prompt one mask is asked for, without it as for a click.
        """
        found: dict[int, Tensor | None] = {}
        for start in range(0, len(frames), self.encode_batch):
            some = range(start, min(start + self.encode_batch, len(frames)))
            with self._precision():
                features = dict(zip(some, self._encode([frames[k] for k in some]), strict=True))
                groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
                for k in some:
                    groups[
                        prompts[k].points[0][1].size if 0 in prompts[k].points else 0,
                        0 in prompts[k].masks,
                    ].append(k)
                for (count, has_mask), group in groups.items():
                    found |= self._look(
                        [features[k] for k in group], group, frames, prompts, count, has_mask
                    )
        return [
            None if (logits := found[k]) is None else logits.float() for k in range(len(frames))
        ]

    def _look(
        self,
        features: list[_Features],
        group: list[int],
        frames: Sequence[FrameInput],
        prompts: Sequence[ObjectPrompt],
        count: int,
        has_mask: bool,
    ) -> dict[int, Tensor | None]:
        image = torch.cat([_image(own.top + self.model.no_mem_embed, own.size) for own in features])
        high_res = [
            torch.cat(level) for level in zip(*(own.high_res for own in features), strict=True)
        ] or None
        inputs = self._points([(prompts[k], 0, frames[k]) for k in group]) if count else None
        hints = None
        if has_mask:
            hints = torch.from_numpy(np.stack([prompts[k].masks[0] for k in group]))[:, None].to(
                self.model.device
            )
        multimask = not has_mask and self.model._use_multimask(True, inputs)
        _, _, _, low, _, _, score = self.model._forward_sam_heads(
            backbone_features=image,
            point_inputs=inputs,
            mask_inputs=hints,
            high_res_features=high_res,
            multimask_output=multimask,
        )
        there = (score > 0).flatten().tolist()
        return {
            k: mask[0] if present else None
            for k, mask, present in zip(group, low, there, strict=True)
        }

    def _points(self, clicked: Sequence[tuple[ObjectPrompt, int, FrameInput]]) -> dict[str, Tensor]:
        """SAM2's point inputs of (object, frame number, frame), which must have equally many
        points.
        """
        points = [
            model_points(prompt.points[t][0], frame, self.model.image_size)
            for prompt, t, frame in clicked
        ]
        labels = [prompt.points[t][1] for prompt, t, _ in clicked]
        return {
            "point_coords": torch.from_numpy(np.stack(points)).to(self.model.device),
            "point_labels": torch.from_numpy(np.stack(labels)).to(self.model.device),
        }

    def _precision(self) -> contextlib.AbstractContextManager:
        """bfloat16 on CUDA, as SAM2 is meant to run; float32 elsewhere."""
        return (
            torch.autocast("cuda", torch.bfloat16)
            if self.model.device.type == "cuda"
            else contextlib.nullcontext()
        )

    def _encode_some(
        self, frames: Sequence[FrameInput], which: Sequence[int]
    ) -> dict[int, _Features]:
        """Frames by number, encoded: those with prompts at once, as their masks are wanted first,
        others when their turn comes.
        """
        found: dict[int, _Features] = {}
        for start in range(0, len(which), self.encode_batch):
            some = which[start : start + self.encode_batch]
            found |= dict(zip(some, self._encode([frames[t] for t in some]), strict=True))
        return found

    def _encode(self, frames: Sequence[FrameInput]) -> list[_Features]:
        features = []
        for start in range(0, len(frames), self.encode_batch):
            batch = frames[start : start + self.encode_batch]
            images = [
                model_input(frame.image, self.model.image_size, self.model.device)
                for frame in batch
            ]
            out = self.model.forward_image(torch.cat(images))
            levels = out["backbone_fpn"][-self.model.num_feature_levels :]
            position = out["vision_pos_enc"][-1]
            for k in range(len(images)):
                features.append(
                    _Features(
                        [level[k : k + 1] for level in levels[:-1]],
                        _sequence(levels[-1][k : k + 1]),
                        _sequence(position[k : k + 1]),
                        tuple(levels[-1].shape[-2:]),
                    )
                )
        return features

    def _condition(
        self,
        t: int,
        frame: FrameInput,
        features: _Features,
        prompts: Sequence[ObjectPrompt],
        memories: list[_Memory],
        known: Collection[int] = (),
    ) -> dict[int, Tensor | None]:
        """Predict the objects that are prompted in frame `t` from their prompts alone, and remember
        them. A mask is its own prediction; `count` 0 stands for masks. Those `known` are left out.
        """
        by_count: dict[int, list[int]] = defaultdict(list)
        for k, prompt in enumerate(prompts):
            if t in prompt.frames() and k not in known:
                by_count[0 if t in prompt.masks else len(prompt.points[t][1])].append(k)
        said: dict[int, Tensor | None] = {}
        for count, objects in by_count.items():
            for start in range(0, len(objects), self.max_batch):
                batch = objects[start : start + self.max_batch]
                image = _image(
                    (features.top + self.model.no_mem_embed).expand(-1, len(batch), -1),
                    features.size,
                )
                if count:
                    inputs = self._points([(prompts[k], t, frame) for k in batch])
                    out = self._decode(
                        image, features, inputs, self.model._use_multimask(True, inputs)
                    )
                else:
                    out = self._given(features, self._masks([prompts[k].masks[t] for k in batch]))
                high_res = torch.nn.functional.interpolate(
                    out.masks,
                    size=(self.model.image_size,) * 2,
                    mode="bilinear",
                    align_corners=False,
                )
                for k, memory, pointer in zip(
                    batch,
                    self._remember(features, high_res, out.score, True),
                    out.pointer,
                    strict=True,
                ):
                    memories[k].conditioning[t], memories[k].conditioning_pointer[t] = (
                        memory,
                        pointer,
                    )
                said |= _logits(batch, out)
        return said

    def _batches(
        self, t: int, objects: Sequence[int], memories: list[_Memory]
    ) -> Iterator[list[int]]:
        """Objects that attend to equally many memories and pointers at frame `t`, at most
        `max_batch` at a time.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for k in objects:
            memories[k].forget(
                t, self.model.num_maskmem - 1, self.model.max_obj_ptrs_in_encoder - 1
            )
            pointers = len(memories[k].recent_pointer) + sum(
                c <= t for c in memories[k].conditioning
            )
            groups[len(memories[k].conditioning) + len(memories[k].recent), pointers].append(k)
        for group in groups.values():
            for start in range(0, len(group), self.max_batch):
                yield group[start : start + self.max_batch]

    def _track(
        self, t: int, n_frames: int, features: _Features, batch: list[int], memories: list[_Memory]
    ) -> dict[int, Tensor | None]:
        """Predict objects in frame `t` from what they remember, and remember that too."""
        memory, position, pointer_tokens = self._recall(
            t, n_frames, features, [memories[k] for k in batch]
        )
        current, where = (x.expand(-1, len(batch), -1) for x in (features.top, features.position))
        fused = self.model.memory_attention(
            curr=[current],
            curr_pos=[where],
            memory=memory,
            memory_pos=position,
            num_obj_ptr_tokens=pointer_tokens,
        )
        out = self._decode(
            _image(fused, features.size), features, None, self.model._use_multimask(False, None)
        )
        for k, spatial, pointer in zip(
            batch,
            self._remember(features, out.high_res, out.score, False),
            out.pointer,
            strict=True,
        ):
            memories[k].recent[t], memories[k].recent_pointer[t] = spatial, pointer
        return _logits(batch, out)

    def _recall(
        self, t: int, n_frames: int, features: _Features, batch: list[_Memory]
    ) -> tuple[Tensor, Tensor, int]:
        """Memory tokens L×B×C', their position encodings, and how many of the last tokens are
        object pointers: as SAM2Base._prepare_memory_conditioned_features lays them out.
        """
        model = self.model
        spatial, age = [], []
        pointer, distance = [], []
        for memory in batch:
            recent = sorted(memory.recent)
            spatial.append(
                torch.stack([*memory.conditioning.values(), *(memory.recent[s] for s in recent)])
            )
            age.append(
                [model.num_maskmem - 1] * len(memory.conditioning) + [t - s - 1 for s in recent]
            )
            past = [c for c in memory.conditioning_pointer if c <= t]
            near = sorted(memory.recent_pointer, reverse=True)
            pointer.append(
                [
                    *(memory.conditioning_pointer[c] for c in past),
                    *(memory.recent_pointer[s] for s in near),
                ]
            )
            distance.append([t - s for s in (*past, *near)])
        tokens = torch.stack(spatial)  # B×slots×HW×C'
        b, slots, area, channels = tokens.shape
        tokens = (
            tokens.permute(1, 2, 0, 3).reshape(slots * area, b, channels).to(features.top.dtype)
        )
        when = model.maskmem_tpos_enc[torch.tensor(age, device=tokens.device)].reshape(
            b, slots, 1, channels
        )
        place = (
            (self._mask_position[None, None] + when)
            .permute(1, 2, 0, 3)
            .reshape(slots * area, b, channels)
        )
        if not distance[0]:
            return tokens, place, 0
        pointers = torch.stack([torch.stack(p) for p in pointer], dim=1)  # P×B×C
        pointers, far = self._pointer_tokens(pointers, distance, n_frames)
        return torch.cat([tokens, pointers]), torch.cat([place, far]), len(pointers)

    def _pointer_tokens(
        self, pointers: Tensor, distance: list[list[int]], n_frames: int
    ) -> tuple[Tensor, Tensor]:
        """P×B×C pointers → (P·C/C')×B×C' tokens and their temporal encodings."""
        from sam2.modeling.sam2_utils import get_1d_sine_pe

        model = self.model
        count, b, width = pointers.shape
        reach = min(n_frames, model.max_obj_ptrs_in_encoder) - 1
        steps = torch.tensor(distance, device=pointers.device).T  # P×B
        far = get_1d_sine_pe(
            (steps / max(reach, 1)).reshape(-1),
            dim=width if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim,
        )
        far = model.obj_ptr_tpos_proj(far).reshape(count, b, model.mem_dim)
        split = width // model.mem_dim
        tokens = pointers.reshape(count, b, split, model.mem_dim).permute(0, 2, 1, 3).flatten(0, 1)
        return tokens, far.repeat_interleave(split, dim=0)

    def _masks(self, masks: Sequence[np.ndarray]) -> Tensor:
        """Mask logits of a frame → 0 or 1, B×1×S×S, as `add_new_mask` makes them."""
        above = torch.from_numpy(np.stack(masks) > 0)[:, None].float().to(self.model.device)
        size = (self.model.image_size,) * 2
        if above.shape[-2:] == size:
            return above
        return (
            torch.nn.functional.interpolate(above, size=size, mode="bilinear", antialias=True)
            >= 0.5
        ).float()

    def _given(self, features: _Features, masks: Tensor) -> _Prediction:
        """Masks that were given, as predictions.

        SAM2 shows its decoder the frame without `no_mem_embed` here.
        """
        image = _image(features.top.expand(-1, len(masks), -1), features.size)
        high_res = [level.expand(len(masks), -1, -1, -1) for level in features.high_res] or None
        _, _, _, low, high, pointer, score = self.model._use_mask_as_output(image, high_res, masks)
        return _Prediction(low, high, pointer, score)

    def _decode(
        self, image: Tensor, features: _Features, points: dict[str, Tensor] | None, multimask: bool
    ) -> _Prediction:
        """SAM's prompt encoder and mask decoder on B×C×H×W image features."""
        high_res = [level.expand(image.shape[0], -1, -1, -1) for level in features.high_res] or None
        _, _, _, low, high, pointer, score = self.model._forward_sam_heads(
            backbone_features=image,
            point_inputs=points,
            high_res_features=high_res,
            multimask_output=multimask,
        )
        return _Prediction(low, high, pointer, score)

    def _remember(
        self, features: _Features, high_res: Tensor, score: Tensor, from_clicks: bool
    ) -> list[Tensor]:
        """Encode masks into spatial memories, HW×C' bfloat16 each."""
        spatial, position = self.model._encode_new_memory(
            current_vision_feats=[features.top.expand(-1, high_res.shape[0], -1)],
            feat_sizes=[features.size],
            pred_masks_high_res=high_res,
            object_score_logits=score,
            is_mask_from_pts=from_clicks,
        )
        self._mask_position = (
            position[-1][0].flatten(1).T
        )  # HW×C', the same for all frames and objects
        return list(spatial.to(torch.bfloat16).flatten(2).permute(0, 2, 1))


def _showings(frames: Sequence[FrameInput]) -> tuple[list[int], dict[int, int]]:
    """For each frame the first that is the very same picture, and when that is shown last.

    Frames that are read when they are asked for are never the same, and are not read here: one that
    has been let go may share its `id` with the next.
    """
    if not isinstance(frames, list | tuple):
        own = list(range(len(frames)))
        return own, dict(enumerate(own))
    seen: dict[int, int] = {}
    first = [seen.setdefault(id(frame), t) for t, frame in enumerate(frames)]
    return first, {number: t for t, number in enumerate(first)}


def _as_before(
    t: int,
    first: int,
    prompts: Sequence[ObjectPrompt],
    memories: list[_Memory],
    clicked: Mapping[int, dict[int, Tensor | None]],
) -> dict[int, Tensor | None]:
    """What frame `t` says of objects that have the very prompts that they had when it was shown
    first: the same, and it is remembered once more.
    """
    if first == t:
        return {}
    said = {}
    for k, prompt in enumerate(prompts):
        points, masks = prompt.points.get(t), prompt.masks.get(t)
        same = points is prompt.points.get(first) and masks is prompt.masks.get(first)
        if same and (points is not None or masks is not None):
            memory = memories[k]
            memory.conditioning[t] = memory.conditioning[first]
            memory.conditioning_pointer[t] = memory.conditioning_pointer[first]
            said[k] = clicked[first][k]
    return said


def _sequence(feature: Tensor) -> Tensor:
    """1×C×H×W → HW×1×C."""
    return feature.flatten(2).permute(2, 0, 1)


def _image(sequence: Tensor, size: tuple[int, int]) -> Tensor:
    """HW×B×C → B×C×H×W."""
    return sequence.permute(1, 2, 0).reshape(sequence.shape[1], sequence.shape[2], *size)


def _logits(batch: Sequence[int], out: _Prediction) -> dict[int, Tensor | None]:
    """Mask logits h×w by object; None where the model says that the object is not there."""
    there = (out.score > 0).flatten().tolist()
    return {
        k: mask[0] if present else None
        for k, mask, present in zip(batch, out.masks, there, strict=True)
    }
