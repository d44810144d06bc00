"""The HTTP teacher against a real server: what is right arrives, everything else is one line."""

import base64
import socket
import threading
import time
from typing import Any

import answering
import numpy as np
import pytest
from answering import server
from pycocotools import mask as coco_mask

from panoforge.core.errors import ConfigError
from panoforge.core.geometry.sphere import View
from panoforge.core.sample.products import decode_product
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame
from panoforge.label import ask_http
from panoforge.label.teachers.base import (
    TeacherError,
    ViewImage,
    ask_dense,
    ask_entities,
    ask_panoptic,
)
from panoforge.label.teachers.http import HttpTeacher

H, W = 6, 6
RNG = np.random.default_rng(0)
VIEW = ViewImage(
    RNG.integers(0, 256, (H, W, 3)).astype(np.uint8), PerspectiveFrame(View(0, 0, 80, H)), 5
)
MASK = np.zeros((H, W), np.uint8)
MASK[1:4, 2:5] = 1


def text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def rle(mask: np.ndarray) -> dict[str, Any]:
    made = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(made["size"]), "counts": made["counts"].decode()}


ENTITIES = {"entities": [{"rle": rle(MASK), "confidence": 0.5}]}
IDS = MASK.astype("<u2") * 9
PANOPTIC = {"panoptic": {"ids": text(IDS), "segments": [
    {"id": 9, "class": "chair", "thing": True, "confidence": 0.75, "more": 1}]}}  # fmt: skip
DEPTH = RNG.uniform(1, 2, (H, W)).astype("<f4")
UP = np.zeros((H, W, 3), "<f4")
UP[..., 1] = -1
DENSE = {"dense": {"depth": text(DEPTH), "along": "ray", "unit": "relative", "normals": text(UP),
                   "scores": text(np.stack([DEPTH, DEPTH])), "classes": ["a", "b"],
                   "confidence": text(DEPTH / 2)}}  # fmt: skip


def answer(question: dict[str, Any]) -> dict[str, Any]:
    return {"entities": ENTITIES, "panoptic": PANOPTIC, "dense": DENSE}[question["want"][0]]


def test_what_is_right_arrives() -> None:
    with server(answer) as said:
        teacher = HttpTeacher(said.address, name="mine")
        entities = ask_entities(teacher, VIEW)
        assert np.array_equal(entities.masks, MASK[None] > 0)
        assert entities.confidence.tolist() == [0.5]
        panoptic = ask_panoptic(teacher, VIEW)
        assert np.array_equal(panoptic.segment_ids, IDS)
        (segment,) = panoptic.segments
        assert (segment.id, segment.class_name, segment.is_thing) == (9, "chair", True)
        dense = ask_dense(teacher, VIEW)
        assert np.array_equal(dense.depth.values, DEPTH)
        assert (dense.depth.along, dense.depth.unit) == ("ray", "relative")
        assert np.array_equal(dense.normals, UP) and dense.scores.names == ("a", "b")
        assert np.array_equal(dense.confidence, DEPTH / 2)
        asked = said.asked[0]
        sent = decode_product("rgb.png", base64.b64decode(asked["image_png"]))
        assert np.array_equal(sent, VIEW.rgb)
        assert (asked["width"], asked["height"], asked["fov_deg"], asked["view"]) == (W, H, 80, 5)
        window = ViewImage(VIEW.rgb, ErpFrame(0, 0, W, H, 2 * W, H))
        ask_entities(teacher, window)
        assert said.asked[-1]["fov_deg"] is None


def test_little_may_be_said() -> None:
    with server(lambda question: {"dense": {}, "entities": []}) as said:
        teacher = HttpTeacher(said.address)
        assert ask_dense(teacher, VIEW).depth is None
        assert not len(ask_entities(teacher, VIEW).masks)


def changed(good: dict[str, Any], part: str, **more: Any) -> dict[str, Any]:
    return {part: {**good[part], **more}}


