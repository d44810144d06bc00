"""What the model makes of clips while it trains: mIoU on held-out ones, and a picture of one.

Both give the model one click in the first frame: SAM2's evaluation click (the point farthest from
the mask's border), uncorrected. The held-out clips are the first positions of a fixed order over
the validation split, without augmentation. So the same clips come every time and for every number
of ranks. An object's IoU is taken over all its frames together; mIoU is the mean over objects. This
is a curve to watch, not the score of a method: that is `pano eval`, on whole panoramas.
"""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.core.report.pictures import overlay_ids
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import IMAGENET_MEAN, IMAGENET_STD
from panoforge.train.data.loader import ClipSource
from panoforge.train.model.scan_sam2 import ScanSAM2

if TYPE_CHECKING:
    from panoforge.train.distributed import World

MAX_FRAMES = 8  # of a picture
SIDE_PX = 192  # of a frame in a picture
PLAIN = {
    "flip": 0.0,
    "reverse": 0.0,
    "colour_jitter": 0.0,
    "grayscale": 0.0,
    "fov_jitter_deg": 0.0,
    "tilt_jitter_deg": 0.0,
    "affine_deg": 0.0,
    "shear_deg": 0.0,
}


def validation_source(dataset: Dataset, config: TrainConfig) -> ClipSource:
    """Held-out clips of a run.

    Panoramas, its own clip settings without augmentation, seed 0 whatever the run's seed. A damaged
    one stops the run: a mean over fewer clips would be another curve.
    """
    return ClipSource(
        dataset,
        config.model_copy(
            update={
                "seed": 0,
                "clip": config.clip.model_copy(update=PLAIN),
                "mixture": {},
                "max_bad_samples": 0,
            }
        ),
    )


@torch.no_grad()
def validate(
    model: ScanSAM2,
    source: ClipSource,
    clips: int,
    device: torch.device,
    world: "World",
    autocast: Any,
) -> float:
    """MIoU in [0, 1] over `clips` clips, shared out over the ranks.

    Leaves the model in train mode.
    """
    model.eval()
    total, objects = 0.0, 0
    try:
        for position in range(world.rank, clips, world.num_ranks):
            built = source.batch((position,))
            assert built is not None  # a validation source leaves no clip out
            batch = built.to(device)
            with autocast:
                outs = model(batch)
            predicted = torch.stack(
                [out["pred_masks_high_res"][:, 0] > 0 for out in outs]
            )  # T×O×S×S, as batch.masks
            both = (predicted & batch.masks).sum(dim=(0, 2, 3)).double()
            either = (predicted | batch.masks).sum(dim=(0, 2, 3)).double()
            total += float(
                (both / either).sum()
            )  # the first frame shows every object, so none is empty
            objects += batch.masks.shape[1]
    finally:
        model.train()
    total, count = world.sum([total, objects], device)
    return total / count


@torch.no_grad()
def picture(model: ScanSAM2, batch: Any, autocast: Any) -> NDArray[np.uint8]:
    """RGB picture of the first clip of a batch.

    Frames in columns, the truth above, the prediction below, each object in its colour. Leaves the
    model in train mode, its generators as they were.
    """
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
