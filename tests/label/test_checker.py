"""The label checker: rules first, then a real server on loopback, else `unknown`; all recorded."""

import base64
import json
import time
from typing import Any

import answering
import numpy as np
import pytest
from answering import server

from panoforge.core.errors import ConfigError
from panoforge.core.sample.products import decode_product
from panoforge.label.checker import (
    CheckedLabel,
    CheckerConfig,
    LabelCandidate,
    LabelChecker,
    crop_with_outline,
)
from panoforge.label.vocabulary import load_vocabulary

WORDS = load_vocabulary()
RGB = np.random.default_rng(0).integers(0, 256, (64, 128, 3)).astype(np.uint8)
MASK = np.zeros((64, 128), bool)
MASK[20:30, :8] = MASK[20:30, -8:] = True  # over the seam
ASKED = [LabelCandidate("a", "couch", 0.9), LabelCandidate("b", "bed", 0.8)]


def completion(said: Any) -> dict[str, Any]:
    text = said if isinstance(said, str) else json.dumps(said)
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def checker(address: str | None, **more: Any) -> LabelChecker:
    return LabelChecker(WORDS, CheckerConfig(address=address, **more))


def test_two_that_agree_are_taken_and_nobody_is_asked() -> None:
    with server(lambda question: completion({"label": "bed"})) as said:
        own = checker(said.address)
        agreed = own.check([LabelCandidate("a", "couch"), LabelCandidate("b", "sofa")], RGB, MASK)
        assert agreed == CheckedLabel("sofa", "agreement", "a, b")
        three = [*ASKED[:1], LabelCandidate("b", "Sofa"), LabelCandidate("c", "Unknown")]
        assert own.check(three, RGB, MASK).source == "agreement"  # who does not know says nothing
        assert not said.asked and not own.asked


def test_a_word_that_the_vocabulary_lacks_is_a_class_of_its_own() -> None:
    """It contradicts, whether or not a model can be asked; where all say it, it is taken."""
    two = [*ASKED[:1], LabelCandidate("b", "sofa")]
    with_stranger = [*two, LabelCandidate("c", "gibberish")]
    assert checker(None).check(with_stranger, RGB, MASK) == CheckedLabel("unknown", "none")
    with server(lambda question: completion({"label": "bed"})) as said:
        own = checker(said.address)
        assert own.check(with_stranger, RGB, MASK) == CheckedLabel("bed", "model", "the model")
        same = [LabelCandidate("a", "gizmo"), LabelCandidate("b", "gizmo")]
        assert own.check(same, RGB, MASK) == CheckedLabel("gizmo", "agreement", "a, b")
        assert len(said.asked) == 1


def test_a_teacher_speaks_once_for_its_surest_word() -> None:
    own = checker(None)
    same = [LabelCandidate("a", "sofa"), LabelCandidate("a", "sofa")]
    assert own.check(same, RGB, MASK) == CheckedLabel("unknown", "none")
    two = [
        LabelCandidate("a", "bed", 0.2),
        LabelCandidate("a", "couch", 0.9),
        LabelCandidate("b", "sofa", 0.1),
    ]
    assert own.check(two, RGB, MASK).name == "sofa"


def test_one_teacher_alone_is_taken_at_its_word_and_that_is_said() -> None:
    own = LabelChecker(WORDS, CheckerConfig(), teachers=1)
    assert own.check(ASKED[:1], RGB, MASK) == CheckedLabel("sofa", "one teacher", "a")
    assert own.check([], RGB, MASK) == CheckedLabel("unknown", "none")


def test_without_an_address_nothing_leaves_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    own = checker(None)
    assert own.check(ASKED, RGB, MASK) == CheckedLabel("unknown", "none") and own.asked == 0


