"""The label checker: what an instance is called, by rules first and a language model after.

Candidates are what panoptic teachers say of an instance. The rule of Leader360V's tool: where at
least two speak and all agree, that is taken (`by_rule`). Else a vision-language model is asked, if
an address is configured. It sees the crop with the mask's outline drawn, the candidates and the
vocabulary. It answers JSON: `{"label": "sofa", "comment": "…"}` or `{"label": "unknown"}`. Nothing
else is done with what it says: a word that is not of the vocabulary is `unknown`. Where there is no
address, or it does not answer, the label is `unknown` too, and the work goes on. Every label says
where it comes from.

Nothing leaves the machine unless an address is configured.
"""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from panoforge.core.errors import ConfigError
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.models import FrozenModel
from panoforge.core.sample.products import encode_product
from panoforge.core.types import Mask, Rgb
from panoforge.label.ask_http import AskError, ask_json, check_address, parse_json
from panoforge.label.vocabulary import UNKNOWN, Vocabulary, spelling

LabelSource = Literal["agreement", "one teacher", "model", "none"]
MAX_ANSWER_BYTES = 1 << 20
MAX_COMMENT = 300
_OUTLINE = (255, 40, 40)
_INSTRUCTIONS = (
    "You name one thing in a picture. Its outline is drawn in red. Detectors proposed:"
    " {candidates}. Choose the one class that fits best from this list: {classes}. If none fits, or"
    ' you cannot tell, the class is "unknown". Answer with JSON alone: {{"label": "<class>",'
    ' "comment": "<at most one sentence, only if a person should look>"}}'
)


class CheckerConfig(FrozenModel):
    """Who is asked for the name of what teachers do not agree on."""

    address: str | None = Field(
        None,
        description="Base of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1; null asks"
        " nobody, and nothing leaves this machine.",
    )
    model: str = Field(
        "",
        max_length=200,
        description="The model's name, as the server knows it; empty lets it choose.",
    )
    key_variable: str = Field(
        "",
        max_length=100,
        description="The environment variable that holds the API's key; empty sends none.",
    )
    timeout_s: float = Field(30.0, gt=0, le=3600, description="Seconds for one answer.")
    failures: int = Field(
        3, ge=1, description="After so many failures in a row nobody is asked any more."
    )
    crop_px: int = Field(448, ge=64, le=2048, description="Pixels on the longer side of a crop.")


@dataclass(frozen=True)
class LabelCandidate:
    """What a teacher calls an instance: its own word, and how sure it is."""

    teacher: str
    word: str
    confidence: float = 1.0


@dataclass(frozen=True)
class CheckedLabel:
    """What an instance is called.

    Attributes:
        name: A class of the vocabulary, a word that all teachers said, or `unknown`.
        source: `agreement` of at least two teachers; `one teacher`, where it is the only one that
            was asked; `model`, of the vision-language model; `none`.
        by: Who said it: teachers, or the model.
        comment: What the model wants a person to see, in one line.
    """

    name: str
    source: LabelSource
    by: str = ""
    comment: str = ""


