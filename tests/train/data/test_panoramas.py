"""Panoramas with dense truth: what the sphere's augmentations give is what a turned camera sees."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from train_small import small_dense

from bench.dense_worlds import Room, draw_room, look_around, stage_rooms
from bench.solids import Solid
from panoforge.core.categories.class_map import class_map
from panoforge.core.categories.class_sets import VOID
from panoforge.core.errors import DataError, UsageError
from panoforge.core.geometry.sphere import View, angle_between, pixel_to_direction
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.sample.products import encode_product
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.shards.write import PackOptions, pack
from panoforge.train.data.dense_batch import EDGE, edge_distance, image_gradient
from panoforge.train.data.dense_source import PLAIN, PanoramaSource, open_dense_mixture
from panoforge.train.data.panoramas import (
    PanoramaPlan,
    build_panorama,
    panorama_plan,
    products_for,
    rotation_of,
    seen_in_one_view,
    within_view,
)
from panoforge.train.settings.dense import AugmentSettings

TASKS = ("semantic", "depth", "normal")
WIDTH, HEIGHT = 256, 64  # of the source, of the result
MIRROR = np.diag([-1.0, 1.0, 1.0])
PLAN = PanoramaPlan(0, 0, 0.0, 0.0, 0.0, False, 0, 0.0, 0.0)
TURNS = {
    "turned": {"yaw_share": 0.3125},
    "leant": {"tilt_deg": 35.0, "tilt_towards_deg": 70.0},
    "mirrored": {"yaw_share": 0.11, "mirror": True},
    "all": {"yaw_share": 0.7, "tilt_deg": 20.0, "tilt_towards_deg": -120.0, "mirror": True},
}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    stage_rooms(folder / "staged", 4, 0, width=128)
    pack(folder / "staged", folder / "dataset", PackOptions())
    return folder / "dataset"


def grid(width: int) -> np.ndarray:
    index = np.arange(width)
    return pixel_to_direction(index[None, :], index[: width // 2, None], width, width // 2)


def as_sample(depth_m: np.ndarray, normal: np.ndarray, rgb: np.ndarray, turn: np.ndarray) -> Sample:
    """A sample whose camera is turned so; normals are in the world's axes."""
    height, width = depth_m.shape
    arrays = {
        "rgb.png": rgb,
        "instance.zst": np.ones((height, width), np.uint16),
        "depth.delta.zst": depth_m.astype(np.float32),
        "normal.oct.zst": normal.astype(np.float32),
        "semantic.zst": np.ones((height, width), np.uint16),
    }
    meta = SampleMeta(
        key="view-000000-c0",
        width=width,
        height=height,
        source="test",
        scene="view-000000",
        seed=0,
        camera=0,
        pose=Pose(
            position_m=(0.0, 0.0, 0.0),
            yaw_deg=0.0,
            clearance_m=0.5,
            world_from_pano=tuple(map(tuple, turn.tolist())),
        ),
        products=tuple(sorted(arrays)),
        instances=(),
        config_sha256="0" * 64,
        versions={},
        timings_s={},
    )
    members = {suffix: encode_product(suffix, array) for suffix, array in arrays.items()}
    return Sample(meta.key, {**members, "meta.json": meta.model_dump_json().encode()})


def made(sample: Sample, plan: PanoramaPlan):
    return build_panorama(sample, plan, PLAIN, TASKS, class_map("panoforge"), HEIGHT)


def assert_alike(found, depth_m: np.ndarray, normal: np.ndarray) -> None:
    """The same but at edges, where a pixel of the source stands for its neighbourhood."""
    near = np.abs(found.depth_m / depth_m - 1) < 0.03
    turned = np.degrees(angle_between(found.normal, normal))
    assert near.mean() > 0.95, near.mean()
    assert (turned < 3).mean() > 0.95, (turned < 3).mean()
    assert np.median(turned) < 0.5


def mirrored(room: Room) -> Room:
    """The same room in a mirror at x = 0; shading follows the light."""
    solids = tuple(
        Solid(s.kind, MIRROR @ s.centre, MIRROR @ s.axes, s.half, s.colours, s.stripes)
        for s in room.scene.solids
    )
    scene = replace(room.scene, solids=solids, light=MIRROR @ room.scene.light)
    x = [-room.greatest[0], -room.least[0]]
    least, greatest = room.least.copy(), room.greatest.copy()
    least[0], greatest[0] = x
    return replace(room, least=least, greatest=greatest, scene=scene)


