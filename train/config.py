"""What a training run is: one pydantic model, validated before torch is imported.

Defaults are SAM2's own fine-tuning recipe (sam2.1_hiera_b+_MOSE_finetune.yaml of sam2 1.1.0) with
SAP's choices on top: scan clips, 90° views with 50 % overlap, encoder frozen. SAP publishes neither
its learning rate nor its steps, so those stay SAM2's. `numbers()` is the part that decides the
weights a run ends with; a run is resumed only under the same one.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.geometry.scan import ScanSpec, scan_grid
from panoforge.core.models import FrozenModel

Size = Literal["micro", "tiny", "small", "base_plus", "large"]
Part = Literal[
    "image_encoder",
    "trunk",
    "neck",
    "memory_attention",
    "memory_encoder",
    "prompt_encoder",
    "mask_decoder",
    "object_pointers",
    "memory_embeddings",
    "panosam2",
]
SourceKind = Literal["shards", "sa1b", "sav", "vos", "coco"]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]

SIZE_STEP_PX = 32  # the trunk's coarsest stride, and 8-pixel windows at stride 4
SCHEDULE_ONLY = (
    "checkpoint_every",
    "keep_last_k",
    "log_every",
    "device",
    "devices",
    "loader_threads",
    "torch_threads",
    "prefetch",
    "tensorboard",
    "rank_timeout_s",
    "max_bad_samples",
    "validate_every",
    "validate_clips",
    "validate_split",
    "async_save",
    "export",
    "recompute",
    "picture_every",
    "wandb",
)

# Off by default: left out of `numbers` where they are, so that runs begun before them go on.
ADDED_LATER: dict[str, tuple[str, ...]] = {
    "clip": ("frames_are", "turn_deg", "tilt_jitter_deg", "affine_deg", "shear_deg"),
    "model": ("panosam2", "initial"),
    "loss": ("distortion",),
}


class PanoSam2Settings(FrozenModel):
    """PanoSAM2's parts of the model (panoforge.train.model.panosam2), for panoramas shown whole.
    All off is plain SAM2.
    """

    decoder: bool = False  # convolutions that wrap at the seam
    previous_mask: bool = True  # with the decoder: the previous frame's mask fused in
    memory: bool = False  # long-short memory
    long_pointers: Annotated[int, Field(ge=1, le=16)] = (
        2  # object pointers of old frames that it keeps
    )

    def record(self) -> dict[str, bool | int]:
        """What a checkpoint says of them: only what is there. Empty for plain SAM2."""
        decoder: dict[str, bool | int] = (
            {"decoder": True, "previous_mask": self.previous_mask} if self.decoder else {}
        )
        return {
            **decoder,
            **({"memory": True, "long_pointers": self.long_pointers} if self.memory else {}),
        }


class ModelSettings(FrozenModel):
    """Which SAM2.1, from which weights, with what frozen. `micro` is no official size: see
    panoforge.train.model.build.
    """

    size: Size = "tiny"
    image_size: Annotated[int, Field(ge=64, le=2048, multiple_of=SIZE_STEP_PX)] = 1024
    checkpoint: Path | None = None  # an official SAM2.1 file; null = random weights
    frozen: tuple[Part, ...] = ("image_encoder",)
    drop_path: Probability = 0.1  # of the trunk, when it is trained
    panosam2: PanoSam2Settings = PanoSam2Settings()
    initial: Literal["sam2", "mimetic"] = (
        # random weights: SAM2's own, or panoforge.train.model.mimetic_init's for starting from
        # nothing
        "sam2"
    )


class ClipSettings(FrozenModel):
    """What one training video is: consecutive frames of a scan at random yaw."""

    frames: Annotated[int, Field(ge=1, le=64)] = 8
    frames_are: Literal["views", "panorama"] = (
        "views"  # of a scan (SAP), or the whole panorama, turning (what PanoSAM2 is for)
    )
    turn_deg: Annotated[float, Field(ge=0, le=90)] = 15.0  # of a whole panorama from frame to frame
    fov_deg: Annotated[float, Field(ge=20, le=120)] = 90.0
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    fov_jitter_deg: Annotated[float, Field(ge=0, le=30)] = 0.0  # uniform ±, one draw a clip
    tilt_jitter_deg: Annotated[float, Field(ge=0, le=45)] = (
        0.0  # the scan's axis leans: uniform up to this, to any side
    )
    affine_deg: Annotated[float, Field(ge=0, le=45)] = (
        0.0  # rotation of all frames in their plane: uniform ± (SAM2: 25)
    )
    shear_deg: Annotated[float, Field(ge=0, le=45)] = (
        0.0  # uniform ±, after the rotation (SAM2: 20)
    )
    reverse: Probability = 0.0  # the scan run backwards
    flip: Probability = 0.5  # left-right, the whole clip
    # strength; 1 = SAM2's brightness 0.1, contrast 0.03, saturation 0.03 and its per-frame half
    colour_jitter: Probability = 1.0
    grayscale: Probability = 0.05
    max_objects: Positive = 3
    min_area_sr: Annotated[float, Field(gt=0)] = (
        0.002  # in the first frame; about 22×22 px of a 1024² view at 90°
    )
    area_power: Annotated[float, Field(ge=0, le=4)] = (
        0.0  # objects are drawn with chance ∝ area^power; 0 = SAM2's uniform draw
    )
    clips_per_panorama: Positive = 1  # in one epoch


class PromptSettings(FrozenModel):
    """How prompts are drawn (training/model/sam2.py): mask 50 %, box 25 %, click 25 %, with
    correction clicks.
    """

    points: Probability = 0.5  # points or boxes rather than the mask
    box: Probability = 0.5  # a box rather than a click, given points
    max_prompted_frames: Positive = 2  # 1 … this many, the first always
    max_corrected_frames: Positive = 2
    corrections: Count = 7  # clicks per corrected frame
    from_truth: Probability = 0.1  # a correction drawn from the true mask, not from the error
    sphere_click: Probability = (
        0.0  # of panoramas: instead of the above, SAP's one click in every frame that sees it
    )

    @model_validator(mode="after")
    def _corrected(self) -> Self:
        if self.max_corrected_frames < self.max_prompted_frames:
            raise ValueError(
                f"max_corrected_frames ({self.max_corrected_frames}) must be at least"
                f" max_prompted_frames ({self.max_prompted_frames}): SAM2 corrects every frame that"
                " it prompts with points"
            )
        return self


class SourceSettings(FrozenModel):
    """One entry of `mixture`: the panorama shards, or another dataset
    (panoforge.train.data.sources).
    """

    kind: SourceKind
    weight: Annotated[float, Field(gt=0)]  # share of clips, relative to the other entries
    folder: Path | None = None  # of the dataset; none for the shards
    split: str | None = (
        None  # vos: its folder (train, val); coco: the part after instances_ (train2017)
    )
    annotations: Literal["manual", "auto"] = "manual"  # sav: drawn by people, or found by SAM2
    frame_step: Positive = 1  # vos: every so many annotated frames
    min_area_share: Annotated[float, Field(gt=0, lt=1)] = (
        0.0005  # of the first frame; about 23×23 px of 1024²
    )

    @model_validator(mode="after")
    def _has_its_folder(self) -> Self:
        if (self.folder is None) != (self.kind == "shards"):
            raise ValueError(
                "a mixture entry of kind shards takes no folder (it is the run's dataset)"
                if self.folder
                else f"a mixture entry of kind {self.kind} needs folder: where that dataset lies"
            )
        return self


class DistortionSettings(FrozenModel):
    """PanoSAM2's distortion-guided mask loss (panoforge.train.losses.distortion_loss), for
    panoramas shown whole.
    """

    weight_min: Annotated[float, Field(gt=0)] = 0.5
    weight_max: Annotated[float, Field(gt=0)] = 2.0
    decay: Rate = (
        1.0  # of the background's weight, over the distance to the object as a share of the largest
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"weight_min ({self.weight_min}) must not be above weight_max ({self.weight_max})"
            )
        return self


class LossSettings(FrozenModel):
    """Weights of `MultiStepMultiMasksAndIous`: focal, dice, IoU and objectness."""

    mask: Rate = 20.0
    dice: Rate = 1.0
    iou: Rate = 1.0
    objectness: Rate = 1.0
    distortion: DistortionSettings | None = None  # null: every pixel counts alike, as in SAM2


class OptimSettings(FrozenModel):
    """AdamW with a cosine schedule."""

    lr: Annotated[float, Field(gt=0)] = 5e-6
    encoder_lr: Annotated[float, Field(gt=0)] = 3e-6
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.9  # per trunk block, counted from the last
    weight_decay: Rate = 0.1  # none on biases and norms
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    final_lr_ratio: Probability = 0.1
    warmup_steps: Count = 0
    grad_clip: Annotated[float, Field(gt=0)] = 0.1  # L2 norm of the whole gradient


class TrainConfig(FrozenModel):
    """One run of `pano train`. A step takes `clips_per_step` clips whatever the number of
    processes; each process runs its share `clips_per_forward` at a time and adds up the gradients.
    """

    model: ModelSettings = ModelSettings()
    clip: ClipSettings = ClipSettings()
    prompt: PromptSettings = PromptSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    split: str = "train"
    mixture: dict[str, SourceSettings] = {}  # by a name of your own; empty = the shards alone
    steps: Positive = 1000
    clips_per_step: Positive = 8
    clips_per_forward: Positive = 1
    objects_per_forward: Count = (
        0  # of a forward pass's objects, this many at a time (0 = all): less memory, same sum
    )
    seed: Count = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # activation checkpointing: keep inputs only, compute again in the backward pass; same gradients
    recompute: bool = False
    # torch.compile of the image encoder and the memory attention; first steps take minutes
    compile: bool = False
    on_bad_loss: Literal["stop", "skip"] = "stop"
    max_skipped_steps: Count = 10  # with on_bad_loss=skip
    # damaged images or videos left out (named, never replaced) before the run stops; 0 = stop at
    # once
    max_bad_samples: Count = 0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0 = no averaged weights
    validate_every: Count = 0  # steps between mIoUs on validate_split; 0 = never
    validate_clips: Positive = 16
    validate_split: str = "val"
    checkpoint_every: Positive = 100
    keep_last_k: Positive = 3
    # checkpoints are written beside the training; a failed write stops the run at its next step
    async_save: bool = True
    export: tuple[
        Literal["safetensors"], ...
    ] = ()  # formats of the final weights besides model.pt, SAM2's own
    log_every: Positive = 10  # plain lines; metrics.jsonl has every step
    tensorboard: bool = False
    wandb: str | None = (
        None  # a Weights & Biases project to log to as well; needs the package `wandb`
    )
    # steps between pictures of predictions on a training clip (pictures/ and TensorBoard); 0 =
    # never
    picture_every: Count = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Positive = 1  # processes on this machine
    rank_timeout_s: Annotated[float, Field(gt=0)] = (
        50.0  # a rank that others wait for longer than this ends the run
    )
    loader_threads: Positive = 2
    torch_threads: Count = 0  # 0 = torch's own choice
    prefetch: Positive = 2  # forward passes prepared ahead

    @model_validator(mode="after")
    def _divides(self) -> Self:
        share = self.clips_per_forward * self.devices
        if self.clips_per_step % share:
            raise ValueError(
                f"clips_per_step ({self.clips_per_step}) must be a multiple of clips_per_forward ×"
                f" devices ({share}): every process takes the same share of a step"
            )
        return self

    @model_validator(mode="after")
    def _one_line_of_panoramas(self) -> Self:
        shards = [name for name, entry in self.mixture.items() if entry.kind == "shards"]
        if len(shards) > 1:
            raise ValueError(
                f"mixture entries {shards} are all the run's shards and would show every clip"
                f" {len(shards)} times: keep one, and add up their weights"
            )
        return self

    @model_validator(mode="after")
    def _objects_share_an_encoding(self) -> Self:
        if self.objects_per_forward and "image_encoder" not in self.model.frozen:
            raise ValueError(
                "objects_per_forward needs image_encoder in model.frozen: groups of objects share"
                " its output, which must then need no gradient"
            )
        return self

    @model_validator(mode="after")
    def _clip_fits_scan(self) -> Self:
        grid = scan_grid(ScanSpec(self.clip.fov_deg, self.clip.overlap))
        frames = grid.columns * len(grid.pitches_deg)
        if self.clip.frames > frames and self.clip.frames_are == "views":
            raise ValueError(
                f"clip.frames ({self.clip.frames}) is more than the {frames} frames of a scan at"
                f" fov_deg {self.clip.fov_deg} and overlap {self.clip.overlap}: lower it, or raise"
                " clip.overlap"
            )
        return self

    @model_validator(mode="after")
    def _panoramas_for_panosam2(self) -> Self:
        wanted = [
            name
            for name, on in (
                ("model.panosam2.decoder", self.model.panosam2.decoder),
                ("loss.distortion", self.loss.distortion is not None),
            )
            if on
        ]
        shards = not self.mixture or any(entry.kind == "shards" for entry in self.mixture.values())
        if wanted and shards and self.clip.frames_are == "views":
            raise ValueError(
                f"{' and '.join(wanted)} need frames that are whole panoramas, as a perspective"
                " view has no seam: set clip.frames_are to panorama"
            )
        return self

    @model_validator(mode="after")
    def _prompted_frames_exist(self) -> Self:
        prompted = max(self.prompt.max_prompted_frames, self.prompt.max_corrected_frames)
        if self.clip.frames > 1 and prompted > self.clip.frames:
            raise ValueError(
                f"prompt.max_prompted_frames and max_corrected_frames (up to {prompted}) must not"
                f" exceed clip.frames ({self.clip.frames})"
            )
        return self

    def numbers(self) -> dict:
        """The keys that decide the weights, as plain JSON: all but where things lie and how often
        they are written or run. A mixture's datasets are known by their digest, not by their
        folder. What came later and is off is left out, so that runs begun before it go on.
        """
        numbers = {
            key: value
            for key, value in self.model_dump(mode="json").items()
            if key not in SCHEDULE_ONLY
        }
        numbers["mixture"] = {
            name: {k: v for k, v in entry.items() if k != "folder"}
            for name, entry in numbers["mixture"].items()
        }
        if not self.mixture:
            del numbers["mixture"]
        if not self.prompt.sphere_click:
            del numbers["prompt"]["sphere_click"]
        if not self.compile:
            del numbers["compile"]
        for section, keys in ADDED_LATER.items():
            fresh = type(getattr(self, section))().model_dump(mode="json")
            for key in keys:
                if numbers[section][key] == fresh[key]:
                    del numbers[section][key]
        return numbers

    def sha256(self) -> str:
        """Digest of `numbers()`."""
        return hashlib.sha256(json.dumps(self.numbers(), sort_keys=True).encode()).hexdigest()
