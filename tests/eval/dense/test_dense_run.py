"""`pano eval` with task: dense, from data to report, on rooms known in closed form."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from rooms import rooms

from panoforge.core.categories.class_map import class_map
from panoforge.core.categories.class_sets import VOID
from panoforge.core.errors import DataError, UsageError
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.report.pictures import NOTHING_RGB
from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.eval.dense import run as dense_run
from panoforge.eval.dense.compare import compare_maps, render_maps
from panoforge.eval.dense.gallery import (
    WORST_REL,
    class_errors,
    depth_error_colours,
    normal_error_colours,
)
from panoforge.eval.dense.pictures import picture_files, read_maps_of
from panoforge.eval.dense.rows import read_rows, rows_parquet
from panoforge.eval.dense.sources import DatasetMaps
from panoforge.eval.dense.table import dense_lines
from panoforge.eval.maps import DenseMaps, nearest_pixels, smooth_pixels
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.metrics.normals import angles_deg
from panoforge.eval.scoring.metrics.places import PLACES

HALVES = {"train": 0.5, "val": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return rooms(tmp_path_factory.mktemp("rooms"), 8, 128, splits=HALVES)


def config(**dense):
    return EvalConfig.model_validate({"task": "dense", "split": "val", "dense": dense})


def write_predictions(folder, data, change=lambda maps, rng: maps):
    """A folder of the true maps of every panorama, changed."""
    source, rng = DatasetMaps(data, None, config(predictor="truth").dense), np.random.default_rng(5)
    for index, key in enumerate(source.keys):
        truth = source[index].truth
        found = change(truth, rng)
        for task in ("semantic", "depth", "normal"):
            (folder / task).mkdir(parents=True, exist_ok=True)
        ids = np.where(found.semantic == VOID, 0, found.semantic + 1).astype(np.uint8)
        np.save(folder / "semantic" / f"{key}.npy", ids)
        np.save(folder / "depth" / f"{key}.npy", found.depth_m)
        np.save(folder / "normal" / f"{key}.npy", found.normal)
    return folder


def noisy(maps, rng):
    """Every fifth pixel of another class, depth 10 % too far, normals turned by 6° about up."""
    semantic = np.where(rng.random(maps.semantic.shape) < 0.2, 3, maps.semantic).astype(np.uint8)
    turn = math.radians(6)
    about_up = np.array(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    normal = (maps.normal @ about_up.T).astype(np.float32)
    return DenseMaps(semantic, maps.depth_m * np.float32(1.1), normal)


def entry(results, task, variant="", *, role="model", place="everywhere", weighting="pixels"):
    return next(
        e
        for e in results["scores"]
        if (e["role"], e["task"], e["variant"], e["place"], e["weighting"])
        == (role, task, variant, place, weighting)
    )


def test_truth_is_the_best_that_can_be_scored(data, tmp_path):
    found = run_evaluation(config(predictor="truth"), data, tmp_path)
    for e in found.results["scores"]:
        best = {"semantic": ("miou", 1), "depth": ("rmse_m", 0), "normal": ("rms_deg", 0)}[
            e["task"]
        ]
        assert e["mean"][best[0]] == pytest.approx(best[1], abs=1e-5), e
    assert {e["place"] for e in found.results["scores"]} == set(PLACES)
    assert (found.folder / "report.html").stat().st_size > 100_000
    assert (tmp_path / "eval" / "latest").resolve() == found.folder.resolve()
    assert found.folder.name.startswith("dense-truth-dataset-")


def test_normals_of_a_turned_camera_are_compared_in_the_panoramas_frame(data):
    """What a camera sees faces it, whatever its yaw: in the world's frame it would not."""
    source = DatasetMaps(data, None, config(predictor="truth").dense)
    rays = pixel_to_direction(np.arange(128)[None], np.arange(64)[:, None], 128, 64)
    for index in range(len(source.keys)):
        normal = source[index].truth.normal
        assert (np.sum(normal * rays, axis=-1) < 1e-3).all()


