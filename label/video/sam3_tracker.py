"""SAM3's video tracker as a predictor: a mask on the first frame, then memory, frame by frame.

`transformers` has it (Sam3TrackerVideoModel). The folder is the one that SAM3's words are read
from, since its weights hold a detector and a tracker. Frames are shown one after the other. What
the tracker does not look at any more is let go: transformers keeps every frame's pixels and
memory, gigabytes in a long video.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoforge.core.errors import UsageError
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.views.merge import FrameLogits
from panoforge.label.teachers.transformers_folder import LoadedFolder, load_folder

MODEL, PROCESSOR = "Sam3TrackerVideoModel", "Sam3TrackerVideoProcessor"


@dataclass
class Sam3Tracker:
    """Carries masks of a first frame along.

    Attributes:
        loaded: The model.
        name: What tables call it.
        sees_labels: It is shown pictures, never labels.
        full_size: Its logits are of its own resolution.
    """

    loaded: LoadedFolder
    name: str = "SAM3's tracker"
    sees_labels: bool = False
    full_size: bool = False

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Sam3Tracker":
        """Load a folder. DataError where it holds no SAM3 with a tracker."""
        return cls(load_folder(folder, MODEL, PROCESSOR, device))

    @property
    def size_px(self) -> int:
        """The side of what it looks at."""
        return int(self.loaded.model.image_size)

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Each frame's logits, K×h×w of its own resolution; reads a frame when it is asked for.

        Raises:
            UsageError: an object is not prompted by a mask on the first frame alone.
        """
        for one in prompts:
            if one.frames() != {0} or 0 not in one.masks:
                raise UsageError("SAM3's tracker begins with a mask on the first frame: give one")
        processor, model, device = self.loaded.processor, self.loaded.model, self.loaded.device
        session = processor.init_video_session(inference_device=device)
        everyone = np.arange(len(prompts))
        for number in range(len(frames)):
            image = frames[number].image
            shown = processor(images=image, device=device, return_tensors="pt")
            if number == 0:
                masks = [one.masks[0] > 0 for one in prompts]
                processor.add_inputs_to_inference_session(
                    session, frame_idx=0, obj_ids=everyone.tolist(), input_masks=masks
                )
            said = model(inference_session=session, frame=shown["pixel_values"][0])
            let_go(session, number, model.config)
            there = (said.object_score_logits.flatten() > 0).cpu().numpy() | (number == 0)
            logits = said.pred_masks[:, 0].float()
            yield FrameLogits(number, everyone[there], logits[torch.from_numpy(there)])

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """It is no predictor of single pictures. UsageError."""
        raise UsageError("SAM3's tracker follows masks through videos, and looks at no pictures")


def let_go(session: Any, frame: int, config: Any) -> None:
    """Forget what no later frame looks at: pixels, and memory beyond its reach."""
    session.processed_frames[frame] = None  # its number counts, its pixels do not
    reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
    for outputs in session.output_dict_per_obj.values():
        outputs["non_cond_frame_outputs"].pop(frame - reach, None)
