"""Clicks: the most interior pixel against a brute force over all pairs of pixels, and where clicks land in frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic

from eval.config import EvalConfig
from eval.methods import get_method
from eval.prompts import angular_distance_squared, click_instances, interior_pixel, project_prompts, save_prompts
from eval.results import Row
from pano.masks import instance_stats
from pano.sphere import angle_between, pixel_to_direction, view_pixel_to_direction


def directions(width: int, height: int) -> np.ndarray:
    return pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height)


def brute_distance(mask: np.ndarray) -> np.ndarray:
    """Angle from every pixel of a mask to the nearest pixel outside, H×W, by comparing all pairs."""
    all_of = directions(mask.shape[1], mask.shape[0])
    inside, outside = all_of[mask], all_of[~mask]
    out = np.zeros(mask.shape)
    out[mask] = angle_between(inside[:, None], outside[None]).min(axis=1) if len(outside) else np.pi
    return out


def random_mask(rng: np.random.Generator, case: int) -> np.ndarray:
    """A blob somewhere, in turn on the seam, over a pole, a ring around the sphere, noise, or a single pixel."""
    width, height = 24, 12
    lon = np.pi if case % 6 == 0 else rng.uniform(-np.pi, np.pi)
    lat = np.pi / 2 if case % 6 == 1 else rng.uniform(-1.5, 1.5)
    centre = np.array([np.cos(lat) * np.sin(lon), np.cos(lat) * np.cos(lon), np.sin(lat)])
    mask = angle_between(directions(width, height), centre) < rng.uniform(0.2, 1.4)
    if case % 6 == 2:
        mask = np.zeros((height, width), bool)
        mask[rng.integers(0, 6) : rng.integers(7, 12)] = True
    elif case % 6 == 3:
        mask = rng.random((height, width)) < 0.7
    elif case % 6 == 4:
        mask[:] = False
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


def test_interior_pixel_is_the_farthest_from_outside() -> None:
    rng = np.random.default_rng(0)
    for case in range(240):
        mask = random_mask(rng, case)
        stats = instance_stats(mask.astype(np.uint16))
        u, v = interior_pixel(mask, stats.box(0))
        distance = brute_distance(mask)
        assert mask[v, u]
        assert distance[v, u] == pytest.approx(distance.max(), abs=1e-5), (case, mask)


def test_distance_transform_is_exact_over_the_whole_grid() -> None:
    rng = np.random.default_rng(1)
    for case in range(60):
        mask = random_mask(rng, case)
        lat = (0.5 - (np.arange(12) + 0.5) / 12) * np.pi
        found = 2 * np.arcsin(np.sqrt(angular_distance_squared(mask, lat, 2 * np.pi / 24, wraps=True)))
        np.testing.assert_allclose(found, brute_distance(mask), atol=1e-7)


def test_the_full_sphere_has_a_click_too() -> None:
    labels = np.ones((16, 32), np.uint16)
    (prompt,) = click_instances(labels, [1])
    assert labels[prompt.clicks[0].v, prompt.clicks[0].u] == 1


def test_large_masks_are_searched_coarsely_but_well() -> None:
    _, labels = synthetic.caps(np.random.default_rng(3), 1024, 6)
    stats = instance_stats(labels)
    for k, prompt in enumerate(click_instances(labels, stats.ids.tolist())):
        mask = labels == prompt.id
        click = prompt.clicks[0]
        assert mask[click.v, click.u]
        up, down = np.vstack([mask[:1], mask[:-1]]), np.vstack([mask[1:], mask[-1:]])
        edge = ~mask & (np.roll(mask, 1, 1) | np.roll(mask, -1, 1) | up | down)
        at = directions(1024, 512)
        some = at[mask][:: max(1, mask.sum() // 400)]
        best = angle_between(some[:, None], at[edge][None]).min(axis=1).max()
        assert angle_between(at[click.v, click.u], at[edge]).min() > 0.93 * best, k


def test_a_click_goes_into_every_view_that_sees_it_and_nowhere_else() -> None:
    config = EvalConfig.model_validate({"scan": {"size_px": 64}})
    plan = get_method("scan").plan(512, 256, config)
    _, labels = synthetic.caps(np.random.default_rng(0), 512, 6)
    prompts = click_instances(labels, [1, 2, 3])
    for prompt, seen in zip(prompts, project_prompts(prompts, plan.projections), strict=True):
        direction = prompt.clicks[0].direction
        assert len(seen.points) >= 2  # half of every view overlaps its neighbour
        for index, projection in enumerate(plan.projections):
            axis = view_pixel_to_direction(31.5, 31.5, projection.view)
            if index in seen.points:
                (x, y), = seen.points[index][0]
                back = view_pixel_to_direction(x, y, projection.view)
                assert angle_between(back, direction) < 1e-9
            else:
                assert angle_between(axis, direction) > np.pi / 4 - 1e-9


def test_prompts_are_deterministic_and_saved(tmp_path: Path) -> None:
    _, labels = synthetic.caps(np.random.default_rng(0), 256, 5)
    first, second = click_instances(labels, [1, 4]), click_instances(labels, [1, 4])
    assert [p.clicks[0].u for p in first] == [p.clicks[0].u for p in second]
    click = first[1].clicks[0]
    row = Row(key="k", method="scan", role="model", predictor="SAM2", id=4, category="lamp", flags=(), pixels=9, area_sr=0.1,
              lon_deg=click.lon_deg, lat_deg=click.lat_deg, u=click.u, v=click.v, frames=4, predicted_pixels=0, both_pixels=0,
              iou=0.0, iou_cos=0.0, boundary_f=0.0)
    save_prompts(tmp_path / "prompts.json", {"k": (256, 128, [row])}, "id")
    saved = json.loads((tmp_path / "prompts.json").read_text())
    (instance,) = saved["panoramas"]["k"]["instances"]
    assert instance["id"] == 4 and saved["protocol_id"] == "id"
    lon, lat = np.radians(instance["clicks"][0]["lon_deg"]), np.radians(instance["clicks"][0]["lat_deg"])
    again = np.array([np.cos(lat) * np.sin(lon), np.cos(lat) * np.cos(lon), np.sin(lat)])
    assert angle_between(again, click.direction) < 1e-7
