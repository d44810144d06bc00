"""SAM3's tracker asked about one view: clicks or a box, and the mask that it finds.

The model that carries masks through videos answers prompts on a frame as well. Each view is a
video of one frame. Its features are computed once (`keep`) and serve all clicks in it: a click
costs the decoder alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.label.teachers.transformers_folder import LoadedFolder

_BOX = (2, 3)  # labels of a box's corners, as SAM2 has them


class Sam3Clicks:
    """Answers on views; `loaded` is a Sam3TrackerVideoModel with its processor."""

    def __init__(self, loaded: LoadedFolder) -> None:
        self._loaded = loaded
        self._kept: dict[int, tuple[NDArray[np.uint8], Any]] = {}

    def keep(self, frames: Sequence[FrameInput]) -> None:
        """Encode these frames, for all questions about them until `forget`."""
        for frame in frames:
            self._kept[id(frame.image)] = frame.image, self._session(frame)

    def forget(self, frames: Sequence[FrameInput]) -> None:
        """Let the features of frames go; those that are not kept do not matter."""
        for frame in frames:
            self._kept.pop(id(frame.image), None)

    def kept_bytes(self, frames: Sequence[FrameInput]) -> int:
        """What features of these frames take."""
        kept = [self._kept[id(f.image)][1] for f in frames if id(f.image) in self._kept]
        features = [one.cache.get_vision_features(0) for one in kept]
        return sum(tensor.nbytes for one in features for part in one.values() for tensor in part)

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """Each object's logits, float32 h×w of the model's resolution; None: it is not there.

        Args:
            frames: One for each object.
            prompts: Clicks on frame 0, or the two corners of a box.
        """
        return [self._answer(*pair) for pair in zip(frames, prompts, strict=True)]

    @torch.inference_mode()
    def _session(self, frame: FrameInput) -> Any:
        """A video of one frame, its features in its cache."""
        model, processor, device = self._loaded.model, self._loaded.processor, self._loaded.device
        session = processor.init_video_session(inference_device=device)
        pixels = processor(images=frame.image, device=device, return_tensors="pt").pixel_values
        session.add_new_frame(pixels[0])
        found = model.get_image_features(pixels, return_dict=True)
        session.cache.cache_vision_features(
            0,
            {
                "vision_feats": found.fpn_hidden_states,
                "vision_pos_embeds": found.fpn_position_encoding,
            },
        )
        return session

    @torch.inference_mode()
    def _answer(self, frame: FrameInput, prompt: ObjectPrompt) -> torch.Tensor | None:
        kept = self._kept.get(id(frame.image))
        session = kept[1] if kept else self._session(frame)
        session.reset_tracking_data()  # of the last question; the features stay
        points, labels = prompt.points[0]
        height, width = frame.image.shape[:2]
        asked: dict[str, Any] = (
            {"input_boxes": [[points.flatten().tolist()]]}
            if tuple(labels) == _BOX
            else {"input_points": [[points.tolist()]], "input_labels": [[labels.tolist()]]}
        )
        self._loaded.processor.add_inputs_to_inference_session(
            session, frame_idx=0, obj_ids=1, original_size=(height, width), **asked
        )
        said = self._loaded.model(inference_session=session, frame_idx=0, run_mem_encoder=False)
        there = float(said.object_score_logits) > 0
        return said.pred_masks[0, 0].float() if there else None
