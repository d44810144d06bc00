"""A picture from a file, segmented by clicks, and the files that come of it.

What `pano segment` calls.

In: a panorama in any picture format that is read (`panoforge.core.foreign.pictures`). Out, for one
object or several:

- `mask.png`, 8-bit palette: pixel value = object, 0 = nothing, as DAVIS has it;
- `overlay.jpg`;
- `coco.json`, a COCO detection file: compressed RLEs of the whole panorama, solid angle, wrap-aware
  box and the clicks.

`pano serve` saves through the same functions: what is clicked there can be repeated here, to the
byte.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from panoforge.core import __version__
from panoforge.core.config import config_from_overrides
from panoforge.core.errors import DataError, UsageError
from panoforge.core.export.palette import MAX_PALETTE_IDS, palette_png
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.idmaps import read_idmap
from panoforge.core.foreign.pictures import panorama_of, read_picture
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.numbers import counted
from panoforge.core.report.pictures import overlay_ids
from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.sample.products import decode_product, encode_product
from panoforge.core.storage.atomic import (
    storage_errors,
    write_bytes_atomic,
    write_new_atomic,
)
from panoforge.core.types import Bools, Labels, Rgb
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.interactive.segmenter import KeptFeatures, PanoramaSegmenter
from panoforge.eval.predictors import Predictor

PREDICTORS = ("sam2", "truth")
MAX_RESULTS = 1000  # for one picture in one folder
KEYS = ("scan", "zoom", "merge", "model", "seed", "device")  # of an EvalConfig, for one picture
OPTIONS = {"model.size": "--model", "model.checkpoint": "--checkpoint"}


@dataclass(frozen=True)
class Result:
    """One object: its clicks and its mask, bool H×W."""

    clicks: tuple[SphereClick, ...]
    mask: Bools


@dataclass(frozen=True)
class Loaded:
    """A predictor with its config, and what it is in words for the files' records."""

    config: EvalConfig
    predictor: Predictor
    words: str


def read_labels(path: Path) -> Labels:
    """A true id map: our instance.zst, or a PNG of any kind that holds one (a `.mask.png` too)."""
    if path.suffix.lower() == ".png":
        return read_idmap(path)[0]
    labels = decode_product("instance.zst", read_bytes(path))
    if labels.ndim != 2 or labels.dtype != np.uint16:
        raise DataError(
            f"{path}: expected a map of ids, uint16 H×W, and it is {labels.dtype} {labels.shape}"
        )
    return labels


def load_predictor(
    predictor: str,
    checkpoint: Path | None,
    method: str,
    overrides: Sequence[str] = (),
    size: str | None = None,
) -> Loaded:
    """Load what answers clicks.

    Args:
        predictor: one of PREDICTORS.
        checkpoint: an official file or one of ours.
        method: how the panorama is shown.
        overrides: `key=value` of an EvalConfig, e.g. scan.overlap=0.3.
        size: what the weights are of, the same as model.size=SIZE; `large` where neither is given.

    Raises:
        UsageError: SAM2 is asked for without a checkpoint, or one thing is said twice.
    """
    if predictor not in PREDICTORS:
        raise UsageError(f"--predictor {predictor}: expected one of {', '.join(PREDICTORS)}")
    _check_overrides(overrides, {"model.size": size, "model.checkpoint": checkpoint})
    words = [*overrides, f"methods=[{method}]", *([f"model.size={size}"] if size else [])]
    config = config_from_overrides(EvalConfig, words)
    if checkpoint is not None:  # as it is: no word of YAML, and no `random` either
        model = config.model.model_copy(update={"checkpoint": checkpoint})
        config = config.model_copy(update={"model": model})
    if predictor == "truth":
        from panoforge.eval.predictors.truth import GroundTruth

        return Loaded(config, GroundTruth(), "ground truth of --labels, no model")
    if config.model.checkpoint is None:
        raise UsageError(
            "SAM2 needs weights: give --checkpoint FILE (an official sam2.1_hiera_*.pt or one that"
            " pano train exported) and the --model it is of; --predictor truth --labels FILE shows"
            " true masks without a model"
        )
    from panoforge.eval.predictors.load import load_model

    loaded = load_model(config)
    size = f"SAM2.1 {config.model.size} at {config.model.image_size}²"
    return Loaded(
        config,
        KeptFeatures(loaded.model),
        f"{size}, {loaded.weights.source}, sha256 {loaded.weights.sha256}",
    )


def _check_overrides(overrides: Sequence[str], options: Mapping[str, object]) -> None:
    """UsageError for a key that would be ignored.

    One that means nothing here, or one of `options` (key → the option's value) that is given twice.
    """
    for text in overrides:
        key = text.partition("=")[0]
        if key.partition(".")[0] not in KEYS:
            raise UsageError(
                f"{text} means nothing for one picture: expected a key of {', '.join(KEYS)}"
                " (--method and --predictor are options)"
            )
        if options.get(key) is not None:
            raise UsageError(
                f"{text} and {OPTIONS[key]} {options[key]} say the same thing: give one of them"
            )