def test_a_model_is_shown_the_crop_the_candidates_and_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OWN_KEY", "secret-7")
    with server(lambda question: completion({"label": "couch", "comment": "a\nchair?"})) as said:
        own = checker(said.address + "/", model="looks", key_variable="OWN_KEY", crop_px=96)
        found = own.check(ASKED, RGB, MASK)
        assert found == CheckedLabel("sofa", "model", "looks", "a chair?")
        (asked,) = said.asked
        assert said.paths == ["/v1/chat/completions"]
        assert said.headers[0]["Authorization"] == "Bearer secret-7"
        assert asked["model"] == "looks" and asked["temperature"] == 0
        text, picture = asked["messages"][0]["content"]
        assert "couch (a); bed (b)" in text["text"]
        assert all(name in text["text"] for name in WORDS.names)
        head, _, data = picture["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        crop = decode_product("rgb.png", base64.b64decode(data))
        assert max(crop.shape[:2]) == 96
        assert np.array_equal(crop, crop_with_outline(RGB, MASK, 96))
    assert (own.asked, own.answered) == (1, 1)


def test_the_crop_holds_the_thing_in_one_piece_with_its_outline() -> None:
    grey = np.full((64, 128, 3), 90, np.uint8)
    grey[MASK] = (0, 0, 255)
    crop = crop_with_outline(grey, MASK, 128)
    blue, red = (crop == (0, 0, 255)).all(axis=-1), (crop == (255, 40, 40)).all(axis=-1)
    columns = np.flatnonzero(blue.any(axis=0))
    assert np.ptp(columns) + 1 < 0.5 * crop.shape[1] and len(columns) == np.ptp(columns) + 1
    inner, outer = np.flatnonzero(blue.any(axis=0)), np.flatnonzero(red.any(axis=0))
    assert outer[0] < inner[0] and outer[-1] > inner[-1]
    pole = np.zeros((64, 128), bool)
    pole[:4] = True
    assert crop_with_outline(grey, pole, 64).shape[1] == 64


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"label": "unknown"}, "unknown"),
        ({"label": "flux capacitor"}, "unknown"),
        ({"label": "Dining Table"}, "table"),
        ('Sure! ```json\n{"label": "bed"}\n```', "bed"),
        ({"label": "bed", "comment": 7, "more": []}, "bed"),
        ({"label": "bed" * 1000}, "unknown"),
    ],
)
def test_only_words_of_the_vocabulary_are_labels(said: Any, name: str) -> None:
    with server(lambda question: completion(said)) as there:
        found = checker(there.address).check(ASKED, RGB, MASK)
        assert (found.name, found.source) == (name, "model")


HOSTILE = {
    **answering.HOSTILE,
    "no choices": {"choices": []},
    "content of another kind": completion({}) | {"choices": [{"message": {"content": [1]}}]},
    "no JSON in it": completion("I think it is a bed."),
    "no label": completion({"class": "bed"}),
    "a label of numbers": completion({"label": 7}),
    "a list in it": completion("[1, 2]"),
    "deep inside": completion("{" + '"a":{' * 20_000 + "}" * 20_001),
    "huge": b" " * (2 << 20),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_whatever_comes_back_the_work_goes_on(case: str) -> None:
    with server(lambda question: HOSTILE[case]) as said:
        own = checker(said.address, timeout_s=5)
        assert own.check(ASKED, RGB, MASK) == CheckedLabel("unknown", "none")
        assert own.asked == 1 and own.answered == 0
        assert said.address.partition("/v1")[0] in own.last_failure
        assert "\n" not in own.last_failure and len(own.last_failure) < 600


def test_a_checker_that_is_down_or_slow_is_given_up() -> None:
    own = checker("http://127.0.0.1:9/v1", failures=2)
    for _ in range(5):
        assert own.check(ASKED, RGB, MASK).name == "unknown"
    assert own.is_down and own.asked == 2 and "cannot be asked" in own.last_failure
    agreed = [LabelCandidate("a", "sofa"), LabelCandidate("b", "sofa")]
    assert own.check(agreed, RGB, MASK).name == "sofa"  # rules need nobody
    with server(answering.drip(10, 0.5)) as said:
        slow, begin = checker(said.address, failures=1, timeout_s=0.3), time.monotonic()
        assert slow.check(ASKED, RGB, MASK).name == "unknown" and slow.is_down
        assert time.monotonic() - begin < 3


def test_a_failure_between_answers_is_forgotten() -> None:
    answers = iter([500, completion({"label": "bed"}), 500, completion({"label": "bed"})])
    with server(lambda question: next(answers)) as said:
        own = checker(said.address, failures=2)
        names = [own.check(ASKED, RGB, MASK).name for _ in range(4)]
        assert names == ["unknown", "bed", "unknown", "bed"] and not own.is_down


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"checker.address: expected an address as http"):
        checker("ws://x")
    with pytest.raises(ConfigError, match=r"there is no such variable in the environment"):
        checker(None, key_variable="NOBODY_SET_THIS")
