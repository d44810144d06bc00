"""Clicks: the most interior pixel against a brute force over all pairs of pixels, and where clicks
land in frames.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import (
    angle_between,
    pixel_to_direction,
    view_pixel_to_direction,
)
from panoforge.core.sample.label_maps import decode_rle, instance_stats
from panoforge.eval.config import EvalConfig
from panoforge.eval.segmentation.promptfile import PromptFile, panorama_entry, save_prompts
from panoforge.eval.segmentation.prompts import (
    angular_distance_squared,
    click_instances,
    interior_pixel,
    project_prompts,
    prompt_instances,
)
from panoforge.eval.views.methods import get_method


def directions(width: int, height: int) -> np.ndarray:
    return pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height)


def brute_distance(mask: np.ndarray) -> np.ndarray:
    """Angle from every pixel of a mask to the nearest pixel outside, H×W, by comparing all
    pairs."""
    all_of = directions(mask.shape[1], mask.shape[0])
    inside, outside = all_of[mask], all_of[~mask]
    out = np.zeros(mask.shape)
    out[mask] = angle_between(inside[:, None], outside[None]).min(axis=1) if len(outside) else np.pi
    return out


def random_mask(rng: np.random.Generator, case: int) -> np.ndarray:
    """A blob somewhere, in turn on the seam, over a pole, a ring around the sphere, noise, or a
    single pixel.
    """
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
        found = 2 * np.arcsin(
            np.sqrt(angular_distance_squared(mask, lat, 2 * np.pi / 24, wraps=True))
        )
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
                ((x, y),) = seen.points[index][0]
                back = view_pixel_to_direction(x, y, projection.view)
                assert angle_between(back, direction) < 1e-9
            else:
                assert angle_between(axis, direction) > np.pi / 4 - 1e-9


def test_further_clicks_keep_away_from_the_edge_and_from_each_other() -> None:
    """Each is the farthest pixel from everything that is outside or clicked, by comparing all
    pairs.
    """
    rng = np.random.default_rng(5)
    for case in range(60):
        mask = random_mask(rng, case)
        (prompt,) = click_instances(mask.astype(np.uint16), [1], 5)
        left = mask.copy()
        assert len(prompt.clicks) == min(5, mask.sum())
        for click in prompt.clicks:
            distance = brute_distance(left)
            assert left[click.v, click.u] and distance[click.v, click.u] == pytest.approx(
                distance.max(), abs=1e-5
            ), case
            left[click.v, click.u] = False
        (alone,) = click_instances(mask.astype(np.uint16), [1])
        assert (alone.clicks[0].u, alone.clicks[0].v) == (prompt.clicks[0].u, prompt.clicks[0].v)


def test_a_box_goes_into_the_frame_that_sees_most_of_it() -> None:
    labels = np.zeros((128, 256), np.uint16)
    labels[50:70, 250:], labels[50:70, :14] = 1, 1  # over the seam
    plan = get_method("scan").plan(256, 128, EvalConfig.model_validate({"scan": {"size_px": 64}}))
    (prompt,) = prompt_instances(labels, [1], "box")
    assert (prompt.box.u0, prompt.box.width, prompt.box.v0, prompt.box.height) == (250, 20, 50, 20)
    (seen,) = project_prompts([prompt], plan.projections)
    (index,), (corners, kinds) = seen.points.keys(), next(iter(seen.points.values()))
    assert kinds.tolist() == [2, 3] and (corners[0] < corners[1]).all()
    inside = [int(p.project(directions(256, 128)[labels == 1])[2].sum()) for p in plan.projections]
    assert inside[index] == max(inside) == (labels == 1).sum()
    x, y, _ = plan.projections[index].project(directions(256, 128)[labels == 1])
    low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
    assert (corners[0] <= low + 1e-6).all() and (
        corners[1] >= high - 1e-6
    ).all()  # holds every pixel centre
    assert (corners[0] > low - 3).all() and (corners[1] < high + 3).all()  # and little more


def test_a_mask_is_given_whole_in_one_frame() -> None:
    _, labels = synthetic.caps(np.random.default_rng(0), 256, 5)
    plan = get_method("scan").plan(256, 128, EvalConfig.model_validate({"scan": {"size_px": 64}}))
    prompts = prompt_instances(labels, [2, 3], "mask")
    for prompt, seen in zip(prompts, project_prompts(prompts, plan.projections), strict=True):
        np.testing.assert_array_equal(decode_rle(prompt.mask), labels == prompt.id)
        ((index, given),) = seen.masks.items()
        assert not seen.points and seen.frames() == {index}
        from panoforge.core.geometry.views import wrap_panorama

        expected = plan.projections[index].sample(wrap_panorama(labels), labels=True) == prompt.id
        np.testing.assert_array_equal(given > 0, expected)


@pytest.mark.parametrize(("kind", "clicks"), [("click", 1), ("click", 5), ("box", 1), ("mask", 1)])
def test_prompts_are_deterministic_and_come_back_from_their_file(
    tmp_path: Path, kind: str, clicks: int
) -> None:
    _, labels = synthetic.caps(np.random.default_rng(0), 256, 5)
    prompts = prompt_instances(labels, [1, 4], kind, clicks)
    save_prompts(tmp_path / "prompts.json", {"k": panorama_entry(prompts, 256, 128)}, "id")
    again = PromptFile(tmp_path / "prompts.json").prompts("k", labels)
    save_prompts(tmp_path / "again.json", {"k": panorama_entry(again, 256, 128)}, "id")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "prompts.json").read_bytes()
    for one, other in zip(prompts, again, strict=True):
        assert (one.id, one.box, one.mask) == (other.id, other.box, other.mask) and len(
            one.clicks
        ) == len(other.clicks)
        for a, b in zip(one.clicks, other.clicks, strict=True):
            assert angle_between(a.direction, b.direction) < 1e-7 and (a.u, a.v, a.label) == (
                b.u,
                b.v,
                b.label,
            )


def test_a_prompts_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, labels = synthetic.caps(np.random.default_rng(0), 256, 5)
    path = tmp_path / "prompts.json"
    entry = panorama_entry(prompt_instances(labels, [1], "click"), 256, 128)

    def refuses(change: dict, said: str) -> None:
        save_prompts(path, {"k": {**entry, **change}}, "id")
        with pytest.raises(DataError, match=said):
            PromptFile(path).prompts("k", labels)

    click = entry["instances"][0]["clicks"][0]
    refuses({"width": 512}, "they are for 512×128, the panorama has 256×128")
    refuses({"instances": [{"id": 77, "clicks": [click]}]}, "id 77 is not in the label map")
    refuses(
        {"instances": [{"id": 1, "clicks": [{**click, "u": 256}]}]},
        "a click of id 1 is outside of the panorama",
    )
    refuses({"instances": [{"id": 1}]}, "id 1 needs clicks, or a box, or a mask")
    refuses({"instances": [{"clicks": [click]}]}, "KeyError 'id'")
    refuses(
        {"instances": [{"id": 1, "box": {"u0": 250, "v0": 120, "width": 9, "height": 9}}]},
        "box of id 1 is outside",
    )
    for mask, said in (
        ({"size": [128, 256], "counts": [5, 7]}, "mask of id 1: its RLE does not fill"),
        ({"size": [128, 256], "counts": "0"}, "mask of id 1: its RLE does not fill"),
        ({"size": [64, 128], "counts": [64 * 128]}, r"mask of id 1: its mask is \[64, 128\]"),
        ({"size": [128, 256]}, "mask of id 1: expected a COCO RLE"),
    ):
        refuses({"instances": [{"id": 1, "mask": mask}]}, said)
    with pytest.raises(DataError, match="no prompts for panorama other"):
        PromptFile(path).prompts("other", labels)
    path.write_text(
        json.dumps({"format": "panoforge-prompts", "schema_version": 1, "panoramas": {}})
    )
    with pytest.raises(
        DataError, match="version 1; this panoforge reads panoforge-prompts version 2"
    ):
        PromptFile(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="is no prompts file"):
        PromptFile(path)
