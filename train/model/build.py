"""SAM2.1 for training: built from the official configs, loaded from official checkpoints, frozen by
named parts.

The architecture comes from the YAML files inside the `sam2` package, instantiated directly: no use
of hydra's global state. `image_size` may be lowered for demos and tests; the rotary grid of the
memory attention follows it, as upstream asks. A checkpoint is `{"model": state_dict}` and is only
ever read with `weights_only=True`; one of another architecture is refused with the size it looks
like. PanoSAM2's parts are extra keys under `panosam2.`: a file says which it holds, and a model of
other parts refuses it by name; only a plain SAM2 may begin one with parts.

`micro` is a SAM2.1 of 4 M parameters for work from random weights (bench/learns.py): tiny's YAML
with a narrower, shorter trunk, a width of 128 and one mask per click instead of three, whose choice
is a second thing to learn (so `pano eval` never falls back to three masks either). No official file
fits it.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from panoforge.core.errors import ConfigError, DataError
from panoforge.core.storage.atomic import storage_errors
from panoforge.train.config import ModelSettings, PanoSam2Settings, Part, PromptSettings, Size
from panoforge.train.model.mimetic_init import mimetic
from panoforge.train.model.panosam2.parts import PREFIX as PANO_PREFIX
from panoforge.train.model.panosam2.parts import add_parts
from panoforge.train.model.scan_sam2 import PanoScanSAM2, ScanSAM2

StateDict = dict[str, Tensor]

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
# Width and number of blocks of the trunk tell the sizes apart.
TRUNKS: dict[tuple[int, int], Size] = {
    (32, 6): "micro",
    (96, 12): "tiny",
    (96, 16): "small",
    (112, 24): "base_plus",
    (144, 48): "large",
}
PARTS: dict[Part, tuple[str, ...]] = {
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
_PATCH_KEY = "image_encoder.trunk.patch_embed.proj.weight"
_SAM21_KEY = "no_obj_embed_spatial"  # SAM 2.0 has none


@dataclass(frozen=True)
class Weights:
    """Where a model's first weights came from. `sha256` is of the file, or of the state dict where
    they are random.
    """

    source: str
    sha256: str
    random: bool


def build_model(
    settings: ModelSettings, prompt: PromptSettings = PromptSettings(), *, seed: int = 0
) -> tuple[ScanSAM2, Weights]:
    """The model in train mode, its frozen parts frozen, and where its weights came from. Random
    weights are a function of `seed`; torch's global generator is left as it was.
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
    """The official YAML's `model` node with our class, image size, prompt probabilities and drop
    path.
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


def freeze(model: nn.Module, parts: tuple[Part, ...]) -> None:
    """Stop training the named parts."""
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"model.frozen {list(parts)} leaves nothing to train: remove a part from it"
        )


def load_checkpoint(
    model: nn.Module, path: Path, size: Size, parts: PanoSam2Settings = PanoSam2Settings()
) -> Weights:
    """Load an official SAM2.1 checkpoint, or one of ours (its `model` is the same). DataError when
    it is damaged, holds something else, or is of another architecture or of other PanoSAM2 parts.
    `parts` are the model's: those start afresh where the file is a plain SAM2.
    """
    state = read_checkpoint(path)
    expected = model.state_dict()
    found = parts_in(state)
    if found and found != parts.record():
        raise DataError(
            f"{path} holds PanoSAM2's parts {found} (keys under {PANO_PREFIX}), the model here has "
            f"{parts.record() or 'none of them'}: set model.panosam2 to what the file holds"
        )
    if not found:
        state = {
            **{key: value for key, value in expected.items() if key.startswith(PANO_PREFIX)},
            **state,
        }
    check_architecture(state, expected, path, size)
    model.load_state_dict(state)
    return Weights(path.name, file_sha256(path), random=False)


def parts_in(state: StateDict) -> dict[str, bool | int]:
    """PanoSAM2's parts in a state dict, as `PanoSam2Settings.record` has them; the bank's size is
    no weight and read from the buffer that keeps it.
    """
    decoder, memory = (
        any(key.startswith(f"{PANO_PREFIX}{part}.") for key in state)
        for part in ("decoder", "memory")
    )
    found: dict[str, bool | int] = {}
    if decoder:
        found |= {
            "decoder": True,
            "previous_mask": f"{PANO_PREFIX}decoder.fusion.mix.weight" in state,
        }
    if memory:
        found |= {
            "memory": True,
            "long_pointers": int(state.get(f"{PANO_PREFIX}memory.size", torch.tensor(0))),
        }
    return found


def read_checkpoint(path: Path) -> StateDict:
    """The state dict of `{"model": state_dict}`, or of a .safetensors file; nothing but tensors is
    ever unpickled.
    """
    with storage_errors(path), open(path, "rb") as file:
        if not file.read(1):
            raise DataError(
                f"{path} is empty: expected an official SAM2.1 checkpoint, download or copy it"
                " again"
            )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises half a dozen types here, by the kind of damage
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{path} cannot be read as a checkpoint: truncated, damaged, or holding more than"
            f" tensors ({type(error).__name__}: {reason[0] if reason else ''}). Download or copy it"
            " again"
        ) from None
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = (
            sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        )
        raise DataError(
            f'{path} is no official SAM2 checkpoint: expected {{"model": state_dict}}, found'
            f" {found}"
        )
    return state


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(
            f"{path} cannot be read as safetensors: truncated, damaged, or something else"
            f" ({error}). Copy or export it again"
        ) from None


def check_architecture(state: StateDict, expected: StateDict, path: Path, size: Size) -> None:
    """DataError unless `state` has the keys and shapes of `expected`, all values finite."""
    missing, unexpected = (
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
    )
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        example = _difference(state, expected)
        raise DataError(
            f"{path} does not fit model.size={size}: it looks like {looks_like(state)}"
            f" ({len(missing)} keys missing, {len(unexpected)} unknown, {len(shapes)} of another"
            f" shape; {example}). Set model.size to the checkpoint's, or give another file"
        )
    damaged = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if damaged:
        raise DataError(
            f"{path}: {len(damaged)} tensors hold NaN or infinity (first: {damaged[0]}): it is"
            " damaged or comes from a run that diverged; take an earlier one"
        )


def _difference(state: StateDict, expected: StateDict) -> str:
    """The first key in which two state dicts differ."""
    key = min(
        k
        for k in expected.keys() | state.keys()
        if k not in expected or k not in state or expected[k].shape != state[k].shape
    )
    if key not in state:
        return f"it lacks {key}"
    if key not in expected:
        return f"it has {key}"
    return f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"


def looks_like(state: StateDict) -> str:
    """What a state dict seems to be, for messages."""
    if _PATCH_KEY not in state:
        return "no SAM2 at all"
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    size = TRUNKS.get((state[_PATCH_KEY].shape[0], len(blocks)))
    family = "SAM 2.1" if _SAM21_KEY in state else "SAM 2.0 (not 2.1)"
    return (
        f"{family} {size}"
        if size
        else f"{family} with a trunk of {len(blocks)} blocks of width {state[_PATCH_KEY].shape[0]}"
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with storage_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_dict_sha256(state: StateDict) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
