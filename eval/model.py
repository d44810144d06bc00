"""The SAM2 that is scored: the official video predictor class with weights loaded, and a record of which weights.

Built from the official YAML like the model of `train.model`, whose checkpoint reader and architecture check it uses; so
every checkpoint that training takes or writes can be scored. Post-processing follows `build_sam2_video_predictor`, but
for hole filling, which needs a compiled CUDA extension and is therefore off for everybody.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from eval.config import EvalConfig
from pano.errors import ConfigError
from train.model import BACKBONE_STRIDE, CONFIGS, Weights, load_checkpoint, state_dict_sha256

VIDEO_PREDICTOR = "sam2.sam2_video_predictor.SAM2VideoPredictor"


@dataclass(frozen=True)
class LoadedModel:
    """`model` is a SAM2VideoPredictor in eval mode on its device. `trained_steps` is what the checkpoint says, if it says."""

    model: Any
    weights: Weights
    trained_steps: int | None


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. ConfigError when CUDA is asked for and missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for and torch finds none here; set device: cpu or auto, or see `pano doctor`")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load_model(config: EvalConfig) -> LoadedModel:
    """Build and load the model of a config. Random weights are a function of `config.seed` and leave torch's global
    generator as it was. DataError for a checkpoint that is damaged or of another architecture."""
    settings = config.model
    official = OmegaConf.create(resources.files("sam2").joinpath(CONFIGS[settings.size]).read_text()).model
    node = OmegaConf.merge(official, {
        "_target_": VIDEO_PREDICTOR, "image_size": settings.image_size, "binarize_mask_from_pts_for_mem_enc": True,
        "sam_mask_decoder_extra_args": {
            "dynamic_multimask_via_stability": True, "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    })
    side = settings.image_size // BACKBONE_STRIDE
    for attention in ("self_attention", "cross_attention"):
        node.memory_attention.layer[attention].feat_sizes = [side, side]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = instantiate(node)
    steps = None
    if settings.checkpoint is None:
        weights = Weights(f"random, seed {config.seed}", state_dict_sha256(model.state_dict()), random=True)
    else:
        weights = load_checkpoint(model, settings.checkpoint, settings.size)
        steps = _steps(settings.checkpoint)
    return LoadedModel(model.eval().to(pick_device(config.device)), weights, steps)


def _steps(checkpoint: Any) -> int | None:
    """How many steps of ours a checkpoint had; None for official files, which do not say."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    steps = content.get("step")
    return int(steps) if isinstance(steps, int) else None
