"""Propagation along a scan, batched over objects.

SAM2's video predictor without its loop over objects.

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
bounds what one call to the model holds. What an object remembers is a policy's affair
(`panoforge.eval.predictors.memory_policies`).
"""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.memory_policies import policy_of
from panoforge.eval.predictors.object_memory import (
    MemoryPolicy,
    ObjectMemory,
    Recalled,
    Said,
    batches,
    recall,
    recalled,
)
from panoforge.eval.predictors.sam2_modules import (
    EncodedFrame,
    MaskPrediction,
    Sam2Modules,
    image_of,
    logits_of,
)
from panoforge.eval.predictors.sam2_video import precision
from panoforge.eval.views.merge import FrameLogits


class BatchedSam2:
    """SAM2 as a predictor, batched over objects.

    `model` is a SAM2VideoPredictor (or any SAM2Base) in eval mode, PanoSAM2's parts included.
    `memory` is the policy of what objects remember; none is that of the model. With `offload`
    memories wait in the host's memory between frames.
    """

    sees_labels, full_size = False, False

    def __init__(
        self,
        model: Any,
        *,
        max_batch: int = 64,
        encode_batch: int | None = None,
        memory: str | None = None,
        offload: bool = False,
    ) -> None:
        if model.memory_temporal_stride_for_eval != 1 or model.max_cond_frames_in_attn != -1:
            raise ValueError(
                "batched propagation follows SAM2.1's settings: memory stride 1, no limit on"
                " conditioning frames"
            )
        self.model, self._modules = model, Sam2Modules(model)
        parts = getattr(model, "panosam2", {})
        own = "panosam2" if "memory" in parts else "sam2"
        self.policy: MemoryPolicy = policy_of(memory or own, model)
        self.name = "PanoSAM2" if len(parts) else "SAM2"
        self.offload = offload
        self.max_batch = max_batch
        self.encode_batch = encode_batch or (8 if model.device.type == "cuda" else 1)

    @torch.inference_mode()
    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Logits of each frame's objects, in the order of the frames."""
        with precision(self.model.device), self._previous_masks([]):
            memories = [ObjectMemory() for _ in prompts]
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
            with precision(self.model.device):
                if first[t] not in features:
                    ahead = [s for s in range(t, len(frames)) if s == first[s]]
                    ahead = [s for s in ahead if s not in features]
                    features |= self._encode_some(frames, ahead[: self.encode_batch])
                said = clicked.pop(t, {})
                others = [
                    k
                    for k, prompt in enumerate(prompts)
                    if prompt.frames() and k not in said and prompt.is_asked(t)
                ]
                like = features[first[t]].top
                attended = {k: recalled(self.policy, memories[k], t, like) for k in others}
                for batch, recalls in batches(attended, self.max_batch):
                    said |= self._track(
                        t, len(frames), features[first[t]], batch, recalls, memories
                    )
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
        """One object in each picture, as SAM2's image predictor does it, in batches.

        Encoded `encode_batch` at a time, decoded together where they have equally many points. With
        a mask prompt one mask is asked for, without it as for a click.
        """
        found: dict[int, Tensor | None] = {}
        for start in range(0, len(frames), self.encode_batch):
            some = range(start, min(start + self.encode_batch, len(frames)))
            with precision(self.model.device), self._previous_masks([]):
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
        features: list[EncodedFrame],
        group: list[int],
        frames: Sequence[FrameInput],
        prompts: Sequence[ObjectPrompt],
        count: int,
        has_mask: bool,
    ) -> dict[int, Tensor | None]:
        image = torch.cat(
            [image_of(own.top + self.model.no_mem_embed, own.size) for own in features]
        )
        high_res = [
            torch.cat(level) for level in zip(*(own.high_res for own in features), strict=True)
        ] or None
        inputs = (
            self._modules.points([(prompts[k], 0, frames[k]) for k in group]) if count else None
        )
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

    def _encode_some(
        self, frames: Sequence[FrameInput], which: Sequence[int]
    ) -> dict[int, EncodedFrame]:
        """Frames by number, encoded.

        Those with prompts at once, as their masks are wanted first, others when their turn comes.
        """
        found: dict[int, EncodedFrame] = {}
        for start in range(0, len(which), self.encode_batch):
            some = which[start : start + self.encode_batch]
            found |= dict(zip(some, self._encode([frames[t] for t in some]), strict=True))
        return found

    def _encode(self, frames: Sequence[FrameInput]) -> list[EncodedFrame]:
        step = self.encode_batch
        return [
            features
            for start in range(0, len(frames), step)
            for features in self._modules.encode(frames[start : start + step])
        ]

    def _condition(
        self,
        t: int,
        frame: FrameInput,
        features: EncodedFrame,
        prompts: Sequence[ObjectPrompt],
        memories: list[ObjectMemory],
        known: Collection[int] = (),
    ) -> dict[int, Tensor | None]:
        """Predict the objects that are prompted in frame `t` from their prompts alone.

        They are remembered. A mask is its own prediction; `count` 0 stands for masks. Those `known`
        are left out.
        """
        by_count: dict[int, list[int]] = defaultdict(list)
        for k, prompt in enumerate(prompts):
            if t in prompt.frames() and k not in known:
                by_count[0 if t in prompt.masks else len(prompt.points[t][1])].append(k)
        said: dict[int, Tensor | None] = {}
        for count, objects in by_count.items():
            for start in range(0, len(objects), self.max_batch):
                batch = objects[start : start + self.max_batch]
                image = image_of(
                    (features.top + self.model.no_mem_embed).expand(-1, len(batch), -1),
                    features.size,
                )
                if count:
                    inputs = self._modules.points([(prompts[k], t, frame) for k in batch])
                    out = self._modules.decode(
                        image, features, inputs, self.model._use_multimask(True, inputs)
                    )
                else:
                    out = self._modules.given(
                        features, self._modules.masks([prompts[k].masks[t] for k in batch])
                    )
                high_res = torch.nn.functional.interpolate(
                    out.masks,
                    size=(self.model.image_size,) * 2,
                    mode="bilinear",
                    align_corners=False,
                )
                dense = self._modules.remember(features, high_res, out.score, True)
                for k, own in zip(batch, self._said(dense, out), strict=True):
                    self.policy.prompted(memories[k], t, own)
                    memories[k].last_mask = t, own.mask[None]
                said |= logits_of(batch, out)
        return said

    def _track(
        self,
        t: int,
        n_frames: int,
        features: EncodedFrame,
        batch: list[int],
        known: list[Recalled],
        memories: list[ObjectMemory],
    ) -> dict[int, Tensor | None]:
        """Predict objects in frame `t` from what they remember, and remember that too.

        `features` are of one picture that shows all of them, or of one for each.
        """
        memory, position, pointer_tokens = recall(self._modules, n_frames, features, known)
        current, where = (x.expand(-1, len(batch), -1) for x in (features.top, features.position))
        fused = self.model.memory_attention(
            curr=[current],
            curr_pos=[where],
            memory=memory,
            memory_pos=position,
            num_obj_ptr_tokens=pointer_tokens,
        )
        previous = [own.previous_mask for own in known if own.previous_mask is not None]
        with self._previous_masks(previous):
            out = self._modules.decode(
                image_of(fused, features.size),
                features,
                None,
                self.model._use_multimask(False, None),
            )
        dense = self._modules.remember(features, out.high_res, out.score, False)
        for k, own in zip(batch, self._said(dense, out), strict=True):
            self.policy.remember(memories[k], t, own)
            memories[k].last_mask = t, own.mask[None]
        return logits_of(batch, out)

    @contextlib.contextmanager
    def _previous_masks(self, masks: list[Tensor]) -> Iterator[None]:
        """The masks of the frame before, B of 1×h×w, at hand for PanoSAM2's decoder."""
        self.model._previous_mask = torch.stack(masks).to(self.model.device) if masks else None
        try:
            yield
        finally:
            self.model._previous_mask = None

    def _said(self, dense: list[Tensor], out: MaskPrediction) -> Iterator[Said]:
        """What is to be remembered of each object of a batch."""
        for k, (spatial, score) in enumerate(zip(dense, out.score.flatten().tolist(), strict=True)):
            yield Said(
                spatial.cpu() if self.offload else spatial.clone(),
                out.pointer[k].cpu() if self.offload else out.pointer[k],
                score,
                out.masks[k, 0],
                None if out.candidates is None else out.candidates[k],
                None if out.quality is None else out.quality[k],
            )


def _showings(frames: Sequence[FrameInput]) -> tuple[list[int], dict[int, int]]:
    """For each frame the first that is the very same picture, and when that is shown last.

    Frames that are read when they are asked for are never the same, and are not read here. One that
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
    memories: list[ObjectMemory],
    clicked: Mapping[int, dict[int, Tensor | None]],
) -> dict[int, Tensor | None]:
    """What frame `t` says of objects prompted as they were when it was shown first.

    It is the same, and it is remembered once more.
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
            if first in memory.history:
                memory.history[t] = memory.history[first]
            said[k] = clicked[first][k]
    return said
