"""Scores of masks, boxes and saliency maps, one idea to a module.

The scores of every evaluation are at hand here.

- `region` J, the IoU of instances; `boundary` F; `sphere` both weighted by solid angle.
- `tracking` the scores of 360VOT for boxes and bounding fields of view.
- `semantics` mIoU of class maps, `depth` and `normals` their errors; `places` the parts of a
  panorama that these are scored on.
- `saliency` MAE, F_β, E- and S-measure; `detection` AP; `stats` intervals and tests.

A published toolkit and the right answer can differ, mostly at the seam. Where they do, a function
takes a `mode`: `official` gives what the toolkit prints, bugs included, so that numbers can stand
beside published ones; `seam-aware` is right.
"""

from panoforge.eval.scoring.metrics.region import (
    RowCounts,
    best_overlaps,
    iou,
    jaccard,
    miou,
    miou_by_image,
    row_counts,
)

__all__ = ["RowCounts", "best_overlaps", "iou", "jaccard", "miou", "miou_by_image", "row_counts"]
