"""SAM2.1 for training: built from the official configs, frozen by named parts.

The architecture comes from the YAML files inside the `sam2` package, instantiated directly: no use
of hydra's global state. `image_size` may be lowered for demos and tests; the rotary grid of the
memory attention follows it, as upstream asks. Checkpoints are read by
`panoforge.train.model.checkpoint_io`.

`micro` is a SAM2.1 of 4 M parameters for work from random weights (bench/learns.py). It is tiny's
YAML with a narrower, shorter trunk and a width of 128. It gives one mask per click instead of
three, whose choice is a second thing to learn; so `pano eval` never falls back to three masks
either. No official file fits it.
"""

from importlib import resources
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from panoforge.core.errors import ConfigError
from panoforge.train.model.checkpoint_export import state_dict_sha256
from panoforge.train.model.checkpoint_io import Weights, load_checkpoint
from panoforge.train.model.mimetic_init import mimetic
from panoforge.train.model.panosam2.parts import PREFIX as PANO_PREFIX
from panoforge.train.model.panosam2.parts import add_parts
from panoforge.train.model.scan_sam2 import PanoScanSAM2, ScanSAM2
from panoforge.train.settings.clips import PromptSettings
from panoforge.train.settings.sam2 import ModelPart, ModelSettings, Size

CONFIGS: dict[Size, str] = {
    "tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "base_plus": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "large": "configs/sam2.1/sam2.1_hiera_l.yaml",
}
_MICRO_ATTENTION = {"embedding_dim": 128, "dropout": 0.0}
MICRO = {
    "image_encoder": {
        "trunk": {
            "embed_dim": 32,
            "stages": [1, 2, 2, 1],
            "global_att_blocks": [4],
            "window_spec": [8, 4, 8, 4],
        },
        "neck": {
            "d_model": 128,
            "backbone_channel_list": [256, 128, 64, 32],
            "position_encoding": {"num_pos_feats": 128},
        },
    },
    "memory_attention": {
        "d_model": 128,
        "num_layers": 2,
        "layer": {
            "d_model": 128,
            "dim_feedforward": 512,
            "dropout": 0.0,
            "self_attention": _MICRO_ATTENTION,
            "cross_attention": _MICRO_ATTENTION,
        },
    },
    "memory_encoder": {
        "in_dim": 128,
        "mask_downsampler": {"embed_dim": 128},
        "fuser": {"layer": {"dim": 128}},
    },
    "multimask_output_in_sam": False,
    "multimask_output_for_tracking": False,
    "use_multimask_token_for_obj_ptr": False,
}
PARTS: dict[ModelPart, tuple[str, ...]] = {
    "image_encoder": ("image_encoder.",),
    "trunk": ("image_encoder.trunk.",),
    "neck": ("image_encoder.neck.",),
    "memory_attention": ("memory_attention.",),
    "memory_encoder": ("memory_encoder.",),
    "prompt_encoder": ("sam_prompt_encoder.",),
    "mask_decoder": ("sam_mask_decoder.",),
    "object_pointers": ("obj_ptr_proj.", "obj_ptr_tpos_proj.", "no_obj_ptr", "mask_downsample."),
    "panosam2": (PANO_PREFIX,),
    "memory_embeddings": (
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_mem_pos_enc",
        "no_obj_embed_spatial",
    ),
}
BACKBONE_STRIDE = 16


def build_model(
    settings: ModelSettings, prompt: PromptSettings = PromptSettings(), *, seed: int = 0
) -> tuple[ScanSAM2, Weights]:
    """The model in train mode, its frozen parts frozen, and where its weights came from.

    Random weights are a function of `seed`; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate(model_config(settings, prompt))
        if settings.panosam2.record():
            add_parts(model, settings.panosam2)
        if settings.initial == "mimetic":
            mimetic(model)
    if settings.checkpoint is None:
        weights = Weights(
            f"random, seed {seed}", state_dict_sha256(model.state_dict()), random=True
        )
    else:
        weights = load_checkpoint(model, settings.checkpoint, settings.size, settings.panosam2)
    freeze(model, settings.frozen)
    if settings.panosam2.decoder and settings.panosam2.previous_mask:
        model.memory_encoder.mask_downsampler.requires_grad_(
            False
        )  # §3.1: the fusion reads it, nothing changes it
    model.sphere_click = prompt.sphere_click
    return model.train(), weights


def model_config(settings: ModelSettings, prompt: PromptSettings) -> Any:
    """The official YAML's `model` node with our class and our settings.

    Image size, prompt probabilities and drop path.
    """
    kind = PanoScanSAM2 if settings.panosam2.record() else ScanSAM2
    return OmegaConf.merge(
        architecture(settings.size, settings.image_size),
        {
            "_target_": f"{kind.__module__}.{kind.__qualname__}",
            "prob_to_use_pt_input_for_train": prompt.points,
            "prob_to_use_box_input_for_train": prompt.box,
            "prob_to_sample_from_gt_for_train": prompt.from_truth,
            "num_init_cond_frames_for_train": prompt.max_prompted_frames,
            "num_frames_to_correct_for_train": prompt.max_corrected_frames,
            "prob_to_use_pt_input_for_eval": 1.0,  # validation: one click
            "rand_init_cond_frames_for_train": True,
            "rand_frames_to_correct_for_train": True,
            "add_all_frames_to_correct_as_cond": True,
            "num_correction_pt_per_frame": prompt.corrections,
            "image_encoder": {"trunk": {"drop_path_rate": settings.drop_path}},
        },
    )


def architecture(size: Size, image_size: int) -> Any:
    """The `model` node of a size's YAML for square images of `image_size`."""
    official = OmegaConf.create(
        resources.files("sam2").joinpath(CONFIGS["tiny" if size == "micro" else size]).read_text()
    ).model
    config = OmegaConf.merge(official, MICRO if size == "micro" else {}, {"image_size": image_size})
    side = image_size // BACKBONE_STRIDE
    for attention in ("self_attention", "cross_attention"):
        config.memory_attention.layer[attention].feat_sizes = [side, side]
    return config


def freeze(model: nn.Module, parts: tuple[ModelPart, ...]) -> None:
    """Stop training the named parts."""
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"model.frozen {list(parts)} leaves nothing to train: remove a part from it"
        )
