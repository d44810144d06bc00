"""mIoU during training: how well one click on the first frame is tracked through held-out clips.

The clips are the first positions of a fixed order over the validation split, without augmentation,
so the same clips come every time and for every number of ranks. The click is SAM2's evaluation
click (the point farthest from the mask's border), uncorrected. An object's IoU is taken over all
its frames together; mIoU is the mean over objects. This is a curve to watch, not the score of a
method: that is `pano eval`, on whole panoramas.
"""

from typing import TYPE_CHECKING, Any

import torch

from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.loader import ClipSource
from panoforge.train.model.scan_sam2 import ScanSAM2

if TYPE_CHECKING:
    from panoforge.train.distributed import World

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
    """Held-out clips of a run: panoramas, its own clip settings without augmentation, seed 0
    whatever the run's seed. A damaged one stops the run: a mean over fewer clips would be another
    curve.
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
    """mIoU in [0, 1] over `clips` clips, shared out over the ranks. Leaves the model in train
    mode."""
    model.eval()
    total, objects = 0.0, 0
    try:
        for position in range(world.rank, clips, world.num_ranks):
            batch = source.batch((position,)).to(device)
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
