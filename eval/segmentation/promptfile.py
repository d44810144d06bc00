"""The prompts file: what every instance was prompted with.

Another tool can be scored on the very same prompts.

`prompts.json` beside every result, and `prompts: {file: …}` of an evaluation:

    {"format": "panoforge-prompts", "schema_version": 2, "protocol_id": "…",
     "panoramas": {"<key>": {"width": 4096, "height": 2048, "instances": [
       {"id": 7,                                   the instance's value in the panorama's label map
        "clicks": [{"u": 1803, "v": 977,           pixel: column and row, both from 0
                    "lon_deg": -21.49, "lat_deg": 4.09,   its centre; counts where both are given
                    "label": 1}],                  1 = on the instance, 0 = not on it
        "box": {"u0": 1700, "v0": 900,             columns [u0, u0 + width), modulo the panorama's
                "width": 210, "height": 155},
        "mask": {"size": [2048, 4096],             COCO compressed RLE, as pycocotools has it
                 "counts": "…"}}]}}}

An instance has clicks, or a box, or a mask; what it has not is left out. Angles are DESIGN's:
longitude grows to the right and is 0 at the image centre, latitude is +90° at the top. A file is
read with care: panoramas of another size, ids that are not in the label map and prompts outside of
the panorama are refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.masks import run_counts
from panoforge.core.geometry.sphere import lonlat_to_direction, pixel_to_direction
from panoforge.core.numbers import counted
from panoforge.core.sample.label_maps import Box
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.eval.segmentation.prompts import Click, InstancePrompt

FORMAT, SCHEMA_VERSION = "panoforge-prompts", 2


def panorama_entry(prompts: Sequence[InstancePrompt], width: int, height: int) -> dict[str, Any]:
    """One panorama's part of the file."""
    instances = []
    for prompt in prompts:
        entry: dict[str, Any] = {"id": prompt.id}
        if prompt.clicks:
            entry["clicks"] = [
                {
                    "u": click.u,
                    "v": click.v,
                    "lon_deg": round(click.lon_deg, 6),
                    "lat_deg": round(click.lat_deg, 6),
                    "label": click.label,
                }
                for click in prompt.clicks
            ]
        if prompt.box is not None:
            entry["box"] = asdict(prompt.box)
        if prompt.mask is not None:
            entry["mask"] = dict(prompt.mask)
        instances.append(entry)
    return {"width": width, "height": height, "instances": instances}


def save_prompts(path: Path, panoramas: Mapping[str, Mapping[str, Any]], protocol_id: str) -> None:
    """Write the file from the panoramas' entries by key."""
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "protocol_id": protocol_id,
        "panoramas": dict(panoramas),
    }
    write_bytes_atomic(path, json.dumps(document, indent=1).encode() + b"\n")


class PromptFile:
    """A prompts file, read whole; panoramas are looked up by key."""

    def __init__(self, path: Path) -> None:
        """DataError if it is not such a file."""
        self.path = path
        data = read_bytes(path)
        try:
            document = json.loads(data)
            known = document["format"], document["schema_version"]
            self._panoramas = dict(document["panoramas"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path} is no prompts file ({type(error).__name__}: {error}): expected the"
                " prompts.json of an evaluation, or the same made by another tool;"
                " eval/segmentation/promptfile.py describes it"
            ) from error
        if known != (FORMAT, SCHEMA_VERSION):
            raise DataError(
                f"{path} is {known[0]} version {known[1]}; this panoforge reads {FORMAT} version"
                f" {SCHEMA_VERSION}: evaluate again, and take its prompts.json"
            )

    def prompts(self, key: str, labels: NDArray[np.uint16]) -> list[InstancePrompt]:
        """The prompts of a panorama by ascending id.

        DataError if they are missing or do not fit its label map.
        """
        height, width = labels.shape
        entry = self._panoramas.get(key)
        if entry is None:
            raise DataError(
                f"{self.path} has no prompts for panorama {key} (it has"
                f" {counted(len(self._panoramas), 'other')}): score the same dataset and"
                " split that the prompts were made for"
            )
        present = set(np.unique(labels).tolist()) - {0}
        try:
            if (entry["width"], entry["height"]) != (width, height):
                raise ValueError(
                    f"they are for {entry['width']}×{entry['height']}, the panorama has"
                    f" {width}×{height}"
                )
            found = [
                _read_instance(instance, present, width, height) for instance in entry["instances"]
            ]
        except (
            DataError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
        ) as error:  # fmt: skip
            said = (
                error
                if isinstance(error, ValueError | DataError)
                else f"{type(error).__name__} {error}"
            )
            raise DataError(
                f"{self.path}: the prompts of {key} cannot be used: {said}. "
                "eval/segmentation/promptfile.py describes the format"
            ) from error
        return sorted(found, key=lambda prompt: prompt.id)


def _read_instance(
    entry: Mapping[str, Any], present: set[int], width: int, height: int
) -> InstancePrompt:
    if entry["id"] not in present:
        raise ValueError(f"id {entry['id']} is not in the label map")
    clicks = tuple(
        _read_click(click, entry["id"], width, height) for click in entry.get("clicks", ())
    )
    box = (
        Box(*(int(entry["box"][name]) for name in ("u0", "v0", "width", "height")))
        if "box" in entry
        else None
    )
    if box and not (
        0 <= box.u0 < width
        and 0 < box.width <= width
        and 0 <= box.v0 < box.v0 + box.height <= height
    ):
        raise ValueError(f"the box of id {entry['id']} is outside of the panorama")
    mask = entry.get("mask")
    if mask is not None:
        run_counts(mask, height, width, f"the mask of id {entry['id']}")
    if (bool(clicks), box is not None, mask is not None).count(True) != 1:
        raise ValueError(f"id {entry['id']} needs clicks, or a box, or a mask: one of them")
    return InstancePrompt(int(entry["id"]), clicks, box, mask, (width, height))


def _read_click(click: Mapping[str, Any], id_: int, width: int, height: int) -> Click:
    u, v, label = int(click["u"]), int(click["v"]), int(click["label"])
    if not (0 <= u < width and 0 <= v < height) or label not in (0, 1):
        raise ValueError(
            f"a click of id {id_} is outside of the panorama, or its label neither 0 nor 1"
        )
    if "lon_deg" in click:
        return Click(
            lonlat_to_direction(np.radians(click["lon_deg"]), np.radians(click["lat_deg"])),
            u,
            v,
            label,
        )
    return Click(pixel_to_direction(u, v, width, height), u, v, label)
