"""Floating-point operations of one tracked frame with PanoSAM2's parts, beside the paper's table.

One object of SAM2.1 Hiera-T at 1024², in a frame that attends to what SAM2 attends to at most: the
prompted frame, six recent memories and sixteen pointers. Counted with torch's FlopCounterMode (two
operations a multiply-add, which the paper's 686.7 GFLOP for SAM2 are not sure to be), on a CPU, by
part of the model. Nothing is timed and no weight matters.

    python -m bench.panosam2_operations [--quick]      --quick: micro at 256²
"""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.common import arguments, machine
from panoforge.train.model.build import build_model
from panoforge.train.model.scan_sam2 import ScanSAM2
from panoforge.train.settings.sam2 import ModelSettings

PAPER = {"SAM2": 686.7, "PanoSAM2": 728.0}  # GFLOP of Hiera-T, arXiv 2604.07901, table 1
PARTS = ("ImageEncoder", "MemoryAttention", "MaskDecoder", "MemoryEncoder")  # classes of sam2
FRAME = 20  # late enough for six memories and fifteen pointers of tracked frames
VARIANTS: dict[str, dict[str, object]] = {
    "SAM2": {},
    "decoder, fusion 3×3": {"decoder": True},
    "decoder, fusion 1×1": {"decoder": True, "fusion_kernel": 1},
    "decoder without previous mask": {"decoder": True, "previous_mask": False},
    "memory": {"memory": True},
    "decoder and memory": {"decoder": True, "memory": True},
}


def built(parts: dict[str, object], size: str, image_size: int) -> ScanSAM2:
    """An untrained model in eval mode."""
    settings = ModelSettings.model_validate(
        {"size": size, "image_size": image_size, "panosam2": parts, "checkpoint": None}
    )
    return build_model(settings)[0].eval().requires_grad_(False)


def remembered(model: Any) -> dict[str, Any]:
    """The outputs of frames 0 (prompted) to FRAME − 1 of one object, all zeros."""
    side = model.image_size // 16
    out = {
        "maskmem_features": torch.zeros(1, model.mem_dim, side, side),
        "maskmem_pos_enc": [torch.zeros(1, model.mem_dim, side, side)],
        "obj_ptr": torch.zeros(1, model.hidden_dim),
        "object_score_logits": torch.ones(1, 1),
        "pred_masks": torch.zeros(1, 1, model.image_size // 4, model.image_size // 4),
    }
    return {
        "cond_frame_outputs": {0: out},
        "non_cond_frame_outputs": {t: dict(out) for t in range(1, FRAME)},
    }


@torch.no_grad()
def operations(model: Any) -> dict[str, float]:
    """GFLOP of a tracked frame by part, and in all."""
    with FlopCounterMode(display=False) as counter:
        features = model.forward_image(torch.zeros(1, 3, model.image_size, model.image_size))
        _, levels, positions, sizes = model._prepare_backbone_features(features)
        model.track_step(
            frame_idx=FRAME,
            is_init_cond_frame=False,
            current_vision_feats=levels,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=None,
            mask_inputs=None,
            output_dict=remembered(model),
            num_frames=FRAME + 1,
        )
    counts = counter.get_flop_counts()
    found = {part: sum(counts.get(part, {}).values()) / 1e9 for part in PARTS}
    total = counter.get_total_flops() / 1e9
    return {**found, "other": total - sum(found.values()), "all": total}


def main() -> None:
    args = arguments(__doc__).parse_args()
    size, image_size = ("micro", 256) if args.quick else ("tiny", 1024)
    print(f"{machine()}; torch {torch.__version__}; SAM2.1 {size} at {image_size}²")
    heads = ("parts", "image encoder", "memory attention", "mask decoder", "memory encoder")
    print(f"| {' | '.join((*heads, 'other', 'all', 'more'))} |")
    print("|---" * 8 + "|")
    plain = None
    for label, parts in VARIANTS.items():
        found = operations(built(parts, size, image_size))
        plain = found["all"] if plain is None else plain
        cells = " | ".join(f"{value:.1f}" for value in found.values())
        print(f"| {label} | {cells} | {found['all'] - plain:+.1f} |")
    if not args.quick:
        more = PAPER["PanoSAM2"] - PAPER["SAM2"]
        print(f"| paper | | | | | | {PAPER['PanoSAM2']} (SAM2: {PAPER['SAM2']}) | {more:+.1f} |")


if __name__ == "__main__":
    main()
