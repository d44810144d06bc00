"""`video.json` and flow: what they refuse, and that flow comes back to 1/128 px at any width."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import angle_between, pixel_to_direction
from panoforge.core.names import frame_key, frame_of
from panoforge.core.sample.array_codec import MAX_PIXELS
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, VISIBLE, Flow, shorter_way
from panoforge.core.sample.metadata import SampleMeta, decode_meta
from panoforge.core.sample.products import decode_product, encode_product
from panoforge.core.sample.video import (
    VideoMeta,
    comings_and_goings,
    decode_video,
    encode_video,
    frame_faults,
)
from panoforge.core.storage.staged import read_staged, write_staged
from tests.videos import MOVING, stage_video


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    return folder, stage_video(folder, 0, frames=5)


def video_of(staged) -> VideoMeta:
    folder, keys = staged
    return decode_video(read_staged(folder, keys[0])[1]["video.json"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flow_comes_back_to_a_128th_of_a_pixel(data) -> None:
    height = data.draw(st.sampled_from([32, 500, 4096, 8192]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = rng.integers(0, height, 3)
    shape = (height, 2 * height) if 2 * height * height <= 1 << 20 else (height, 4)
    width = shape[1]
    displacement = np.zeros((*shape, 2), np.float32)
    displacement[rows, :, 0] = rng.uniform(-width / 2, width / 2, (3, width))
    displacement[rows, :, 1] = rng.uniform(-0.5, height - 0.5, (3, 1)) - rows[:, None]
    state = rng.integers(0, 3, shape).astype(np.uint8)
    flow = Flow(np.where((state == UNKNOWN)[..., None], np.nan, displacement), state)
    back = Flow.of_codes(
        decode_product(
            "flow_forward.delta.zst", encode_product("flow_forward.delta.zst", flow.codes())
        )
    )
    known = state != UNKNOWN
    assert (back.state == state).all() and np.isnan(back.displacement_px[~known]).all()
    assert np.abs(back.displacement_px[known] - displacement[known]).max() <= 1 / 128


def test_the_widest_panorama_has_room_for_the_longest_way() -> None:
    width = int(np.sqrt(2 * MAX_PIXELS))
    flow = Flow(np.zeros((1, width, 2), np.float32), np.zeros((1, width), np.uint8))
    flow.displacement_px[0, :, 0] = np.linspace(-width / 2, width / 2 - 1, width)
    back = Flow.of_codes(flow.codes())
    assert np.abs(back.displacement_px - flow.displacement_px).max() <= 1 / 128


def test_the_recipe_of_the_docstring_reads_codes() -> None:
    rng = np.random.default_rng(0)
    displacement = rng.uniform(-30, 30, (64, 128, 2)).astype(np.float32)
    displacement[..., 1] = 0
    codes = Flow(displacement, np.full((64, 128), HIDDEN, np.uint8)).codes()
    low_u, _, rest = np.moveaxis(codes.astype("i8"), -1, 0)
    du = (((rest >> 8) - 16 << 16) + low_u) / 64
    assert np.abs(du - displacement[..., 0]).max() <= 1 / 128 and ((rest & 7) == HIDDEN).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 20000.0])
def test_a_displacement_that_is_no_place_is_refused(wrong: float) -> None:
    flow = Flow(np.zeros((4, 8, 2), np.float32), np.full((4, 8), VISIBLE, np.uint8))
    flow.displacement_px[2, 3, 1] = wrong
    with pytest.raises(DataError, match="1 pixel is displaced by what is no number"):
        flow.codes()


def test_codes_that_leave_the_frame_are_refused() -> None:
    for displacement in ((0, 3.0), (5.0, 0)):  # 8 columns: half way around is 4
        flow = Flow(np.zeros((4, 8, 2), np.float32), np.zeros((4, 8), np.uint8))
        flow.displacement_px[3, 0] = displacement
        with pytest.raises(DataError, match="a place outside of the other frame"):
            Flow.of_codes(flow.codes())


def test_columns_take_the_shorter_way() -> None:
    assert shorter_way(np.array([7.0, -7.0, 4.0, 3.5]), 8).tolist() == [-1.0, 1.0, -4.0, 3.5]


def test_the_angle_is_that_between_directions() -> None:
    rng = np.random.default_rng(1)
    flow = Flow(rng.uniform(-2, 2, (16, 32, 2)).astype(np.float32), np.zeros((16, 32), np.uint8))
    row, column = 9, 31
    du, dv = flow.displacement_px[row, column]
    there = pixel_to_direction(column + du, row + dv, 32, 16)
    expected = angle_between(pixel_to_direction(column, row, 32, 16), there)
    assert flow.angle_rad()[row, column] == pytest.approx(expected, abs=1e-6)
    assert flow.places()[row, column, 0] == pytest.approx((column + du + 0.5) % 32 - 0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("pixels", "entered", "left"),
    [
        ((3, 3, 3), (), ()),
        ((0, 0, 3, 0, 5), (2, 4), (3,)),
        ((2, 0, 0), (), (1,)),
        ((0, 4), (1,), ()),
    ],
)
def test_what_comes_and_goes_follows_from_pixels(pixels, entered, left) -> None:
    assert comings_and_goings(pixels) == (entered, left)


def test_a_video_comes_back(staged) -> None:
    video = video_of(staged)
    assert decode_video(encode_video(video)) == video
    ball = video.instances[MOVING - 1]
    assert ball.pixels[2] == 0 and ball.entered == (3,) and ball.left == (2,)
    assert ball.pose(4) == ball.poses[4] and video.instances[0].pose(4) == video.instances[0].pose(
        0
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda v: v.update(fps=0), "greater than 0"),
        (lambda v: v.update(frames=6), "5 poses for 6 frames"),
        (lambda v: v["instances"].pop(0), "ids are not dense from 1"),
        (lambda v: v["instances"][2].update(entered=[1]), "entered and left are not those"),
        (lambda v: v["instances"][2].update(motion="still"), "is still and has 5 poses"),
        (lambda v: v["instances"][1].update(visibility=[1.0] * 4), "other frames than its video"),
        (lambda v: v["instances"][2]["poses"].pop(), "other frames than its video"),
        (
            lambda v: v["instances"][1]["poses"][0].update(world_from_rest=[[2, 0, 0]] * 3),
            "world_from_rest is not a rotation",
        ),
        (lambda v: v["instances"][1].update(pixels=[0] * 5, entered=[], left=[]), "in no frame"),
    ],
)
def test_a_video_that_contradicts_itself_is_refused(staged, change, why) -> None:
    document = json.loads(encode_video(video_of(staged)))
    change(document)
    with pytest.raises(DataError, match=why) as refused:
        decode_video(json.dumps(document).encode())
    assert "\n" not in str(refused.value)


def test_a_frame_is_compared_with_its_video(staged) -> None:
    folder, keys = staged
    video = video_of(staged)
    meta = read_staged(folder, keys[1])[0]
    assert frame_faults(video, meta) == []
    smaller = meta.model_copy(update={"width": 64, "height": 32})
    assert frame_faults(video, smaller) == ["is 64×32, its video 128×64"]
    moved = meta.model_copy(update={"pose": video.poses[2]})
    assert "its pose is not that of frame 1" in frame_faults(video, moved)[0]
    fewer = meta.model_copy(update={"instances": meta.instances[:-1]})
    assert "its instances are not those of frame 1" in frame_faults(video, fewer)[0]
    other = meta.instances[0].model_copy(update={"name": "door"})
    renamed = meta.model_copy(update={"instances": (other, *meta.instances[1:])})
    assert "instance 1 is 'door', in its video 'wall'" in frame_faults(video, renamed)[0]


def test_a_frame_of_another_size_is_not_staged(staged, tmp_path) -> None:
    folder, keys = staged
    meta, members = read_staged(folder, keys[1])
    arrays = {suffix: decode_product(suffix, members[suffix]) for suffix in meta.products}
    wide = video_of(staged).model_copy(update={"width": 256, "height": 128})
    with pytest.raises(DataError, match="is 128×64, its video 256×128"):
        write_staged(tmp_path, meta, arrays, video=wide)
    with pytest.raises(DataError, match="a frame is staged with its video"):
        write_staged(tmp_path, meta, arrays)
    assert list(tmp_path.iterdir()) == []


def test_keys_say_which_frame(staged) -> None:
    assert frame_of(frame_key("rooms-00000001-v0", 12)) == ("rooms-00000001-v0", 12)
    assert frame_of("rooms-00000001-c12") is None
    folder, keys = staged
    meta = json.loads(read_staged(folder, keys[1])[1]["meta.json"])
    meta["key"] = keys[2]
    with pytest.raises(DataError, match="is not the key of the frame"):
        decode_meta(json.dumps(meta).encode())
    last = read_staged(folder, keys[4])[0]
    with pytest.raises(ValidationError, match="leads to no other frame"):
        SampleMeta(**{**last.model_dump(), "products": ("flow_forward.delta.zst", "rgb.jpg")})
