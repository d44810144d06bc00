"""Masks that another tool has given, scored as they are: `predictor: file`.

    masks = MasksOfFile(path).masks("rooms-kitchen-00000003-c0", [3, 7], 2048, 4096)

The tool answers `prompts.json` of an evaluation with a list in the form of COCO's results:

    [{"image_id": "<key>", "id": 7, "segmentation": {"size": [2048, 4096], "counts": "…"},
      "score": 0.93}, …]

`image_id` is the panorama's key and `id` the instance's, as prompts.json has them. `segmentation`
is an RLE or polygons of the whole panorama; null says that nothing was found. `score` is optional,
ranks masks for AP, and says who is on top where they overlap in pictures. Every instance that is
scored needs its answer: what is missing is refused, since nobody knows whether it was asked.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.coco import MAX_COCO_BYTES, coco_mask
from panoforge.core.foreign.files import read_bytes
from panoforge.core.numbers import counted
from panoforge.eval.masks import Masks
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.views.merge import FrameLogits

_FORM = 'expected a list of {"image_id": KEY, "id": INSTANCE, "segmentation": RLE}'


class MasksOfFile:
    """The answers of one file, by panorama and instance."""

    name, sees_labels, full_size = "masks of a file", False, False

    def __init__(self, path: Path) -> None:
        """DataError if it is no such list, or answers an instance twice."""
        self.path = path
        data = read_bytes(path, MAX_COCO_BYTES)
        self.sha256 = hashlib.sha256(data).hexdigest()
        try:
            listed = json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({error}): {_FORM}") from None
        if not isinstance(listed, list):
            raise DataError(f"{path} is a JSON {type(listed).__name__}: {_FORM}, see compare.md")
        self._answers: dict[str, dict[int, Mapping[str, Any]]] = {}
        for number, entry in enumerate(listed):
            self._add(number, entry)

    def _add(self, number: int, entry: Any) -> None:
        key = entry.get("image_id") if isinstance(entry, dict) else None
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, str) or type(id_) is not int or "segmentation" not in entry:
            raise DataError(f"{self.path}: entry {number} is {str(entry)[:80]}: {_FORM}")
        score = entry.get("score", 0)
        if not isinstance(score, int | float) or not isfinite(score):
            raise DataError(
                f"{self.path}: entry {number} has the score {str(score)[:40]}: expected a number,"
                " or none"
            )
        of_key = self._answers.setdefault(key, {})
        if id_ in of_key:
            raise DataError(
                f"{self.path}: instance {id_} of {key[:80]} is answered twice: leave the better"
                " mask, one to an instance of prompts.json"
            )
        of_key[id_] = entry

    def masks(self, key: str, ids: Sequence[int], height: int, width: int) -> Masks:
        """The masks of a panorama's instances.

        Args:
            key: The panorama's.
            ids: Of the instances, as prompts.json has them.
            height: Of the panorama, pixels.
            width: Of the panorama, pixels.

        Raises:
            DataError: An instance has no answer, or a mask is damaged or of another size.
        """
        known = self._answers.get(key, {})
        missing = [id_ for id_ in ids if id_ not in known]
        if missing:
            raise DataError(
                f"{self.path} has no answer for {counted(len(missing), 'instance')} of {key}, the"
                f" first of them {missing[0]}: answer all of prompts.json, with segmentation null"
                " where nothing was found"
            )
        packed = np.zeros((len(ids), height, -(-width // 8)), np.uint8)
        labels, rows = np.zeros((height, width), np.int32), np.zeros((len(ids), 2), np.int64)
        scores = np.array([known[id_].get("score", 0) for id_ in ids], np.float32)
        for k in np.argsort(scores, kind="stable"):
            segmentation = known[ids[k]]["segmentation"]
            if segmentation is None:
                continue
            mask = coco_mask(segmentation, height, width, f"{self.path}: {ids[k]} of {key}")
            packed[k] = np.packbits(mask, axis=1)
            at = np.flatnonzero(mask.any(axis=1))
            rows[k] = (at[0], at[-1] + 1) if at.size else (0, 0)
            labels[mask.astype(bool)] = k + 1
        return Masks(packed, labels, scores, rows)

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """UsageError: there are masks of whole panoramas alone."""
        raise _of_views()

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """UsageError, likewise."""
        raise _of_views()


def _of_views() -> UsageError:
    return UsageError(
        "predictor: file has masks of whole panoramas, and views or videos are asked for: score"
        " panoramas, with methods: [direct]"
    )
