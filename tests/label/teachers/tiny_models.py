"""Folders of real transformers models with random weights, small enough for a test.

What a class head says is spread out, so that segments are found; no weight is trained.
"""

import json
from pathlib import Path
from typing import Any

import torch

NAMES = {0: "wall", 1: "chair", 2: "sky-other-merged"}
_LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {v: k for k, v in NAMES.items()}}
WIDTH = 128  # SAM3's tracker has memories of 64 channels, and pointers that are wider
_SMALL = {"num_attention_heads": 2, "hidden_dim": 32, "dim_feedforward": 64, "num_queries": 12,
          "encoder_layers": 1, "decoder_layers": 2, "encoder_feedforward_dim": 64}  # fmt: skip


def _swin(transformers: Any) -> Any:
    return transformers.SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def _spread(model: Any) -> Any:
    """Classes and masks that differ by query: at initial weights all are alike and nothing."""
    for name, parameter in model.named_parameters():
        if "class" in name or "mask_embed" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    return model


def mask2former(folder: Path) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.Mask2FormerConfig(
        backbone_config=_swin(transformers), mask_feature_size=32, feature_size=32, **_SMALL,
        **_LABELS,
    )  # fmt: skip
    _spread(transformers.Mask2FormerForUniversalSegmentation(config)).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    transformers.Mask2FormerImageProcessor(size=size, num_labels=3).save_pretrained(folder)
    return folder


def tokenizer(words: str) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {w: k for k, w in enumerate(["<end>", "<start>", *words.split()])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="<end>", pad_token="<end>", bos_token="<start>",
        eos_token="<end>",
    )  # fmt: skip


def oneformer(folder: Path) -> Path:
    import transformers

    torch.manual_seed(1)
    folder.mkdir()
    known = {str(k): {"isthing": int(v == "chair"), "name": v} for k, v in NAMES.items()}
    (folder / "classes.json").write_text(json.dumps(known))
    config = transformers.OneFormerConfig(
        backbone_config=_swin(transformers), mask_dim=32, conv_dim=32, text_encoder_width=32,
        text_encoder_num_layers=1, text_encoder_vocab_size=100, is_training=False,
        query_dec_layers=1, **_SMALL, **_LABELS,
    )  # fmt: skip
    _spread(transformers.OneFormerForUniversalSegmentation(config)).save_pretrained(folder)
    images = transformers.OneFormerImageProcessor(
        repo_path=str(folder), class_info_file="classes.json", size={"height": 64, "width": 64},
        num_labels=3, num_text=4,
    )  # fmt: skip
    transformers.OneFormerProcessor(
        image_processor=images, tokenizer=tokenizer("the task is panoptic"), max_seq_length=77,
        task_seq_length=77,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def depth_anything(folder: Path) -> Path:
    import transformers

    torch.manual_seed(2)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.Dinov2Config(
        image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        mlp_ratio=2, out_features=stages, reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16, head_hidden_size=8, patch_size=14,
    )  # fmt: skip
    model = transformers.DepthAnythingForDepthEstimation(config)
    for parameter in model.head.parameters():
        torch.nn.init.uniform_(parameter, 0.0, 0.2)
    model.save_pretrained(folder)
    transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True
    ).save_pretrained(folder)
    return folder


def dpt(folder: Path) -> Path:
    import transformers

    torch.manual_seed(3)
    config = transformers.DPTConfig(
        image_size=64, patch_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=64, backbone_out_indices=[0, 1, 2, 3], fusion_hidden_size=16,
        neck_hidden_sizes=[16, 16, 16, 16], is_hybrid=False,
    )  # fmt: skip
    model = transformers.DPTForDepthEstimation(config)
    for parameter in model.head.parameters():
        torch.nn.init.uniform_(parameter, 0.0, 0.2)
    model.save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def segformer(folder: Path) -> Path:
    import transformers

    torch.manual_seed(4)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, **_LABELS,
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


_SAM3_SMALL = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 64}
_SAM3_VISION = {
    "backbone_config": {
        "model_type": "sam3_vit_model", "num_hidden_layers": 2, "image_size": 112,
        "pretrain_image_size": 56, "patch_size": 14, "window_size": 4, "global_attn_indexes": [1],
        **_SAM3_SMALL,
    },
    "fpn_hidden_size": WIDTH,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
}  # fmt: skip


def _sam3_config() -> Any:
    import transformers

    return transformers.Sam3Config(
        vision_config=_SAM3_VISION,
        text_config={"num_hidden_layers": 1, "vocab_size": 100, "projection_dim": WIDTH,
                     "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 0,
                     "pad_token_id": 0, **_SAM3_SMALL},
        geometry_encoder_config={"num_layers": 1, **_SAM3_SMALL},
        detr_encoder_config={"num_layers": 1, **_SAM3_SMALL},
        detr_decoder_config={"num_layers": 1, "num_queries": 6, **_SAM3_SMALL},
        mask_decoder_config={"hidden_size": WIDTH, "num_attention_heads": 2},
    )  # fmt: skip


def sam3(folder: Path) -> Path:
    import transformers

    torch.manual_seed(5)
    transformers.Sam3Model(_sam3_config()).save_pretrained(folder)
    transformers.Sam3Processor(
        image_processor=transformers.Sam3ImageProcessor(size={"height": 112, "width": 112}),
        tokenizer=tokenizer("chair lamp"), target_size=112,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def sam3_tracker(folder: Path, seen: float = 1.0) -> Path:
    """`seen` is added to what random weights say of whether the object is there."""
    import transformers

    torch.manual_seed(6)
    vision = {**_SAM3_VISION, "model_type": "sam3_vision_model", "image_size": 112}
    config = transformers.Sam3TrackerVideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": 112, "patch_size": 14},
        mask_decoder_config={"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 2,
                             "iou_head_hidden_dim": WIDTH},
        memory_attention_hidden_size=WIDTH, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64, memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=WIDTH, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=WIDTH, memory_fuser_num_layers=1, memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=64, image_size=112,
    )  # fmt: skip
    model = transformers.Sam3TrackerVideoModel(config)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias += seen
    model.save_pretrained(folder)
    transformers.Sam3TrackerVideoProcessor(
        image_processor=transformers.Sam3ImageProcessor(size={"height": 112, "width": 112}),
        video_processor=transformers.Sam2VideoVideoProcessor(size={"height": 112, "width": 112}),
        target_size=112,
    ).save_pretrained(folder)
    return folder


def sam3_video(folder: Path) -> Path:
    """Detector and tracker in one folder, as SAM3's page offers them."""
    import transformers

    tracker = sam3_tracker(folder / "tracker")
    torch.manual_seed(7)
    config = transformers.Sam3VideoConfig(
        detector_config=_sam3_config().to_dict(),
        tracker_config=transformers.Sam3TrackerVideoConfig.from_pretrained(tracker).to_dict(),
    )
    transformers.Sam3VideoModel(config).save_pretrained(folder)
    transformers.Sam3VideoProcessor(
        image_processor=transformers.Sam3ImageProcessor(size={"height": 112, "width": 112}),
        video_processor=transformers.Sam2VideoVideoProcessor(size={"height": 112, "width": 112}),
        tokenizer=tokenizer("chair lamp"), target_size=112,
    ).save_pretrained(folder)  # fmt: skip
    return folder
