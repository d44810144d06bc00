"""HTTP teacher: your own model behind one request.

For each view we post JSON to the address:

    {"version": 1, "want": ["entities"], "width": W, "height": H, "fov_deg": 90.0 or null,
     "view": 3, "image_png": base64 of the view as PNG, sRGB}

`want` names one of entities, panoptic and dense. `fov_deg` is null where the view is a piece of the
panorama. The answer is JSON with what was wanted:

    {"entities": [{"rle": {"size": [H, W], "counts": COCO's compressed string}, "confidence": 0.9}]}
    {"panoptic": {"ids": base64 of little-endian uint16 H×W, 0 = nothing,
                  "segments": [{"id": 1, "class": "chair", "thing": true, "confidence": 0.9}]}}
    {"dense": {"depth": ARRAY, "along": "axis" or "ray", "unit": "metres", "relative" or "inverse",
               "normals": ARRAY of H×W×3, "scores": ARRAY of C×H×W, "classes": [C names],
               "confidence": ARRAY}}       each may be missing

ARRAY is base64 of little-endian float32, row by row. Every size is known before anything is
decoded, and what is of another one is refused; what is decoded goes through the checks of all
teachers. Axes and measures are those of `panoforge.label.teachers.base`.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from panoforge.core.errors import DataError
from panoforge.core.foreign.masks import fill_runs, run_counts
from panoforge.core.models import FrozenModel
from panoforge.core.numbers import counted
from panoforge.core.sample.products import encode_product
from panoforge.core.types import Mask
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.label.ask_http import AskError, ask_json, check_address
from panoforge.label.teachers.base import (
    MAX_CLASSES,
    MAX_ENTITIES,
    MAX_NAME,
    ClassScores,
    Dense,
    DepthMap,
    Entities,
    Panoptic,
    Segment,
    TeacherError,
    ViewImage,
)

Want = Literal["entities", "panoptic", "dense"]
VERSION = 1
MAX_MASK_PIXELS = 2 << 30


class _HttpAnswer(FrozenModel):
    """A part of an answer; what it says beyond this is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _SaidRle(_HttpAnswer):
    size: list[int] = Field(min_length=2, max_length=2)
    counts: str


class _SaidEntity(_HttpAnswer):
    rle: _SaidRle
    confidence: float = 1.0


class _SaidSegment(_HttpAnswer):
    id: int = Field(ge=1, le=65535)
    class_name: str = Field(alias="class", min_length=1, max_length=MAX_NAME)
    thing: bool = True
    confidence: float = 1.0


class _SaidPanoptic(_HttpAnswer):
    ids: str
    segments: list[_SaidSegment] = Field(max_length=MAX_ENTITIES)


class _SaidDense(_HttpAnswer):
    depth: str | None = None
    along: Literal["ray", "axis"] = "axis"
    unit: Literal["metres", "relative", "inverse"] = "metres"
    normals: str | None = None
    scores: str | None = None
    classes: list[str] = Field([], max_length=MAX_CLASSES)
    confidence: str | None = None


class _SaidAll(_HttpAnswer):
    entities: list[_SaidEntity] | None = Field(None, max_length=MAX_ENTITIES)
    panoptic: _SaidPanoptic | None = None
    dense: _SaidDense | None = None