SEGMENT = PANOPTIC["panoptic"]["segments"][0]
WRONG: dict[str, tuple[str, Any]] = {
    "another": ("entities", PANOPTIC),
    "a mask of another size": ("entities", {"entities": [{"rle": rle(MASK[1:])}]}),
    "a mask that is claimed larger": ("entities", {"entities": [
        {"rle": {"size": [1 << 30, 1 << 30], "counts": "0"}}]}),
    "counts that are too long": ("entities", {"entities": [
        {"rle": {"size": [H, W], "counts": "0" * 1000}}]}),
    "counts that are no counts": ("entities", {"entities": [
        {"rle": {"size": [H, W], "counts": "é\x00~"}}]}),
    "too many masks": ("entities", {"entities": ENTITIES["entities"] * 5000}),
    "confidence in words": ("entities", {"entities": [{"rle": rle(MASK), "confidence": "1"}]}),
    "confidence over 1": ("entities", {"entities": [{"rle": rle(MASK), "confidence": 1.5}]}),
    "ids of another size": ("panoptic", changed(PANOPTIC, "panoptic", ids=text(IDS[1:]))),
    "ids that are no base64": ("panoptic", changed(PANOPTIC, "panoptic", ids="*" * 96)),
    "ids without a segment": ("panoptic", changed(PANOPTIC, "panoptic", segments=[])),
    "an id twice": ("panoptic", changed(PANOPTIC, "panoptic", segments=[SEGMENT] * 2)),
    "a negative id": ("panoptic", changed(PANOPTIC, "panoptic", segments=[
        {**SEGMENT, "id": -1}])),
    "a long class": ("panoptic", changed(PANOPTIC, "panoptic", segments=[
        {**SEGMENT, "class": "x" * 1000}])),
    "depth of another size": ("dense", changed(DENSE, "dense", depth=text(DEPTH[1:]))),
    "depth that is far too long": ("dense", changed(DENSE, "dense", depth="A" * 100_000)),
    "depth of NaN": ("dense", changed(DENSE, "dense", depth=text(DEPTH * np.float32(np.nan)))),
    "negative depth": ("dense", changed(DENSE, "dense", depth=text(-DEPTH))),
    "another unit": ("dense", changed(DENSE, "dense", unit="feet")),
    "classes without scores of theirs": ("dense", changed(DENSE, "dense", classes=["a"])),
    "many classes": ("dense", changed(DENSE, "dense", classes=["a"] * 5000)),
    "normals of no length": ("dense", changed(DENSE, "dense", normals=text(UP * 3))),
}  # fmt: skip
ASK = {"entities": ask_entities, "panoptic": ask_panoptic, "dense": ask_dense}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_refused_in_one_line(case: str) -> None:
    want, given = WRONG[case]
    with server(lambda question: given) as said:
        with pytest.raises(TeacherError, match=r"^mine") as refusal:
            ASK[want](HttpTeacher(said.address, name="mine"), VIEW)
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 700


@pytest.mark.parametrize("case", answering.HOSTILE)
def test_a_hostile_answer_is_refused_in_one_line(case: str) -> None:
    with server(lambda question: answering.HOSTILE[case]) as said:
        teacher = HttpTeacher(said.address, name="mine", timeout_s=5)
        with pytest.raises(TeacherError, match=r"^mine, view 5") as refusal:
            ask_entities(teacher, VIEW)
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 700
        assert len(said.asked) == 1, "a redirect was followed"


def test_slow_answers_end_at_the_deadline() -> None:
    with server(answering.drip(10, 1.0)) as said:
        begin = time.monotonic()
        with pytest.raises(TeacherError, match=r"did not answer within 0.5 s"):
            ask_entities(HttpTeacher(said.address, timeout_s=0.5), VIEW)
        assert time.monotonic() - begin < 4


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listening.accept()
        try:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
            for _ in range(100):
                peer.sendall(b" ")
                time.sleep(0.1)
        except OSError:
            pass
        finally:
            peer.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    begin = time.monotonic()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with pytest.raises(TeacherError, match=r"did not answer within 1 s"):
        ask_entities(HttpTeacher(address, timeout_s=1), VIEW)
    assert time.monotonic() - begin < 5
    listening.close()


def test_an_endless_answer_is_cut() -> None:
    with (
        server(lambda question: b" " * (3 << 20)) as said,
        pytest.raises(ask_http.AskError, match=r"more than 1048576 bytes"),
    ):
        ask_http.ask_json(said.address, {}, timeout_s=20, max_bytes=1 << 20)


def test_nobody_there_is_said() -> None:
    with pytest.raises(TeacherError, match=r"http://127.0.0.1:9/ cannot be asked: "):
        ask_entities(HttpTeacher("http://127.0.0.1:9/"), VIEW)


@pytest.mark.parametrize(
    "address", ["", "ftp://x/", "file:///etc/passwd", "http://", "http://x:99999/", "http://a b/"]
)
def test_only_addresses_of_http_are_taken(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^the HTTP teacher's address: expected"):
        HttpTeacher(address)