@pytest.mark.parametrize("case", TURNS)
def test_a_changed_panorama_is_what_a_turned_camera_sees(case: str) -> None:
    """Rooms shot again along the rays of the turned camera, and in a mirror."""
    plan = replace(PLAN, **TURNS[case])
    room = draw_room(np.random.default_rng(5))
    pose = rotation_of(replace(PLAN, yaw_share=0.4), WIDTH)  # the source's own camera is turned too
    _, rgb, depth_m, normal = look_around(room, grid(WIDTH) @ pose.T)
    found = made(as_sample(depth_m, normal, rgb, pose), plan)
    turn = rotation_of(plan, 2 * HEIGHT)
    seen = MIRROR @ turn.T @ pose.T if plan.mirror else turn.T @ pose.T  # world → result's axes
    _, again, depth_m, normal = look_around(room, grid(2 * HEIGHT) @ seen)
    assert_alike(found, depth_m, normal @ seen.T)
    if plan.mirror:  # and the mirrored room, shot by a camera that is not mirrored
        upright = replace(plan, mirror=False)
        about = MIRROR @ pose @ rotation_of(upright, 2 * HEIGHT) @ MIRROR
        _, _, depth_m, normal = look_around(mirrored(room), grid(2 * HEIGHT) @ about.T)
        assert_alike(found, depth_m, normal @ about)
    off = np.abs(found.rgb * 255 - again.astype(np.float32)).max(axis=-1)
    assert (off < 16).mean() > 0.9