def test_a_folder_of_predictions_scores_what_was_changed(data, tmp_path):
    folder = write_predictions(tmp_path / "theirs", data, noisy)
    asked = config(predictor="folder", predictions=folder)
    results = run_evaluation(asked, data, tmp_path / "run").results
    depth = entry(results, "depth", "metric")["mean"]
    assert depth["abs_rel"] == pytest.approx(0.1, abs=1e-3)  # clamping at 10 m never acts
    assert depth["delta_1"] == 1 and depth["silog"] < 1e-5
    assert entry(results, "depth", "scale")["mean"]["abs_rel"] < 1e-5
    normal = entry(results, "normal")["mean"]
    assert 0 < normal["mean_deg"] < 6.001 and normal["under_11_25"] == 1
    assert 0 < normal["under_5"] < 1  # floors and ceilings are not turned by a turn about up
    miou = entry(results, "semantic")["mean"]["miou"]
    assert 0.4 < miou < 0.85
    # By hand, of one confusion matrix over all panoramas.
    source = DatasetMaps(data, "val", asked.dense)
    truth, said = [], []
    for index, key in enumerate(source.keys):
        truth.append(source[index].truth.semantic.ravel())
        said.append(np.load(folder / "semantic" / f"{key}.npy").ravel() - 1)
    truth, said = np.concatenate(truth), np.concatenate(said)
    ious = [
        np.sum((truth == c) & (said == c)) / np.sum((truth == c) | (said == c))
        for c in np.unique([*truth, *said])
    ]
    assert miou == pytest.approx(np.mean(ious), abs=1e-12)
    assert results["weights"]["kind"] == "folder" and len(results["weights"]["sha256"]) == 64
    lines = "\n".join(dense_lines(results))
    assert "mIoU" in lines and "ceiling" in lines and "every pixel has a class" in lines


def test_pooled_and_mean_scores_differ_as_their_rules_say(data, tmp_path):
    """One panorama more wrong than the other: RMSE pooled over pixels is no mean of RMSEs."""
    shares = iter(np.linspace(1.05, 1.8, 8).astype(np.float32))

    def two(maps, rng):
        return DenseMaps(maps.semantic, maps.depth_m * next(shares), maps.normal)

    folder = write_predictions(tmp_path / "two", data, two)
    asked = config(predictor="folder", predictions=folder, max_depth_m=100, tasks=["depth"])
    results = run_evaluation(asked, data, tmp_path / "run").results
    found = entry(results, "depth", "metric")
    source = DatasetMaps(data, "val", asked.dense)
    squares, alone = [], []
    for index, key in enumerate(source.keys):
        error = np.load(folder / "depth" / f"{key}.npy").astype(float) - source[index].truth.depth_m
        squares.append(error.ravel() ** 2)
        alone.append(math.sqrt(np.mean(error**2)))
    assert found["mean"]["rmse_m"] == pytest.approx(np.mean(alone), rel=1e-6)
    pooled = math.sqrt(np.mean(np.concatenate(squares)))
    assert found["pooled"]["rmse_m"] == pytest.approx(pooled, rel=1e-6)
    assert abs(pooled - np.mean(alone)) > 1e-3
    low, high = found["interval"]["rmse_m"]
    assert min(alone) - 1e-9 <= low < found["mean"]["rmse_m"] < high <= max(alone) + 1e-9


def test_the_mean_predictor_is_fitted_on_the_other_split_alone(data, tmp_path):
    asked = config(predictor="mean", fit_split="train")
    results = run_evaluation(asked, data, tmp_path).results
    assert 0.2 < entry(results, "semantic")["mean"]["miou"] < 0.9
    assert 1 < entry(results, "normal")["mean"]["mean_deg"] < 40  # not 90: it knows up and inwards
    assert "split train" in results["weights"]["source"]
    floor = config(predictor="truth", fit_split="train")
    with_floor = run_evaluation(floor, data, tmp_path).results
    a = entry(with_floor, "depth", "metric", role="floor")["mean"]
    assert a == entry(results, "depth", "metric")["mean"]
    with pytest.raises(UsageError, match="what is fitted must not be what is scored"):
        run_evaluation(config(predictor="mean", fit_split="val"), data, tmp_path)
    with pytest.raises(UsageError, match=r"set dense\.fit_split"):
        run_evaluation(config(predictor="mean"), data, tmp_path)


def test_the_ceiling_says_what_resolution_loses(data, tmp_path):
    results = run_evaluation(
        config(predictor="truth", ceiling_height_px=16), data, tmp_path
    ).results
    coarse = entry(results, "semantic", role="ceiling")["mean"]["miou"]
    assert 0.6 < coarse < 0.99
    seam = entry(results, "semantic", role="ceiling", place="at the seam")["mean"]["pixel_accuracy"]
    whole = entry(results, "semantic", role="ceiling")["mean"]["pixel_accuracy"]
    assert abs(seam - whole) < 0.1


def test_an_interrupted_evaluation_goes_on(data, tmp_path, monkeypatch):
    asked, calls = config(predictor="truth"), []
    real = dense_run.score_maps

    def dying(key, *rest):
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(key, *rest)

    monkeypatch.setattr(dense_run, "score_maps", dying)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(asked, data, tmp_path)
    monkeypatch.setattr(
        dense_run, "score_maps", lambda key, *r: (calls.append(key), real(key, *r))[1]
    )
    found = run_evaluation(asked, data, tmp_path)
    keys = {row["key"] for row in found.results["rows"]}
    assert len(keys) >= 2 and calls.count(calls[0]) == 2  # twice: as model and as ceiling
    before = len(calls)
    again = run_evaluation(asked, data, tmp_path)
    assert len(calls) == before and again.results["scores"] == found.results["scores"]
    row = next((found.folder / "panoramas").glob("*/rows.parquet"))
    row.write_bytes(b"damaged")
    run_evaluation(asked, data, tmp_path)
    assert len(calls) == before + 2  # that one alone


