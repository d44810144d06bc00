"""The SAM2 that is scored.

The official video predictor class with weights loaded, and a record of which weights.

Built from the official YAML like the model of `panoforge.train.model.build`, whose checkpoint
reader and architecture check it uses; so every checkpoint that training takes or writes can be
scored. Post-processing follows `build_sam2_video_predictor`, but for hole filling, which needs a
compiled CUDA extension and is therefore off for everybody. A checkpoint that holds PanoSAM2's parts
(panoforge.train.model.panosam2) says so, and the predictor is built with them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.sam2_video_predictor import SAM2VideoPredictor

from panoforge.core.errors import ConfigError
from panoforge.eval.config import EvalConfig, ModelConfig
from panoforge.train.model.build import architecture
from panoforge.train.model.checkpoint_export import state_dict_sha256
from panoforge.train.model.checkpoint_io import Weights, load_checkpoint, open_checkpoint
from panoforge.train.model.panosam2.parts import PanoParts, add_parts
from panoforge.train.settings.sam2 import PanoSam2Settings, Sam2Settings


class PanoVideoPredictor(PanoParts, SAM2VideoPredictor):
    """SAM2's video predictor with PanoSAM2's parts."""


@dataclass(frozen=True)
class LoadedModel:
    """`model` is a SAM2VideoPredictor in eval mode on its device.

    `trained_steps` is what the checkpoint says, if it says; `parts` are PanoSAM2's.
    """

    model: Any
    weights: Weights
    trained_steps: int | None
    parts: PanoSam2Settings


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. ConfigError when CUDA is asked for and missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for and torch finds none here; set device: cpu or auto, or see"
            " `pano doctor`"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def predictor_config(settings: Sam2Settings, kind: type[SAM2VideoPredictor]) -> Any:
    """The official YAML's `model` node as `build_sam2_video_predictor` completes it."""
    return OmegaConf.merge(
        architecture(settings.size, settings.image_size),
        {
            "_target_": f"{kind.__module__}.{kind.__qualname__}",
            "binarize_mask_from_pts_for_mem_enc": True,
            "sam_mask_decoder_extra_args": {
                "dynamic_multimask_via_stability": settings.size != "micro",
                "dynamic_multimask_stability_delta": 0.05,
                "dynamic_multimask_stability_thresh": 0.98,
            },
        },
    )


def load_model(config: EvalConfig) -> LoadedModel:
    """Build and load the model of a config, as `load_weights` does."""
    return load_weights(config.model, config.seed, config.device)


def load_weights(settings: ModelConfig, seed: int, device: str) -> LoadedModel:
    """Build and load a model.

    Random weights are a function of `seed` and leave torch's global generator as it was. DataError
    for a checkpoint that is damaged or of another architecture.
    """
    file = settings.checkpoint_file
    checkpoint = None if file is None else open_checkpoint(file)
    found = {} if checkpoint is None else checkpoint.parts
    parts = PanoSam2Settings.model_validate(found)
    node = predictor_config(settings, PanoVideoPredictor if found else SAM2VideoPredictor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate(node)
        if found:
            add_parts(model, parts)
    if checkpoint is None:
        weights = Weights(
            f"random, seed {seed}", state_dict_sha256(model.state_dict()), random=True
        )
    else:
        weights = load_checkpoint(model, checkpoint, settings.size, parts)
    steps = None if checkpoint is None else checkpoint.step
    return LoadedModel(model.eval().to(pick_device(device)), weights, steps, parts)