@pytest.mark.render
def test_a_changed_panorama_is_what_blender_renders_with_a_turned_camera(tmp_path: Path) -> None:
    plans = [replace(PLAN, **TURNS[case]) for case in ("turned", "leant", "all")]
    turns = [rotation_of(plan, 2 * HEIGHT) for plan in plans]
    script = Path(__file__).parent / "dense_scene.py"

    def rendered(matrices: list[np.ndarray], width: int, name: str):
        out = tmp_path / f"{name}.npz"
        text = json.dumps([matrix.tolist() for matrix in matrices])
        done = subprocess.run(
            [sys.executable, str(script), str(out), text, str(width)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return np.load(out)

    source = rendered([np.eye(3)], WIDTH, "source")
    again = rendered(turns, 2 * HEIGHT, "turned")
    grey = np.full((WIDTH // 2, WIDTH, 3), 128, np.uint8)
    sample = as_sample(source["depth_0"], source["normal_0"], grey, np.eye(3))
    for number, (plan, turn) in enumerate(zip(plans, turns, strict=True)):
        depth_m, normal = again[f"depth_{number}"], again[f"normal_{number}"] @ turn
        if plan.mirror:
            depth_m, normal = depth_m[:, ::-1], normal[:, ::-1] @ MIRROR
        assert_alike(made(sample, plan), depth_m, normal)


def test_plans_are_functions_of_seed_and_position_and_show_each_sample_once_an_epoch() -> None:
    augment = AugmentSettings(tilt_deg=10)
    plans = [panorama_plan(augment, 3, p, 7) for p in range(14)]
    assert plans == [panorama_plan(augment, 3, p, 7) for p in range(14)]
    assert sorted(p.sample for p in plans[:7]) == sorted(p.sample for p in plans[7:]) == [*range(7)]
    assert plans != [panorama_plan(augment, 4, p, 7) for p in range(14)]
    assert {p.mirror for p in plans} == {True, False}
    assert all(0 <= p.tilt_deg <= 10 for p in plans) and len({p.tilt_deg for p in plans}) == 14
    plain = panorama_plan(PLAIN, 3, 0, 7)
    assert not plain.mirror and plain.yaw_share == plain.tilt_deg == 0


def test_classes_come_from_the_semantic_product_or_from_ids_and_their_table(rooms: Path) -> None:
    data, classes = Dataset.open(rooms), class_map("nyu40")
    for index in range(2):
        whole = data.read(index)
        without = Sample(
            whole.key, {k: v for k, v in whole.members.items() if not k.startswith("semantic")}
        )
        a, b = (
            build_panorama(s, PLAN, PLAIN, ("semantic",), classes, 64).semantic
            for s in (whole, without)
        )
        assert np.array_equal(a, b) and a.dtype == np.uint8
        assert len(np.unique(a)) >= 4 and (a < 40).any()


def test_what_is_unknown_stays_unknown() -> None:
    """Sky: no depth, no normal, no class."""
    depth_m = np.full((32, 64), 2.0, np.float32)
    normal = np.broadcast_to(np.float32([0, 0, 1]), (32, 64, 3)).copy()
    depth_m[:8], normal[:8] = np.inf, 0
    sample = as_sample(depth_m, normal, np.zeros((32, 64, 3), np.uint8), np.eye(3))
    plan = replace(PLAN, tilt_deg=30.0)
    found = build_panorama(sample, plan, PLAIN, TASKS, class_map("nyu40"), 32)
    sky = np.isinf(found.depth_m)
    assert 0.05 < sky.mean() < 0.4
    assert (found.normal[sky] == 0).all()
    assert np.allclose(np.linalg.norm(found.normal[~sky], axis=-1), 1)
    empty = np.zeros((32, 64), np.uint16)
    assert (class_map("nyu40").apply(empty) == VOID).all()


def test_one_view_of_depth_is_a_square_on_the_sphere(rooms: Path) -> None:
    config = small_dense(depth_supervision="random_view", merged_steps=1, view_fov_deg=60.0)
    line = open_dense_mixture(config, Dataset.open(rooms)).sources[0]
    whole, part = line.clip(config.clips_per_step - 1), line.clip(config.clips_per_step)
    assert np.isfinite(whole.depth_m).all() and not whole.fit_depth  # the first step: merged
    seen = np.isfinite(part.depth_m)
    assert part.fit_depth
    plan = line.plan(config.clips_per_step)
    again = seen_in_one_view(whole, plan, 60.0)
    assert np.array_equal(np.isfinite(again.depth_m), seen)
    rays = grid(seen.shape[1])
    view = View(plan.view_yaw_deg, plan.view_pitch_deg, 60.0, 1)
    assert np.array_equal(within_view(rays, view), seen)
    weight = np.sqrt(1 - rays[..., 2] ** 2)
    share = (seen * weight).sum() / weight.sum()
    tangent = np.tan(np.radians(30.0))
    exact = 4 * np.arctan(tangent**2 / np.sqrt(1 + 2 * tangent**2)) / (4 * np.pi)
    assert share == pytest.approx(exact, rel=0.15)


def test_a_dataset_without_what_a_task_learns_from_is_refused_when_it_is_opened(
    rooms: Path, caps_dataset: Path
) -> None:
    assert products_for(("semantic",), {"rgb", "instance"}) == ("rgb", "instance")
    assert products_for(("semantic",), {"rgb", "instance", "semantic"}) == ("rgb", "semantic")
    with pytest.raises(UsageError, match=r"caps-\S+ has no normal.*render it with"):
        PanoramaSource(Dataset.open(caps_dataset, "train"), small_dense())
    only = small_dense(model={"tasks": ["depth"]})
    assert PanoramaSource(Dataset.open(caps_dataset, "train"), only).batch((0,)).normal is None


def test_a_dataset_with_a_picture_of_another_shape_is_refused_when_it_is_opened(
    rooms: Path,
) -> None:
    data = Dataset.open(rooms)
    heights = data.samples["height"].to_pylist()
    at = data.samples.column_names.index("height")
    column = pa.array([*heights[:2], heights[2] + 8, *heights[3:]])
    other = Dataset(data.folder, data.manifest, data.samples.set_column(at, "height", column))
    with pytest.raises(DataError) as refused:
        PanoramaSource(other, small_dense())
    said = str(refused.value)
    assert f"{data.key(2)} is 128×72" in said and "twice as wide as high" in said
    assert "leave it out" in said and "\n" not in said


def test_category_ids_of_a_newer_table_are_refused() -> None:
    ones = np.ones((32, 64), np.float32)
    up = np.broadcast_to(np.float32([0, 0, 1]), (32, 64, 3))
    sample = as_sample(ones, up, np.zeros((32, 64, 3), np.uint8), np.eye(3))
    sample.members["semantic.zst"] = encode_product(
        "semantic.zst", np.full((32, 64), 60000, np.uint16)
    )
    with pytest.raises(DataError, match="category id 60000"):
        build_panorama(sample, PLAN, PLAIN, TASKS, class_map("nyu40"), 32)


def test_a_sample_that_is_not_twice_as_wide_as_high_is_refused() -> None:
    ones, up = np.ones((32, 32), np.float32), np.zeros((32, 32, 3), np.float32)
    sample = as_sample(ones, up, np.zeros((32, 32, 3), np.uint8), np.eye(3))
    with pytest.raises(DataError, match="32×32 is no equirectangular panorama"):
        build_panorama(sample, PLAN, PLAIN, TASKS, class_map("nyu40"), 32)


def test_gradients_and_distances_to_edges_know_no_seam() -> None:
    rgb = np.random.default_rng(0).random((24, 48, 3)).astype(np.float32)
    gradient = image_gradient(rgb)
    assert np.allclose(image_gradient(np.roll(rgb, 5, axis=1)), np.roll(gradient, 5, axis=2))
    assert (gradient[:, [0, -1]] == 0).all() and gradient[:, 1:-1].std() > 0.1
    flat = np.zeros((2, 24, 48), np.float32)
    flat[0, 12, 1] = EDGE + 0.1
    flat[0, 2, 30] = 1  # in the polar rows: does not count
    far = np.expm1(edge_distance(flat))
    columns, rows = np.arange(48), np.arange(24)
    across = np.minimum((columns - 1) % 48, (1 - columns) % 48)
    exact = np.minimum(np.hypot(across[None, :], (rows - 12)[:, None]), 24)
    assert np.allclose(far, exact, atol=1e-3)
    assert np.allclose(np.expm1(edge_distance(np.zeros((2, 24, 48), np.float32))), 24)


def test_mixtures_are_exact_and_each_source_has_its_own_supervision(rooms: Path) -> None:
    mixture = {
        "truth": {"weight": 3},
        "teachers": {"weight": 1, "dataset": str(rooms), "depth_supervision": "random_view"},
    }
    config = small_dense(mixture=mixture, merged_steps=0)
    source = PanoramaSource(Dataset.open(rooms), config)
    names = [source.mixture.at(p)[0].name for p in range(16)]
    assert names.count("truth") == 12 and names.count("teachers") == 4
    for position in range(8):
        batch = source.batch((position,))
        assert bool(batch.fit_depth[0]) == (names[position] == "teachers")
        again = PanoramaSource(Dataset.open(rooms), config).batch((position,))
        assert torch.equal(batch.rgb, again.rgb) and torch.equal(batch.depth_m, again.depth_m)


def test_a_panorama_is_the_same_to_the_bit_wherever_its_arrays_lie(rooms: Path) -> None:
    """Asked for again and again, with other things in the memory meanwhile."""
    teachers = {"weight": 1, "dataset": str(rooms), "depth_supervision": "random_view"}
    mixture = {"truth": {"weight": 1}, "teachers": teachers}
    augment = {"turn": True, "mirror": 0.5, "tilt_deg": 5}
    config = small_dense(mixture=mixture, merged_steps=0, augment=augment)
    source = PanoramaSource(Dataset.open(rooms), config)
    for position in range(10):
        first, kept = source.batch((position,)), []
        for again in range(12):
            kept.append(bytearray(again * 7919 % 4001 + 3))
            batch = source.batch((position,))
            for name in ("rgb", "depth_m", "normal", "semantic", "image_gradient", "edge_distance"):
                assert torch.equal(getattr(batch, name), getattr(first, name)), (position, name)


def test_the_first_steps_of_a_mixture_learn_from_merged_depth(rooms: Path) -> None:
    """`merged_steps` are steps of the run: a source has its share of their panoramas."""
    teachers = {"dataset": str(rooms), "depth_supervision": "random_view"}
    mixture = {"truth": {"weight": 3}, "teachers": {"weight": 1, **teachers}}
    config = small_dense(mixture=mixture, merged_steps=4)
    assert config.clips_per_step == 2  # eight panoramas, two of them the teachers'
    line = open_dense_mixture(config, Dataset.open(rooms)).sources[1]
    assert [line.clip(position).fit_depth for position in range(4)] == [False, False, True, True]
    views = [line.plan(p) for p in range(64)]
    assert len({view.view_yaw_deg for view in views}) == 64  # drawn anew each time
    ups = np.sin(np.radians([view.view_pitch_deg for view in views]))
    assert abs(ups.mean()) < 0.25 and 0.4 < ups.std() < 0.75  # uniform on the sphere: 0.58