def segment_image(
    image: Path,
    clicks: Sequence[SphereClick],
    load: Callable[[], Loaded],
    folder: Path,
    labels: Path | None = None,
) -> list[Path]:
    """Segment one object and write FOLDER/STEM.mask.png, .overlay.jpg and .coco.json.

    Gives their paths. Where those names hold something else (other clicks, another model, a picture
    of the same stem), it is STEM-2.mask.png and so on: nothing is overwritten but by itself.

    Clicks, picture and labels are looked at before `load` is called: loading takes the longest, and
    what is wrong with them should be said first.
    """
    if not any(click.positive for click in clicks):
        raise UsageError(
            "nothing is clicked: give at least one --click LON,LAT on the object (--negative only"
            " takes away)"
        )
    picture = read_picture(image)
    rgb = panorama_of(picture, str(image))
    true = picture.on_sphere(read_labels(labels)) if labels else None
    loaded = load()
    segmenter = PanoramaSegmenter(rgb, loaded.config, loaded.predictor, true)
    results = [Result(tuple(clicks), segmenter.mask(clicks))]
    files = {
        "mask.png": mask_png(results),
        "overlay.jpg": overlay_jpg(rgb, results),
        "coco.json": coco_json(image.name, results, loaded),
    }
    stem = claimed_stem(folder, image.stem, files)
    paths = [folder / f"{stem}.{suffix}" for suffix in files]
    for path, data in zip(paths, files.values(), strict=True):
        write_bytes_atomic(path, data)
    return paths


def claimed_stem(folder: Path, stem: str, files: Mapping[str, bytes]) -> str:
    """The first of STEM, STEM-2, STEM-3, … that is free, or holds the same result.

    It is claimed by writing coco.json, which says everything of a result: of two commands at once
    each gets a name of its own.
    """
    for number in range(1, MAX_RESULTS + 1):
        name = stem if number == 1 else f"{stem}-{number}"
        record, *others = (folder / f"{name}.{suffix}" for suffix in sorted(files))
        if not record.exists() and any(path.exists() for path in others):
            continue  # a mask that somebody made otherwise, --labels perhaps
        if write_new_atomic(record, files["coco.json"]) or _holds(record, files["coco.json"]):
            return name
    raise UsageError(
        f"{folder} holds {MAX_RESULTS} results for {stem} already: give another folder (--out)"
    )


def _holds(path: Path, data: bytes) -> bool:
    with storage_errors(path):
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def stack(results: Sequence[Result]) -> NDArray[np.uint8]:
    """The objects as one map, 1 + their position.

    Where masks overlap, the smaller object is on top.
    """
    if len(results) > MAX_PALETTE_IDS:
        raise UsageError(
            f"{counted(len(results), 'object')}: a mask picture holds {MAX_PALETTE_IDS} at most"
        )
    out = np.zeros(results[0].mask.shape, np.uint8)
    for index in sorted(range(len(results)), key=lambda k: (-int(results[k].mask.sum()), k)):
        out[results[index].mask] = index + 1
    return out


def mask_png(results: Sequence[Result]) -> bytes:
    """Palette PNG, pixel value = object."""
    return palette_png(stack(results))


def overlay_jpg(rgb: Rgb, results: Sequence[Result]) -> bytes:
    """The masks laid over the picture."""
    return encode_product("rgb.jpg", overlay_ids(rgb, stack(results)), jpeg_quality=90)


def coco_json(name: str, results: Sequence[Result], loaded: Loaded) -> bytes:
    """A COCO detection file of one image: pycocotools opens it."""
    height, width = results[0].mask.shape
    document = {
        "info": {
            "description": "masks of clicked objects",
            "made_by": f"panoforge {__version__}",
            "predictor": loaded.words,
            "method": loaded.config.methods[0],
        },
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            _annotation(index, result) for index, result in enumerate(results, start=1)
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _annotation(index: int, result: Result) -> dict[str, Any]:
    height, width = result.mask.shape
    rle = coco_mask.encode(np.asfortranarray(result.mask, np.uint8))
    entry = {
        "id": index,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(result.mask.sum()),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
        "area_sr": float(result.mask.sum(axis=1) @ row_area_sr(width, height)),
        "clicks": [
            {"lon_deg": c.lon_deg, "lat_deg": c.lat_deg, "label": int(c.positive)}
            for c in result.clicks
        ],
    }
    if result.mask.any():
        box = instance_stats(result.mask.astype(np.uint16)).box(0)
        entry["wrap_box"] = {"u0": box.u0, "v0": box.v0, "width": box.width, "height": box.height}
    return entry
