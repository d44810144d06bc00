"""What the model makes of a training clip, as one picture: frames in columns, the truth above, the
prediction below.

Each object has its colour (`panoforge.core.report.pictures`); the model gets one click in the first
frame, as in validation, and the random generators are left as they were.
"""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.core.report.pictures import overlay_ids
from panoforge.train.data.clips import IMAGENET_MEAN, IMAGENET_STD
from panoforge.train.model.scan_sam2 import ScanSAM2

MAX_FRAMES = 8
SIDE_PX = 192  # of a frame in the picture


@torch.no_grad()
def picture(model: ScanSAM2, batch: Any, autocast: Any) -> NDArray[np.uint8]:
    """RGB picture of the first clip of a batch; leaves the model in train mode."""
    rng, model.rng = model.rng, np.random.default_rng(0)
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), autocast:
            outs = model(batch)
    finally:
        model.train()
        model.rng = rng
    own = [k for k, (_, clip) in enumerate(batch.obj_to_frame_idx[0].tolist()) if clip == 0]
    columns = []
    for t in range(min(batch.num_frames, MAX_FRAMES)):
        frame = (
            batch.img_batch[t, 0].float().cpu().numpy().transpose(1, 2, 0) * IMAGENET_STD
            + IMAGENET_MEAN
        )
        shown = np.clip(frame * 255, 0, 255).astype(np.uint8)
        truth, said = (
            batch.masks[t, own].cpu().numpy(),
            (outs[t]["pred_masks_high_res"][own, 0] > 0).cpu().numpy(),
        )
        columns.append(np.concatenate([painted(shown, truth), painted(shown, said)], axis=0))
    return np.concatenate(columns, axis=1)


def painted(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image with masks (O×S×S) laid over it, the later ones on top, at SIDE_PX."""
    labels = np.zeros(image.shape[:2], np.uint16)
    for k, mask in enumerate(masks):
        labels[mask] = k + 1
    return cv2.resize(overlay_ids(image, labels), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