@dataclass
class LabelChecker:
    """Names instances, and counts what was asked.

    Attributes:
        vocabulary: The classes.
        config: Who is asked.
        teachers: How many panoptic teachers there are. With one alone, its word is taken as that
            of one teacher; with more, at least two must agree.
    """

    vocabulary: Vocabulary
    config: CheckerConfig = field(default_factory=CheckerConfig)
    teachers: int = 2
    asked: int = 0
    answered: int = 0
    last_failure: str = ""
    _failed_in_a_row: int = 0

    def __post_init__(self) -> None:
        if self.config.address is not None:
            check_address(self.config.address, "checker.address")
        if self.config.key_variable and self.config.key_variable not in os.environ:
            raise ConfigError(
                f"checker.key_variable is {self.config.key_variable}, and there is no such variable"
                " in the environment: set it to the key, or leave it out"
            )

    @property
    def is_down(self) -> bool:
        """Whether so many questions in a row failed that nobody is asked any more."""
        return self._failed_in_a_row >= self.config.failures

    def check(self, candidates: Sequence[LabelCandidate], rgb: Rgb, mask: Mask) -> CheckedLabel:
        """What an instance is called.

        Args:
            candidates: What the teachers call it; those that say nothing are not there.
            rgb: uint8 (H, W, 3), the panorama.
            mask: bool (H, W), the instance.
        """
        ruled = by_rule(candidates, self.vocabulary, self.teachers)
        if ruled is not None:
            return ruled
        if self.config.address is None or self.is_down or not mask.any():
            return CheckedLabel(UNKNOWN, "none")
        return self._ask(candidates, crop_with_outline(rgb, mask, self.config.crop_px))

    def _ask(self, candidates: Sequence[LabelCandidate], crop: Rgb) -> CheckedLabel:
        self.asked += 1
        key = os.environ.get(self.config.key_variable, "") if self.config.key_variable else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        address = str(self.config.address).rstrip("/") + "/chat/completions"
        try:
            answer = ask_json(
                address,
                self._question(candidates, crop),
                timeout_s=self.config.timeout_s,
                headers=headers,
                max_bytes=MAX_ANSWER_BYTES,
            )
            label, comment = _answer_of(answer, address)
        except AskError as error:
            self._failed_in_a_row += 1
            self.last_failure = str(error)
            return CheckedLabel(UNKNOWN, "none")
        self._failed_in_a_row = 0
        self.answered += 1
        by = self.config.model or "the model"
        class_ = self.vocabulary.find(label)
        return CheckedLabel(class_.name if class_ else UNKNOWN, "model", by, comment)

    def _question(self, candidates: Sequence[LabelCandidate], crop: Rgb) -> dict:
        said = "; ".join(f"{one.word[:100]} ({one.teacher[:100]})" for one in candidates)
        text = _INSTRUCTIONS.format(
            candidates=said or "nothing", classes=", ".join(self.vocabulary.names)
        )
        png = base64.b64encode(encode_product("rgb.png", crop)).decode()
        content = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
        ]
        question = {
            "messages": [{"role": "user", "content": content}],
            "response_format": {"type": "json_object"},
            "temperature": 0,
            "max_tokens": 200,
        }
        return {"model": self.config.model, **question} if self.config.model else question


def by_rule(
    candidates: Sequence[LabelCandidate], vocabulary: Vocabulary, teachers: int
) -> CheckedLabel | None:
    """The name that needs nobody to be asked; None where somebody must be.

    At least two teachers speak, or the only one that there is, and all that speak mean one class.
    A teacher that says several words speaks for the surest of them. A word that the vocabulary does
    not have is a class of its own: it contradicts, and where all say it, it is taken as it is.
    """
    surest: dict[str, LabelCandidate] = {}
    for one in candidates:
        if spelling(one.word) == UNKNOWN:
            continue
        held = surest.get(one.teacher)
        if held is None or one.confidence > held.confidence:
            surest[one.teacher] = one
    found = {
        known.name if (known := vocabulary.find(one.word)) else one.word for one in surest.values()
    }
    if len(found) != 1 or len(surest) < min(2, teachers):
        return None
    source: LabelSource = "agreement" if teachers > 1 else "one teacher"
    return CheckedLabel(found.pop(), source, ", ".join(sorted(surest)))


def crop_with_outline(rgb: Rgb, mask: Mask, longer_px: int) -> Rgb:
    """The surroundings of an instance with its outline in red, at most `longer_px` on a side.

    The panorama is rolled so that the instance does not cross the seam.
    """
    height, width = mask.shape
    u, v = np.arange(width)[None, :], np.arange(height)[:, None]
    middle = (pixel_to_direction(u, v, width, height)[mask]).sum(axis=0)
    turn = round(float(np.arctan2(middle[0], middle[1])) / (2 * np.pi) * width)
    rgb, mask = np.roll(rgb, -turn, axis=1), np.roll(mask, -turn, axis=1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = 8 + (max(rows[-1] - rows[0], columns[-1] - columns[0]) // 4)
    box = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    crop, inside = np.ascontiguousarray(rgb[box]), mask[box].astype(np.uint8)
    scale = longer_px / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    inside = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(crop, outlines, -1, _OUTLINE, 2)
    return crop


def _answer_of(answer: object, address: str) -> tuple[str, str]:
    """(label, comment) of a chat completion. AskError where it holds none."""
    try:
        content = answer["choices"][0]["message"]["content"]  # type: ignore[index]
        if not isinstance(content, str):
            raise TypeError("content is no text")
    except (KeyError, IndexError, TypeError) as error:
        raise AskError(
            f"{address} answered with what is no chat completion: {type(error).__name__}"
        ) from None
    start, stop = content.find("{"), content.rfind("}")  # models like to wrap JSON in words
    said = parse_json(content[start : stop + 1].encode(), address)
    label, comment = (said.get("label"), said.get("comment")) if isinstance(said, dict) else (0, 0)
    if not isinstance(label, str):
        raise AskError(f"{address} answered without a label: {json.dumps(said)[:100]}")
    comment = " ".join(comment.split())[:MAX_COMMENT] if isinstance(comment, str) else ""
    return label[:200], comment
