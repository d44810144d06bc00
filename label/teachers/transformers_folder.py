"""Models of `transformers`, from a folder of yours: nothing is fetched, nothing is unpickled.

A folder holds what `save_pretrained` writes: config.json, the processor's configuration and
safetensors. Code that a folder brings along is never run. What is loaded is asked for by its task,
so that any architecture of transformers with that task will do:

- `TransformersPanoptic`: Mask2Former, OneFormer, EoMT, MaskFormer, … on COCO, ADE20K, Cityscapes;
- `TransformersDepth`: Depth Anything, DPT, ZoeDepth, …; inverse depth unless the model is metric;
- `TransformersClasses`: SegFormer, UperNet, BEiT, …: class scores of every pixel;
- `Sam3Words`: SAM3 and words: every instance of each word.
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from panoforge.core.errors import ConfigError, DataError, one_line
from panoforge.core.numbers import counted
from panoforge.core.storage.atomic import storage_errors
from panoforge.label.teachers.base import (
    ClassScores,
    Dense,
    DepthMap,
    DepthUnit,
    Panoptic,
    Segment,
    TeacherError,
    ViewImage,
)

_LOADING_FAILS = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError)
ONEFORMER = "OneFormerProcessor"
_WORDS = 77  # tokens of OneFormer's task, where its configuration does not say
_LEAST_DEPTH = 1e-3  # of what a metric model says: depth is positive


@dataclass(frozen=True)
class LoadedFolder:
    """A model in eval mode on its device, its processor, and the digest of its folder."""

    model: Any
    processor: Any
    digest: str
    device: torch.device


def load_folder(folder: Path, model: str, processor: str, device: torch.device) -> LoadedFolder:
    """Load a model and its processor by the names of their classes in transformers.

    Raises:
        ConfigError: transformers is not installed, or lacks that class.
        DataError: There is no such folder, or it holds no model of that kind.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when it is imported: nobody is asked
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"the teacher in {folder} needs transformers, which is not installed here: pip install"
            " 'panoforge[label]'"
        ) from None
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} holds no config.json: expected a folder as save_pretrained writes it, or as"
            " a model's page offers it for download"
        )
    model_class: Any = getattr(transformers, model, None)
    if model_class is None:
        raise ConfigError(
            f"transformers {transformers.__version__} has no {model}: install a newer one"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded, said = model_class.from_pretrained(
            str(folder), use_safetensors=True, output_loading_info=True, **options
        )
        prepared = _processor(transformers, processor, folder, loaded.config, options)
    except (*_LOADING_FAILS, SafetensorError) as error:
        raise DataError(
            f"{folder} holds no model that {model} can load (safetensors and the processor's"
            f" configuration are needed): {one_line(error)}"
        ) from None
    if missing := sorted(said["missing_keys"]):  # transformers would make them up
        raise DataError(
            f"{folder} holds no weights for {counted(len(missing), 'part')} of {model}, first"
            f" {missing[0]}: it is another model's, or a file of it is missing"
        )
    return LoadedFolder(loaded.eval().to(device), prepared, folder_digest(folder), device)


def _processor(
    transformers: Any, name: str, folder: Path, config: Any, options: dict[str, Any]
) -> Any:
    """The processor of a folder.

    OneFormer's asks the Hub for a file of class names where its configuration names no folder. So
    it is put together from its parts, with the folder as the place of that file.
    """
    if name != ONEFORMER:
        return getattr(transformers, name).from_pretrained(str(folder), **options)
    images = transformers.OneFormerImageProcessor.from_pretrained(
        str(folder), repo_path=str(folder), **options
    )
    words = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
    return transformers.OneFormerProcessor(
        image_processor=images,
        tokenizer=words,
        max_seq_length=getattr(config, "max_seq_len", _WORDS),
        task_seq_length=getattr(config, "task_seq_len", _WORDS),
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of a folder's own files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with storage_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TransformersPanoptic:
    """A panoptic model.

    Attributes:
        loaded: The model.
        name: What it is called.
        stuff: Classes of which all is one segment, in the model's own words.
        threshold: Least score of a segment.
    """

    loaded: LoadedFolder
    name: str
    stuff: Collection[str] = ()
    threshold: float = 0.5

    @staticmethod
    def load(
        folder: Path,
        device: torch.device,
        *,
        name: str = "",
        stuff: Collection[str] = (),
        threshold: float = 0.5,
    ) -> "TransformersPanoptic":
        """Load a folder. DataError where it holds no panoptic model."""
        kind = _processor_kind(folder, "AutoImageProcessor")
        loaded = load_folder(folder, "AutoModelForUniversalSegmentation", kind, device)
        return TransformersPanoptic(loaded, name or folder.name, frozenset(stuff), threshold)

    @property
    def digest(self) -> str:
        """Of its folder and its settings."""
        said = f"{self.loaded.digest} {self.threshold} {sorted(self.stuff)}"
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def classes(self) -> dict[int, str]:
        """What its classes are called, by number."""
        return class_names(self.loaded.model)

    def with_stuff(self, stuff: Collection[str]) -> "TransformersPanoptic":
        """The same with other classes of which all is one segment."""
        return replace(self, stuff=frozenset(stuff))

    def panoptic(self, view: ViewImage) -> Panoptic:
        """The segments of one view."""
        more = {"task_inputs": ["panoptic"]} if _takes_task(self.loaded.processor) else {}
        with torch.inference_mode():
            inputs = self.loaded.processor(images=view.rgb, return_tensors="pt", **more)
            said = self.loaded.model(**inputs.to(self.loaded.device))
        fused = {number for number, name in self.classes.items() if name in self.stuff}
        found = self.loaded.processor.post_process_panoptic_segmentation(
            said,
            threshold=self.threshold,
            label_ids_to_fuse=fused,
            target_sizes=[(view.height, view.width)],
        )[0]
        ids = found["segmentation"].cpu().numpy().astype(np.int32)
        known = {int(one["id"]): one for one in found["segments_info"]}
        held = sorted(set(np.unique(ids).tolist()) & set(known))
        new = np.zeros(max([int(ids.max(initial=0)), *held]) + 1, np.int32)
        new[held] = np.arange(1, len(held) + 1)
        segments = tuple(
            Segment(
                number,
                name := self.classes[int(known[id_]["label_id"])],
                name not in self.stuff,
                float(np.clip(known[id_]["score"], 0, 1)),
            )
            for number, id_ in enumerate(held, start=1)
        )
        return Panoptic(np.where(ids >= 0, new[np.maximum(ids, 0)], 0).astype(np.int32), segments)


@dataclass(frozen=True)
class TransformersDepth:
    """A depth model; `unit` is what its numbers mean, always along the axis."""

    loaded: LoadedFolder
    name: str
    unit: DepthUnit

    @staticmethod
    def load(
        folder: Path, device: torch.device, *, name: str = "", unit: DepthUnit | None = None
    ) -> "TransformersDepth":
        """Load a folder. What its numbers mean is asked of its configuration, unless said."""
        loaded = load_folder(folder, "AutoModelForDepthEstimation", "AutoImageProcessor", device)
        metric = getattr(loaded.model.config, "depth_estimation_type", "relative") == "metric"
        return TransformersDepth(
            loaded, name or folder.name, unit or ("metres" if metric else "inverse")
        )

    @property
    def digest(self) -> str:
        """Of its folder and its unit."""
        return hashlib.sha256(f"{self.loaded.digest} {self.unit}".encode()).hexdigest()

    def dense(self, view: ViewImage) -> Dense:
        """Depth of one view."""
        with torch.inference_mode():
            inputs = self.loaded.processor(images=view.rgb, return_tensors="pt")
            said = self.loaded.model(**inputs.to(self.loaded.device)).predicted_depth
        values = resized(said.reshape(1, 1, *said.shape[-2:]), view)[0]
        _check_finite(self.name, view, values)
        least = 0.0 if self.unit == "inverse" else _LEAST_DEPTH
        return Dense(DepthMap(np.maximum(values, np.float32(least)), "axis", self.unit))


@dataclass(frozen=True)
class TransformersClasses:
    """A model of class scores."""

    loaded: LoadedFolder
    name: str

    @staticmethod
    def load(folder: Path, device: torch.device, *, name: str = "") -> "TransformersClasses":
        """Load a folder. DataError where it holds no model of class scores."""
        loaded = load_folder(
            folder, "AutoModelForSemanticSegmentation", "AutoImageProcessor", device
        )
        return TransformersClasses(loaded, name or folder.name)

    @property
    def digest(self) -> str:
        """Of its folder."""
        return self.loaded.digest

    def dense(self, view: ViewImage) -> Dense:
        """Class scores of one view, and how much the likeliest is ahead as confidence."""
        with torch.inference_mode():
            inputs = self.loaded.processor(images=view.rgb, return_tensors="pt")
            said = self.loaded.model(**inputs.to(self.loaded.device)).logits
            scores = resized(said, view)
        _check_finite(self.name, view, scores)
        scores = np.exp(scores - scores.max(axis=0))
        scores /= scores.sum(axis=0)
        names = class_names(self.loaded.model)
        return Dense(
            scores=ClassScores(tuple(names[k] for k in range(len(scores))), scores),
            confidence=scores.max(axis=0),
        )


@dataclass(frozen=True)
class Sam3Words:
    """SAM3 asked for words: each word's instances.

    Attributes:
        loaded: The model.
        words: What is looked for, each a class.
        name: What it is called.
        threshold: Least score of an instance.
    """

    loaded: LoadedFolder
    words: tuple[str, ...]
    name: str
    threshold: float = 0.5

    @staticmethod
    def load(
        folder: Path,
        device: torch.device,
        words: Sequence[str],
        *,
        name: str = "",
        threshold: float = 0.5,
    ) -> "Sam3Words":
        """Load a folder. DataError where it holds no SAM3."""
        loaded = load_folder(folder, "Sam3Model", "Sam3Processor", device)
        return Sam3Words(loaded, tuple(words), name or folder.name, threshold)

    @property
    def digest(self) -> str:
        """Of its folder, its words and its threshold."""
        said = f"{self.loaded.digest} {self.words} {self.threshold}"
        return hashlib.sha256(said.encode()).hexdigest()

    def panoptic(self, view: ViewImage) -> Panoptic:
        """Every instance of every word; where two overlap the surer one is on top."""
        found: list[tuple[float, str, np.ndarray]] = []
        for word in self.words:
            with torch.inference_mode():
                inputs = self.loaded.processor(images=view.rgb, text=word, return_tensors="pt")
                said = self.loaded.model(**inputs.to(self.loaded.device))
            answer = self.loaded.processor.post_process_instance_segmentation(
                said, threshold=self.threshold, target_sizes=[(view.height, view.width)]
            )[0]
            masks = answer["masks"].cpu().numpy().astype(bool)
            scores = np.clip(answer["scores"].float().cpu().numpy(), 0, 1)
            found += [(float(s), word, mask) for s, mask in zip(scores, masks, strict=True)]
        ids = np.zeros((view.height, view.width), np.int32)
        found.sort(key=lambda one: one[0])
        for number, (_, _, mask) in enumerate(found, start=1):
            ids[mask] = number
        there = set(np.unique(ids).tolist())
        segments = (Segment(k, word, True, s) for k, (s, word, _) in enumerate(found, start=1))
        return Panoptic(ids, tuple(one for one in segments if one.id in there))


def class_names(model: Any) -> dict[int, str]:
    """What a model's classes are called, by number; 200 characters of each at most."""
    return {int(k): str(v).strip()[:200] or f"class {k}" for k, v in model.config.id2label.items()}


def resized(maps: torch.Tensor, view: ViewImage) -> np.ndarray:
    """Maps (1, C, h, w) at the view's size: float32 (C, H, W)."""
    grown = torch.nn.functional.interpolate(
        maps.float(), (view.height, view.width), mode="bilinear", align_corners=False
    )
    return np.asarray(grown[0].cpu().numpy(), np.float32)


def _check_finite(name: str, view: ViewImage, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise TeacherError(
            f"{name}, view {view.index}: its answer has {int((~np.isfinite(values)).sum())} values"
            " that are not finite: nothing of it is used"
        )


def _processor_kind(folder: Path, usual: str) -> str:
    """OneFormer alone is told its task in words, by a processor of its own."""
    config = folder / "config.json"
    text = config.read_text("utf-8", "replace")[: 1 << 20] if config.is_file() else ""
    return ONEFORMER if '"oneformer"' in text else usual


def _takes_task(processor: Any) -> bool:
    return type(processor).__name__ == ONEFORMER
