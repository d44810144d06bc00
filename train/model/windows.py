"""A long clip a few frames at a time: back-propagation through time, truncated.

`windows(model, batch, size)` tracks as SAM2Train does, prompted frames first, and yields each
`size` frames with their outputs. The caller takes their loss and its gradient before it asks for
the next. What later frames read of earlier ones (memories, pointers, masks, occlusion scores) is
then kept without a graph. So a clip of a hundred frames holds the graph and the features of one
window. With one window the losses and gradients are those of `ScanSAM2.forward` (tested).
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from panoforge.train.model.scan_sam2 import ScanSAM2

KEPT = ("maskmem_features", "maskmem_pos_enc", "obj_ptr", "pred_masks")


def windows(
    model: ScanSAM2, batch: Any, size: int
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Frame numbers and their outputs, `size` at a time, in the order of tracking.

    `batch` is SAM2's BatchedVideoDatapoint; the outputs are what its losses expect.
    """
    plan = model.prepare_prompt_inputs({"backbone_fpn": None, "vision_pos_enc": None}, batch)
    order = [*plan["init_cond_frames"], *plan["frames_not_in_init_cond"]]
    outputs: dict[str, dict[int, dict[str, Any]]] = {
        "cond_frame_outputs": {},
        "non_cond_frame_outputs": {},
    }
    for start in range(0, len(order), size):
        frames = order[start : start + size]
        features = model.forward_image(batch.img_batch[frames].flatten(0, 1))
        _, levels, positions, sizes = model._prepare_backbone_features(features)
        shown = []
        for place, t in enumerate(frames):
            pictures = batch.obj_to_frame_idx[t, :, 1] + place * batch.num_videos
            prompted = t in plan["init_cond_frames"]
            out = model.track_step(
                frame_idx=t,
                is_init_cond_frame=prompted,
                current_vision_feats=[level[:, pictures] for level in levels],
                current_vision_pos_embeds=[position[:, pictures] for position in positions],
                feat_sizes=sizes,
                point_inputs=plan["point_inputs_per_frame"].get(t),
                mask_inputs=plan["mask_inputs_per_frame"].get(t),
                gt_masks=plan["gt_masks_per_frame"].get(t),
                frames_to_add_correction_pt=plan["frames_to_add_correction_pt"],
                output_dict=outputs,
                num_frames=plan["num_frames"],
            )
            conditions = prompted or (
                model.add_all_frames_to_correct_as_cond and t in plan["frames_to_add_correction_pt"]
            )
            kind = "cond_frame_outputs" if conditions else "non_cond_frame_outputs"
            outputs[kind][t] = out
            shown.append({key: value for key, value in out.items() if key != "obj_ptr"})
        yield frames, shown
        for of_kind in outputs.values():
            of_kind.update({t: _without_graph(out) for t, out in of_kind.items()})


def _without_graph(out: dict[str, Any]) -> dict[str, Any]:
    """What later frames read of an output, detached."""
    scores = out["multistep_object_score_logits"][-1:]
    kept = {key: _detached(out[key]) for key in KEPT if key in out}
    return {**kept, "multistep_object_score_logits": _detached(scores)}


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return None if value is None else [_detached(item) for item in value]