def test_rows_survive_their_file_and_other_fingerprints_are_none(data, tmp_path):
    source = DatasetMaps(data, None, config(predictor="truth").dense)
    truth = source[0].truth
    rows = dense_run.score_maps("k", "model", truth, truth, 40, 10.0)
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_parquet(rows, "f"))
    again = read_rows(path, "k", "f")
    assert all(np.array_equal(a.sums, b.sums) for a, b in zip(rows, again, strict=True))
    assert read_rows(path, "k", "g") is None
    path.write_bytes(path.read_bytes()[:-40])
    assert read_rows(path, "k", "f") is None


def test_compare_names_the_better_and_gives_intervals(data, tmp_path):
    good = config(predictor="truth")
    bad = config(
        predictor="folder", predictions=write_predictions(tmp_path / "theirs", data, noisy)
    )
    a = run_evaluation(good, data, tmp_path / "a").folder
    b = run_evaluation(bad, data, tmp_path / "b").folder
    found = compare_maps([a, b])
    by_score = {line.headline.title: line for line in found.lines if line.run == b.name}
    line = by_score["AbsRel"]
    assert line.difference.value == pytest.approx(0.1, abs=1e-3)
    assert line.difference.low <= line.difference.value <= line.difference.high
    assert by_score["mIoU"].difference.value < -0.1
    n = found.panoramas
    assert min(line.p_value for line in by_score.values()) >= 2 / 2**n - 1e-12
    assert "(reference)" in render_maps(found) and "are few" in render_maps(found)
    for form in ("json", "csv", "latex", "md"):
        assert "mIoU" in render_maps(found, form) or "miou" in render_maps(found, form)
    assert json.loads(render_maps(found, "json"))["panoramas"] == n
    same = compare_maps([a, a / "results.json"])
    for line in same.lines[1::2]:
        assert line.difference.value == 0 and line.p_value == 1
    other = config(predictor="truth", max_depth_m=3)
    c = run_evaluation(other, data, tmp_path / "c").folder
    with pytest.raises(DataError, match=r"measured differently.*depth_m"):
        compare_maps([a, c])
    twice = json.loads((a / "results.json").read_text())
    twice["rows"][0]["confusion"][0][0] = 10**9
    (tmp_path / "results.json").write_text(json.dumps(twice))
    with pytest.raises(DataError, match="names cell"):
        compare_maps([tmp_path / "results.json"])


def test_semantics_are_made_of_ids_where_there_is_no_such_product(data, tmp_path):
    bare = rooms(tmp_path, 8, 128, splits=HALVES, without=("semantic.zst",))
    one, two = (DatasetMaps(d, None, config(predictor="truth").dense) for d in (data, bare))
    assert "semantic" not in Dataset.open(bare).read(0, ()).meta.products
    for index in range(len(one.keys)):
        assert np.array_equal(one[index].truth.semantic, two[index].truth.semantic)
    sofa = class_map("nyu40").classes.classes.index("sofa")
    assert any((two[index].truth.semantic == sofa).any() for index in range(len(two.keys)))


def test_what_has_no_class_is_said(data, tmp_path):
    asked = config(predictor="truth", tasks=["semantic"], classes="stanford13")
    results = run_evaluation(asked, data, tmp_path).results
    assert results["dataset"]["void"].startswith("every pixel has a class in Stanford")


@pytest.mark.parametrize("height", [32, 96])
def test_scored_at_another_size(data, tmp_path, height):
    results = run_evaluation(config(predictor="truth", height_px=height), data, tmp_path).results
    assert entry(results, "normal")["mean"]["rms_deg"] == pytest.approx(0, abs=1e-5)
    assert results["protocol"]["height_px"] == height


def test_smooth_pixels_know_no_seam():
    lon = (np.arange(64) + 0.5) / 64 * 2 * np.pi
    wave = np.repeat(np.sin(lon)[None], 32, axis=0).astype(np.float32)
    found = smooth_pixels(wave, 96)
    fine = np.sin((np.arange(192) + 0.5) / 192 * 2 * np.pi)
    error = np.abs(found - fine).max(axis=0)
    assert found.shape == (96, 192) and error.max() < 0.01
    assert error[[0, 191]].max() < 0.005  # at the seam as elsewhere
    assert np.array_equal(nearest_pixels(wave, 32), wave)


