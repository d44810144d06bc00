"""What a training run is: one pydantic model, validated before torch is imported.

Its sections stand in `settings`.

Defaults are SAM2's own fine-tuning recipe (sam2.1_hiera_b+_MOSE_finetune.yaml of sam2 1.1.0) with
SAP's choices on top: scan clips, 90° views with 50 % overlap, encoder frozen. SAP's own recipe, of
which most is known from secondary sources alone, is configs/train/sap.yaml. `numbers()` is the part
that decides the weights a run ends with; a run is resumed only under the same one.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from panoforge.core.config.needed import Needed
from panoforge.core.geometry.patches import PATCHES
from panoforge.core.geometry.scan import ScanSpec, scan_grid
from panoforge.core.models import Count, FrozenModel, Positive
from panoforge.core.numbers import counted
from panoforge.core.storage.location import Location
from panoforge.train.settings.clips import (
    OWN_PANORAMAS,
    PANORAMAS_ONLY,
    ClipSettings,
    PromptSettings,
    SourceSettings,
    panoramas_only,
    panoramas_only_mixture,
)
from panoforge.train.settings.dense import DenseSettings
from panoforge.train.settings.losses import LossSettings
from panoforge.train.settings.reads import MixedSource, row_of, unread
from panoforge.train.settings.sam2 import ModelSettings
from panoforge.train.settings.schedule import MemoryFromTruth, OptimSettings

SCHEDULE_ONLY = (
    "checkpoint_every",
    "checkpoint_every_s",
    "checkpoints_to",
    "keep_last_k",
    "log_every",
    "device",
    "loader_threads",
    "torch_threads",
    "prefetch",
    "tensorboard",
    "rank_timeout_s",
    "start_timeout_s",
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
    "clip": (
        "frames_are",
        "turn_deg",
        "trajectory",
        "tilt_jitter_deg",
        "affine_deg",
        "shear_deg",
    ),
    "model": ("panosam2", "initial"),
    "loss": ("distortion", "mask_term", "iou_term"),
    "optim": ("schedule", "step_epochs", "step_gamma", "optimizer", "poly_power"),
}
ADDED_LATER_ALONE = (  # no section
    "compile",
    "epoch_clips",
    "backprop_frames",
    "memory_from_truth",
    "dense",
)
SAM2_ONLY = (  # what a run of dense tasks does not read
    "model",
    "clip",
    "prompt",
    "loss",
    "mixture",
    "memory_from_truth",
    "objects_per_forward",
    "backprop_frames",
)


class TrainConfig(FrozenModel):
    """One run of `pano train`.

    A step takes `clips_per_step` clips whatever the number of processes; each process runs its
    share `clips_per_forward` at a time and adds up the gradients.
    """

    model: Annotated[
        ModelSettings, Field(description="Which SAM2.1, from which weights, with what frozen.")
    ] = ModelSettings()
    clip: Annotated[ClipSettings, Field(description="What one training video is.")] = ClipSettings()
    prompt: Annotated[PromptSettings, Field(description="How prompts are drawn.")] = (
        PromptSettings()
    )
    loss: Annotated[LossSettings, Field(description="Weights of the losses.")] = LossSettings()
    optim: Annotated[OptimSettings, Field(description="AdamW and its learning rates.")] = (
        OptimSettings()
    )
    epoch_clips: Annotated[
        Count,
        Field(
            description="Clips that are an epoch where a schedule counts in epochs; 0 is a pass"
            " through the first source."
        ),
    ] = 0
    dense: Annotated[
        DenseSettings | None,
        Field(
            description="Train MTPano on semantics, depth and normals of whole panoramas, not SAM2"
            " on clips; a clip is a panorama then."
        ),
    ] = None
    memory_from_truth: Annotated[
        MemoryFromTruth | None,
        Field(description="True masks into the memory, by epoch (PanoSAM2); null is SAM2: none."),
    ] = None
    split: Annotated[str, Field(description="The split of the dataset to train on.")] = "train"
    mixture: Annotated[
        dict[str, SourceSettings],
        BeforeValidator(panoramas_only),
        Field(
            description="Datasets to draw clips from, by names of your own; empty: shards alone."
            " To fine-tune on scans alone say panoramas-only."
        ),
    ] = {}
    steps: Annotated[Positive, Field(description="Steps of the run.")] = 1000
    clips_per_step: Annotated[
        Positive, Field(description="Clips of a step, whatever the number of processes.")
    ] = 8
    clips_per_forward: Annotated[
        Positive, Field(description="Clips that a process runs at a time.")
    ] = 1
    objects_per_forward: Annotated[
        Count, Field(description="Objects of a forward pass at a time, for less memory; 0 is all.")
    ] = 0
    backprop_frames: Annotated[
        Count,
        Field(description="Frames that gradients go back through, for long clips; 0 is all."),
    ] = 0
    seed: Annotated[Count, Field(description="Decides every draw of the run.")] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], Field(description="Numbers of the forward pass.")
    ] = "auto"
    recompute: Annotated[
        bool,
        Field(description="Compute activations again going backward: less memory, same gradients."),
    ] = False
    compile: Annotated[
        bool,
        Field(description="torch.compile encoder and memory attention; first steps take minutes."),
    ] = False
    on_bad_loss: Annotated[
        Literal["stop", "skip"], Field(description="What follows a loss that is not finite.")
    ] = "stop"
    max_skipped_steps: Annotated[
        Count, Field(description="With on_bad_loss skip: more than these stop the run.")
    ] = 10
    max_bad_samples: Annotated[
        Count,
        Field(description="Damaged images or videos left out and named before the run stops."),
    ] = 0
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="Decay of averaged weights; 0 keeps none.")
    ] = 0.0
    validate_every: Annotated[
        Count, Field(description="Steps between mIoUs on validate_split; 0 is never.")
    ] = 0
    validate_clips: Annotated[Positive, Field(description="Clips of such a validation.")] = 16
    validate_split: Annotated[str, Field(description="The split it is done on.")] = "val"
    checkpoint_every: Annotated[Positive, Field(description="Steps between checkpoints.")] = 100
    checkpoint_every_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds after which there is one as well: what a kill costs; 0: never.",
        ),
    ] = 120.0
    checkpoints_to: Annotated[
        Location | None,
        Field(description="A folder or URL that has checkpoints and weights as well: a bucket."),
    ] = None
    keep_last_k: Annotated[Positive, Field(description="Checkpoints that are kept.")] = 3
    async_save: Annotated[
        bool,
        Field(
            description="Write checkpoints beside the training; a failed write stops the next step."
        ),
    ] = True
    export: Annotated[
        tuple[Literal["safetensors"], ...],
        Field(description="Formats of the final weights besides model.pt."),
    ] = ()
    log_every: Annotated[
        Positive, Field(description="Steps between plain lines; metrics.jsonl has every step.")
    ] = 10
    tensorboard: Annotated[bool, Field(description="Write TensorBoard logs.")] = False
    wandb: Annotated[
        str | None,
        Field(description="A Weights & Biases project to log to as well; needs the package wandb."),
    ] = None
    picture_every: Annotated[
        Count,
        Field(description="Steps between pictures of predictions on a training clip; 0 is never."),
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Where the model trains.")
    ] = "auto"
    rank_timeout_s: Annotated[
        float,
        Field(gt=0, description="Seconds that others wait for a rank before the run ends."),
    ] = 120.0
    start_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that others wait for a rank's first step, which may compile.",
        ),
    ] = 1800.0
    loader_threads: Annotated[Positive, Field(description="Threads that load clips.")] = 2
    torch_threads: Annotated[Count, Field(description="Torch's threads; 0 is its own choice.")] = 0
    prefetch: Annotated[Positive, Field(description="Forward passes prepared ahead.")] = 2

    def needed(self) -> Iterator[Needed]:
        """What must be there before anything is loaded."""
        if self.dense is None:
            yield Needed("model.checkpoint", self.model.checkpoint)
            return
        yield Needed("dense.checkpoint", self.dense.checkpoint)
        folder = self.dense.model.backbone.folder
        yield Needed("dense.model.backbone.folder", folder, "a DINO's folder (config.json)")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.clips_per_step % self.clips_per_forward:
            raise ValueError(
                f"clips_per_step ({self.clips_per_step}) must be a multiple of clips_per_forward"
                f" ({self.clips_per_forward}): a step is made of whole forward passes"
            )
        return self

    @model_validator(mode="after")
    def _dense_is_not_sam2(self) -> Self:
        fresh = type(self).model_fields
        unread = [key for key in SAM2_ONLY if getattr(self, key) != fresh[key].default]
        if self.dense is not None and unread:
            raise ValueError(
                f"{unread[0]} is set, and a run with a dense section trains MTPano, which does not"
                f" read it: leave {unread[0]} out (dense.model, dense.loss and dense.mixture are"
                " its own), or leave dense out"
            )
        decay = self.optim.layer_decay
        if self.dense is not None and decay != type(self.optim).model_fields["layer_decay"].default:
            raise ValueError(
                f"optim.layer_decay is {decay}, and a run with a dense section has one rate for all"
                " layers of its backbone (optim.encoder_lr): leave it out"
            )
        if self.dense is None and self.optim.optimizer != "adamw":
            raise ValueError(
                "optim.optimizer is adam, and SAM2 is trained with AdamW: leave it out, or add a"
                " dense section"
            )
        return self

    @model_validator(mode="after")
    def _a_frozen_encoder_learns_at_no_rate(self) -> Self:
        rates = ("encoder_lr", "layer_decay")
        fresh = type(self.optim).model_fields
        said = [key for key in rates if getattr(self.optim, key) != fresh[key].default]
        if self.dense is None and said and "image_encoder" in self.model.frozen:
            raise ValueError(
                f"optim.{said[0]} is {getattr(self.optim, said[0])}, and the image encoder is"
                " frozen and does not read it: leave it out, or take image_encoder out of"
                " model.frozen"
            )
        return self

    @model_validator(mode="after")
    def _epochs_count_for_something(self) -> Self:
        counts = self.optim.schedule == "step" or self.memory_from_truth is not None
        if self.epoch_clips and not counts and not self.model.panosam2.memory_from_epoch:
            raise ValueError(
                f"epoch_clips is {self.epoch_clips}, and nothing in this run counts in epochs"
                " (optim.schedule: step, memory_from_truth, model.panosam2.memory_from_epoch do):"
                " leave it out, or set one of them"
            )
        return self

    @model_validator(mode="after")
    def _read_by_its_sources(self) -> Self:
        sources = [
            MixedSource(name, entry.kind, row_of(entry.kind, self.clip.frames_are, entry.panoramas))
            for name, entry in self.mixed.items()
        ] or [MixedSource("", "shards", self.clip.frames_are)]
        said = {
            f"{section}.{key}": getattr(settings, key)
            for section, settings in (("clip", self.clip), ("prompt", self.prompt))
            for key, field in type(settings).model_fields.items()
            if getattr(settings, key) != field.default
        }
        if self.dense is None and (wrong := unread(said, sources)):
            raise ValueError(wrong)
        for name, entry in self.mixed.items():
            unsaid = entry.kind == "vos" and entry.panoramas is None
            if unsaid and self.clip.tilt_jitter_deg and self.clip.frames_are == "panorama":
                raise ValueError(
                    f"clip.tilt_jitter_deg is {self.clip.tilt_jitter_deg}, and mixture.{name} (kind"
                    " vos) does not say whether its frames are panoramas, which lean: set"
                    f" mixture.{name}.panoramas to true (PanoVOS, 360VOS) or to false (DAVIS)"
                )
        return self

    @property
    def mixed(self) -> dict[str, SourceSettings]:
        """The entries of `mixture`; none where the shards are alone."""
        return {} if self.mixture == panoramas_only_mixture() else self.mixture

    @model_validator(mode="after")
    def _perspective_is_not_forgotten(self) -> Self:
        """Weights that are fine-tuned on scans know perspective pictures, and must see some."""
        alone = all(entry.kind in OWN_PANORAMAS for entry in self.mixed.values())
        tunes_scans = self.model.checkpoint is not None and self.clip.frames_are == "views"
        if tunes_scans and alone and PANORAMAS_ONLY not in self.mixture:
            raise ValueError(
                f"expected a mixture with perspective data (kind sa1b, sav, vos or coco) to"
                f" fine-tune {self.model.checkpoint} with, got panoramas alone: SAP scored"
                " 54.0 mIoU so, less than the 58.3 of SAM2 untouched and the 75.5 of the mixture."
                " Add such entries, or say mixture: panoramas-only (of videos: call the entry"
                " panoramas-only)"
            )
        return self

    @model_validator(mode="after")
    def _one_line_of_panoramas(self) -> Self:
        shards = [name for name, entry in self.mixed.items() if entry.kind == "shards"]
        if len(shards) > 1:
            raise ValueError(
                f"mixture entries {shards} are all the run's shards and would show every clip"
                f" {len(shards)} times: keep one, and add up their weights"
            )
        return self

    @model_validator(mode="after")
    def _prompts_end_with_their_window(self) -> Self:
        first = max(self.prompt.max_prompted_frames, 1)
        if self.backprop_frames and self.backprop_frames < first:
            raise ValueError(
                f"backprop_frames ({self.backprop_frames}) must be at least"
                f" prompt.max_prompted_frames ({first}): prompted frames come first, together"
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
    def _videos_are_shown_as_clips_are(self) -> Self:
        wanted = {"video": "panorama", "scan_of_video": "views"}
        for name, entry in self.mixed.items():
            if entry.kind in wanted and self.clip.frames_are != wanted[entry.kind]:
                raise ValueError(
                    f"mixture.{name} is of kind {entry.kind}, which shows"
                    f" {'whole panoramas' if entry.kind == 'video' else 'views of a scan'}: set"
                    f" clip.frames_are to {wanted[entry.kind]}, it is {self.clip.frames_are}"
                )
        return self

    @model_validator(mode="after")
    def _clip_fits_scan(self) -> Self:
        if self.clip.frames_are == "patches" and self.clip.frames > 2 * PATCHES:
            raise ValueError(
                f"clip.frames ({self.clip.frames}) is more than the {2 * PATCHES} windows of a"
                " panorama twice over: lower it"
            )
        grid = scan_grid(ScanSpec(self.clip.fov_deg, self.clip.overlap))
        frames = grid.columns * len(grid.pitches_deg)
        if self.clip.frames > 2 * frames and self.clip.frames_are == "views":
            raise ValueError(
                f"clip.frames ({self.clip.frames}) is more than the"
                f" {counted(2 * frames, 'frame')} of a scan"
                f" twice over at fov_deg {self.clip.fov_deg} and overlap {self.clip.overlap}: lower"
                " it, or raise clip.overlap"
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
        shards = not self.mixed or any(e.kind in OWN_PANORAMAS for e in self.mixed.values())
        if wanted and shards and self.clip.frames_are != "panorama":
            raise ValueError(
                f"{' and '.join(wanted)} need frames that are whole panoramas, as a"
                f" {'window' if self.clip.frames_are == 'patches' else 'perspective view'} has no"
                " seam: set clip.frames_are to panorama"
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
        """The keys that decide the weights, as plain JSON.

        All but where things lie and how often they are written or run. A mixture's datasets are
        known by their digest, not by their folder. What came later and is off is left out, so that
        runs begun before it go on.
        """
        numbers = {
            key: value
            for key, value in self.model_dump(mode="json").items()
            if key not in SCHEDULE_ONLY
        }
        if self.dense is not None:
            return self._dense_numbers(numbers)
        if self.mixed:
            numbers["mixture"] = {
                name: {
                    k: v
                    for k, v in entry.items()
                    if k != "folder" and not (k == "panoramas" and v is None)
                }
                for name, entry in numbers["mixture"].items()
            }
        else:
            del numbers["mixture"]
        if not self.prompt.sphere_click:
            del numbers["prompt"]["sphere_click"]
        for key in ADDED_LATER_ALONE:
            if not getattr(self, key):
                del numbers[key]
        for section, keys in ADDED_LATER.items():
            fresh = type(getattr(self, section))().model_dump(mode="json")
            for key in keys:
                if numbers[section][key] == fresh[key]:
                    del numbers[section][key]
        return numbers

    def _dense_numbers(self, numbers: dict) -> dict:
        """Those of a run of dense tasks: without SAM2's sections and where datasets lie."""
        assert self.dense is not None
        numbers = {key: value for key, value in numbers.items() if key not in SAM2_ONLY}
        numbers["dense"]["mixture"] = {
            name: {k: v for k, v in entry.items() if k != "dataset"}
            for name, entry in numbers["dense"]["mixture"].items()
        }
        return numbers

    def sha256(self) -> str:
        """Digest of `numbers()`."""
        return hashlib.sha256(json.dumps(self.numbers(), sort_keys=True).encode()).hexdigest()
