"""SAM2's own video predictor as a `Predictor`.

The reference that `panoforge.eval.predictors.batched_sam2` is compared with.

Every object's clicks are added in every frame that sees them (each becomes a conditioning frame),
then masks are propagated over all frames in scan order. Three things differ from calling the
official class on a folder of JPEGs, none of them in the arithmetic:

- frames come from memory;
- the features of all frames are put into the predictor's cache before it starts. It keeps one frame
  only and would run the image encoder again for every object and frame;
- the "video size" is that of SAM2's low-resolution masks, so that native logits come back and no
  N×1024² masks are made.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import resize_index
from panoforge.eval.predictors import LOGIT_STRIDE, FrameInput, ObjectPrompt
from panoforge.eval.views.merge import FrameLogits

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def model_input(image: NDArray[np.uint8], image_size: int, device: torch.device) -> torch.Tensor:
    """An image as SAM2 takes it.

    Float32 1×3×S×S, resized (area averaging when shrinking) and normalised.
    """
    if image.shape[:2] != (image_size, image_size):
        shrinks = image.shape[0] > image_size or image.shape[1] > image_size
        image = cv2.resize(
            image,
            (image_size, image_size),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        )
    tensor = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (MEAN, STD))
    return (tensor - mean) / std


def model_points(
    points: NDArray[np.float64], frame: FrameInput, image_size: int
) -> NDArray[np.float32]:
    """Continuous pixel indices of a frame → SAM2's input pixel indices.

    SAM2 adds the half pixel itself.
    """
    height, width = frame.image.shape[:2]
    return resize_index(points, (width, height), image_size).astype(np.float32)


def precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 on CUDA, as SAM2 is meant to run; float32 elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


class OfficialSam2:
    """`model` is a `sam2.sam2_video_predictor.SAM2VideoPredictor` in eval mode."""

    name, sees_labels, full_size = "SAM2 (official predictor)", False, False

    def __init__(self, model: Any) -> None:
        self.model = model
        model.memory_attention.register_forward_pre_hook(_same_dtype, with_kwargs=True)

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Logits of each frame's objects, in the order of the frames."""
        prompted = [index for index, prompt in enumerate(prompts) if prompt.frames()]
        with torch.inference_mode():
            with precision(self.model.device):
                state = self._prompted_state(frames, prompts, prompted)
            if not prompted:
                return
            propagated = self.model.propagate_in_video(state, start_frame_idx=0)
            while True:
                with precision(self.model.device):  # not for whoever takes what is yielded
                    said = next(propagated, None)
                if said is None:
                    return
                frame, objects, logits = said
                order = np.argsort(objects)
                yield FrameLogits(
                    frame, np.asarray(objects, np.int64)[order], logits[order, 0].float()
                )

    def _prompted_state(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt], prompted: Sequence[int]
    ) -> dict[str, Any]:
        """The predictor's state with all prompts added, in the order of the frames."""
        state = self._state(frames)
        by_frame = sorted((frame, index) for index in prompted for frame in prompts[index].frames())
        for frame, index in by_frame:
            if frame in prompts[index].masks:
                self.model.add_new_mask(
                    state, frame, index, torch.from_numpy(prompts[index].masks[frame] > 0)
                )
                continue
            points, labels = prompts[index].points[frame]
            scaled = model_points(points, frames[frame], self.model.image_size)
            self.model.add_new_points_or_box(
                state,
                frame,
                index,
                points=scaled / self.model.image_size,
                labels=labels,
                normalize_coords=False,
            )
        return state

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """SAM2's image predictor, picture by picture.

        Whatever its object score says, which that predictor does not tell.
        """
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        predictor = SAM2ImagePredictor(self.model)
        found: list[torch.Tensor | None] = []
        predictor._bb_feat_sizes = [
            (self.model.image_size // stride,) * 2 for stride in (4, 8, 16)
        ]  # it knows 1024² only
        for frame, prompt in zip(frames, prompts, strict=True):
            with torch.inference_mode(), precision(self.model.device):
                predictor.set_image(frame.image)
                points, labels = prompt.points.get(0, (None, None))
                if points is not None:
                    points = (
                        model_points(points, frame, self.model.image_size) / self.model.image_size
                    )
                hint = prompt.masks.get(0)
                if hint is not None:
                    hint = cv2.resize(
                        hint,
                        (self.model.image_size // LOGIT_STRIDE,) * 2,
                        interpolation=cv2.INTER_LINEAR,
                    )
                asked = None if labels is None else {"point_labels": torch.from_numpy(labels)[None]}
                multimask = hint is None and self.model._use_multimask(True, asked)
                _, quality, low = predictor.predict(
                    point_coords=points,
                    point_labels=labels,
                    mask_input=None if hint is None else hint[None],
                    multimask_output=multimask,
                    return_logits=True,
                    normalize_coords=False,
                )
            found.append(torch.from_numpy(low[int(quality.argmax())]))
        return found

    def _state(self, frames: Sequence[FrameInput]) -> dict[str, Any]:
        """What `init_state` makes of a folder of JPEGs, made of frames in memory."""
        device, size = self.model.device, self.model.image_size
        features = {}
        for index, frame in enumerate(frames):
            image = model_input(frame.image, size, device)
            features[index] = (image, self.model.forward_image(image))
        return {
            "images": [None] * len(frames),
            "num_frames": len(frames),
            "cached_features": features,
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "device": device,
            "storage_device": device,
            "video_height": size // LOGIT_STRIDE,
            "video_width": size // LOGIT_STRIDE,
            "constants": {},
            "point_inputs_per_obj": {},
            "mask_inputs_per_obj": {},
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
            "output_dict_per_obj": {},
            "temp_output_dict_per_obj": {},
            "frames_tracked_per_obj": {},
        }


def _same_dtype(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The predictor keeps memories in bfloat16 and relies on autocast to bring them back.

    Without autocast (any CPU), a frame with no object pointers before it would meet bfloat16
    memories with float32 weights.
    """
    current = kwargs["curr"][0] if isinstance(kwargs["curr"], list) else kwargs["curr"]
    return args, {**kwargs, "memory": kwargs["memory"].to(current.dtype)}