@dataclass(frozen=True)
class HttpTeacher:
    """Asks an address about every view.

    Attributes:
        address: Where, http or https.
        timeout_s: Seconds that one answer may take.
        name: What it is called.
        digest_of: What its owner says of its weights; part of the digest.
    """

    address: str
    timeout_s: float = 60.0
    name: str = "http"
    digest_of: str = ""

    def __post_init__(self) -> None:
        check_address(self.address, "the HTTP teacher's address")

    @property
    def digest(self) -> str:
        """Of its address and what its owner says of it: we do not see its weights."""
        said = f"http {VERSION} {self.address} {self.digest_of}"
        return hashlib.sha256(said.encode()).hexdigest()

    def entities(self, view: ViewImage) -> Entities:
        """The masks that it answers."""
        found = self._ask(view, "entities").entities or []
        if len(found) * view.height * view.width > MAX_MASK_PIXELS:
            raise self._unfit(view, f"{counted(len(found), 'mask')}: more than fit into 2 GB")
        masks = np.zeros((len(found), view.height, view.width), bool)
        for mask, one in zip(masks, found, strict=True):
            mask[:] = self._mask(one.rle, view)
        confidence = np.array([one.confidence for one in found], np.float32)
        return Entities(masks, confidence)

    def panoptic(self, view: ViewImage) -> Panoptic:
        """The segments that it answers."""
        said = self._ask(view, "panoptic").panoptic
        assert said is not None
        ids = self._array(said.ids, "ids", (view.height, view.width), "<u2").astype(np.int32)
        segments = tuple(
            Segment(one.id, one.class_name, one.thing, one.confidence) for one in said.segments
        )
        return Panoptic(ids, segments)

    def dense(self, view: ViewImage) -> Dense:
        """The maps that it answers."""
        said = self._ask(view, "dense").dense
        assert said is not None
        shape = (view.height, view.width)
        depth = self._map(said.depth, "depth", shape)
        scores = self._map(said.scores, "scores", (len(said.classes), *shape))
        return Dense(
            None if depth is None else DepthMap(depth, said.along, said.unit),
            self._map(said.normals, "normals", (*shape, 3)),
            None if scores is None else ClassScores(tuple(said.classes), scores),
            self._map(said.confidence, "confidence", shape),
        )

    def _ask(self, view: ViewImage, want: Want) -> _SaidAll:
        frame = view.frame
        question = {
            "version": VERSION,
            "want": [want],
            "width": view.width,
            "height": view.height,
            "fov_deg": frame.view.fov_deg if isinstance(frame, PerspectiveFrame) else None,
            "view": view.index,
            "image_png": base64.b64encode(encode_product("rgb.png", view.rgb)).decode(),
        }
        try:
            answer = ask_json(self.address, question, timeout_s=self.timeout_s)
            said = _SaidAll.model_validate(answer)
        except AskError as error:
            raise TeacherError(f"{self.name}, view {view.index}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part)[:50] for part in first["loc"]) or "the answer"
            raise self._unfit(view, f"{where}: {first['msg'][:200]}") from None
        if getattr(said, want) is None:
            raise self._unfit(view, f"it was asked for {want} and says nothing of it")
        return said

    def _mask(self, rle: _SaidRle, view: ViewImage) -> Mask:
        where = f"{self.name}, view {view.index}"
        try:
            runs = run_counts(rle.model_dump(), view.height, view.width, where)
        except DataError as error:
            raise TeacherError(str(error)) from None
        return fill_runs(runs, view.height, view.width)

    def _array(self, text: str, what: str, shape: tuple[int, ...], kind: str = "<f4") -> NDArray:
        wanted = int(kind[-1]) * int(np.prod(shape))
        if len(text) > wanted * 4 // 3 + 8:
            raise self._misfit(what, f"{len(text)} characters", wanted, shape, kind)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise self._misfit(what, "what is no base64", wanted, shape, kind) from None
        if len(data) != wanted:
            raise self._misfit(what, f"{len(data)} bytes", wanted, shape, kind)
        return np.frombuffer(data, kind).reshape(shape)

    def _map(
        self, text: str | None, what: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32] | None:
        return None if text is None else self._array(text, what, shape).astype(np.float32)

    def _misfit(
        self, what: str, got: str, wanted: int, shape: tuple[int, ...], kind: str
    ) -> TeacherError:
        return TeacherError(
            f"{self.name}: {what} is {got}, expected base64 of {wanted} bytes: {kind} of"
            f" {' × '.join(map(str, shape))}, row by row"
        )

    def _unfit(self, view: ViewImage, said: str) -> TeacherError:
        return TeacherError(
            f"{self.name}, view {view.index} of {view.width}×{view.height}: {self.address} answered"
            f" with what is no answer: {said}"
        )