def test_pictures_of_maps_are_lossless_enough(data, tmp_path):
    truth = DatasetMaps(data, None, config(predictor="truth").dense)[0].truth
    for name, content in picture_files(truth, "truth").items():
        (tmp_path / name).write_bytes(content)
    again = read_maps_of(tmp_path, "truth")
    assert np.array_equal(again.semantic, truth.semantic)
    assert np.abs(again.depth_m - truth.depth_m).max() < 0.00051
    assert angles_deg(again.normal, truth.normal).max() < 0.7


def test_error_maps_are_dark_where_right_bright_where_wrong_and_nothing_where_unknown(data):
    truth = DatasetMaps(data, None, config(predictor="truth").dense)[0].truth
    semantic, depth = truth.semantic.copy(), truth.depth_m.copy()
    semantic[:8], depth[:8] = VOID, np.inf
    normal = truth.normal.copy()
    normal[:8] = 0
    known = DenseMaps(semantic, depth, normal)
    other = DenseMaps(truth.semantic.copy(), truth.depth_m.copy(), truth.normal.copy())
    other.semantic[40:, :64] = (other.semantic[40:, :64] + 1) % 40
    other.depth_m[40:, :64] *= 1 + WORST_REL
    other.depth_m[40:, 64:] *= 1 + WORST_REL / 2
    other.normal[40:, :64] *= -1
    for shown in (
        class_errors(known, other),
        depth_error_colours(depth, other.depth_m),
        normal_error_colours(normal, other.normal),
    ):
        light = shown.astype(int).sum(axis=-1)
        assert (shown[:8] == NOTHING_RGB).all()
        right, wrong = light[8:40], light[40:, :64]
        assert right.max() < wrong.min() and np.ptp(right) <= 30, (right.max(), wrong.min())
    half = depth_error_colours(depth, other.depth_m).astype(int).sum(axis=-1)
    assert half[8:40].max() < half[40:, 64:].min() <= half[40:, 64:].max() < half[40:, :64].min()


def changed(**maps):
    """A change of the maps that are named."""

    def change(found, rng):
        return replace(found, **{name: to(getattr(found, name)) for name, to in maps.items()})

    return change


NAN = np.float32(np.nan)
FAULTS = {
    "nan": (changed(depth_m=lambda d: d * NAN), "NaN or a negative depth"),
    "behind": (changed(depth_m=lambda d: -d), "NaN or a negative depth"),
    "normals": (changed(normal=lambda n: n * NAN), "NaN or infinity for normals"),
    "size": (
        changed(depth_m=lambda d: d[::2, ::2]),
        r"depth of predictions in theirs is 64×32, its panorama 128×64",
    ),
    "classes": (
        changed(semantic=lambda s: np.full_like(s, 44)),
        r"has id 45, and NYUv2's 40 classes are numbered 1 to 40",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_predictions_that_cannot_be_scored_are_refused(data, tmp_path, fault):
    change, said = FAULTS[fault]
    folder = write_predictions(tmp_path / "theirs", data, change)
    with pytest.raises(DataError, match=said) as error:
        run_evaluation(config(predictor="folder", predictions=folder), data, tmp_path / "run")
    assert "\n" not in str(error.value)


def test_missing_things_are_one_line(data, tmp_path):
    flat = rooms(tmp_path, 4, 128, without=("depth.delta.zst",))
    asked = EvalConfig.model_validate({"task": "dense", "dense": {"predictor": "truth"}})
    with pytest.raises(UsageError, match=r"dataset has no depth .*asks for depth: leave it out"):
        run_evaluation(asked, flat, tmp_path / "run")
    with pytest.raises(UsageError, match="which weights are scored"):
        run_evaluation(config(), data, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected one of room-.*found none"):
        run_evaluation(
            config(predictor="folder", predictions=tmp_path / "empty"), data, tmp_path / "run"
        )
    with pytest.raises(UsageError, match=r"needs dense\.predictions"):
        run_evaluation(config(predictor="folder"), data, tmp_path / "run")
    masks = EvalConfig.model_validate(
        {"task": "dense", "benchmark": "pavsod", "root": tmp_path, "dense": {"predictor": "truth"}}
    )
    with pytest.raises(UsageError, match=r"pavsod has no maps.*folder, stanford2d3d, structured3d"):
        run_evaluation(masks, data, tmp_path / "run")


def test_keys_of_the_other_task_are_refused():
    for given in (
        {"task": "dense", "methods": ["direct"]},
        {"dense": {"predictor": "truth"}},
        {"task": "dense", "dense": {"checkpoint": "x.pt", "predictor": "truth"}},
        {"task": "dense", "dense": {"tasks": ["depth", "depth"]}},
    ):
        with pytest.raises(ValidationError, match=r"does not read it|must name each task once"):
            EvalConfig.model_validate(given)
