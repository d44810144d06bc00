"""The vision transformer that MTPano stands on: the small one, or one of the user's from a folder.

A folder is DINOv2 or DINOv3 as `transformers` saves it: config.json and model.safetensors. Nothing
is downloaded, nothing of the folder is run. Its config gives the architecture, and the weights must
fit it key by key. DINO's own position codes know no seam: a turned picture gives features that are
turned in part only.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from panoforge.core.errors import ConfigError, DataError, UsageError, first_line
from panoforge.core.foreign.files import read_bytes
from panoforge.core.numbers import counted
from panoforge.train.model.checkpoint_export import file_sha256
from panoforge.train.model.checkpoint_io import check_size
from panoforge.train.model.mtpano.vit import PanoViT
from panoforge.train.settings.mtpano import LEVELS, BackboneSettings

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
MAX_CONFIG_BYTES = 1 << 20
MOST = {"hidden_size": 8192, "num_hidden_layers": 64, "patch_size": 32, "image_size": 4096}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_levels(depth: int) -> tuple[int, ...]:
    """The four of `depth` blocks (from 0) that DPT reads: the ends of the quarters."""
    return tuple(depth * (level + 1) // LEVELS - 1 for level in range(LEVELS))


class Backbone(nn.Module):
    """Pictures B×3×H×W in [0, 1] → four layers B×channels×h×w."""

    def __init__(self, settings: BackboneSettings, config: str | None = None) -> None:
        """Args: settings; config: the text of a folder's config.json, None for the small ViT."""
        super().__init__()
        self.config, self.recompute = config, False
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        if config is None:
            self.channels = settings.width
            self.vit: nn.Module = PanoViT(
                settings.patch_px,
                settings.width,
                settings.depth,
                settings.heads,
                read_levels(settings.depth),
            )
        else:
            self.vit = Dino(config)
            self.channels = self.vit.channels
        if settings.frozen:
            self.vit.requires_grad_(False)

    mean: Tensor
    std: Tensor

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """The four layers."""
        normalised = (rgb - self.mean) / self.std
        if self.recompute and self.training:
            return checkpoint(self.vit, normalised, use_reentrant=False)
        layers: list[Tensor] = self.vit(normalised)
        return layers


class Dino(nn.Module):
    """A DINO of `transformers` whose hidden states are read, each after its last norm."""

    def __init__(self, config: str) -> None:
        super().__init__()
        values = parse_config(config)
        auto_config, auto_model = _transformers()
        kind = values.pop("model_type")
        self.model: Any = auto_model.from_config(auto_config.for_model(kind, **values))
        self.channels: int = values["hidden_size"]
        self.patch_px: int = values["patch_size"]
        self.layers = read_levels(values["num_hidden_layers"])
        norms = [getattr(self.model, name, None) for name in ("layernorm", "norm")]
        self.norm = next(norm for norm in norms if norm is not None)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Normalised pictures → the four layers."""
        height, width = (side // self.patch_px for side in rgb.shape[-2:])
        states = self.model(rgb, output_hidden_states=True).hidden_states
        return [
            self.norm(states[layer + 1])[:, -height * width :].mT.unflatten(-1, (height, width))
            for layer in self.layers
        ]


def parse_config(text: str) -> dict[str, Any]:
    """The plain values of a config.json. DataError for one of another architecture."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    kind = found.get("model_type") if isinstance(found, dict) else None
    if isinstance(found, dict) and kind is None and isinstance(found.get("architecture"), str):
        raise DataError(
            f"{CONFIG_FILE} of the backbone: expected model_type {', '.join(KINDS)}, got a folder"
            f" of timm ({found['architecture'][:80]!r}), whose keys have other names: take the same"
            " weights as transformers saves them, or leave model.backbone.folder out"
        )
    if not isinstance(found, dict) or kind not in KINDS:
        raise DataError(
            f"{CONFIG_FILE} of the backbone: expected model_type {', '.join(KINDS)}, got"
            f" {kind!r}: take a folder of DINOv2 or DINOv3, or leave model.backbone.folder out"
        )
    for key, most in MOST.items():
        value = found.get(key)
        if not isinstance(value, int) or not 0 < value <= most:
            raise DataError(
                f"{CONFIG_FILE} of the backbone: {key} is {value!r}, expected a whole number up to"
                f" {most}: it is damaged or of another model"
            )
    if found["num_hidden_layers"] < LEVELS:
        raise DataError(
            f"{CONFIG_FILE} of the backbone: num_hidden_layers is {found['num_hidden_layers']}, and"
            f" {LEVELS} are read: take a larger model"
        )
    return {k: v for k, v in found.items() if isinstance(v, bool | int | float | str)}


def read_folder(settings: BackboneSettings) -> tuple[str, Path]:
    """The text of a folder's config.json and where its weights are.

    DataError where the folder is no DINO's, as of any other weights; ConfigError where the config
    says another patch size.
    """
    folder = settings.folder
    assert folder is not None
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config, weights):
        if not path.is_file():
            raise DataError(
                f"{folder}: expected {CONFIG_FILE} and {WEIGHTS_FILE} of a DINOv2 or DINOv3 in one"
                f" file, there is no {path.name}. Save it so with transformers' save_pretrained"
            )
    try:
        text = read_bytes(config, MAX_CONFIG_BYTES).decode()
    except UnicodeDecodeError:
        raise DataError(f"{config}: expected JSON, it is no text") from None
    try:
        patch_px = parse_config(text)["patch_size"]
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    if patch_px != settings.patch_px:
        raise ConfigError(
            f"{folder}: its patches are {patch_px} px, model.backbone.patch_px is"
            f" {settings.patch_px}: set that to {patch_px}"
        )
    return text, weights


def load_weights(backbone: Backbone, path: Path) -> str:
    """Load a folder's weights; gives the file's SHA-256. DataError unless every key fits."""
    check_size(path)
    sha256 = file_sha256(path)
    _, auto_model = _transformers()
    dino: Any = backbone.vit
    try:
        # It knows the names that keys have in files, which are not those of its modules.
        found, info = auto_model.from_pretrained(
            str(path.parent),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        wrong = sorted(
            {
                *info["missing_keys"],
                *info["unexpected_keys"],
                *(str(key[0]) for key in info["mismatched_keys"]),
            }
        )
        if not wrong:
            dino.model.load_state_dict(found.state_dict())
            return sha256
        said = (
            f"{counted(len(wrong), 'key')} missing, unknown or of another shape, first {wrong[0]}"
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        said = first_line(error)[:200]
    raise DataError(
        f"{path} does not fit its {CONFIG_FILE} ({said}): take both files from one model"
    )


def _transformers() -> tuple[Any, Any]:
    """AutoConfig and AutoModel. UsageError where the package is not there."""
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise UsageError(
            "model.backbone.folder needs the package transformers, which is not installed here:"
            " `pip install transformers`, or leave folder out for a small ViT from random weights"
        ) from None
    return AutoConfig, AutoModel
