"""`pano predict`, and a trained model as a predictor: real checkpoints, of random weights."""

import json

import cv2
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rooms import room, rooms

from panoforge.cli.app import main
from panoforge.core.categories.class_sets import VOID, class_set
from panoforge.core.errors import UsageError
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.eval.config import EvalConfig
from panoforge.eval.dense.model import DenseModel
from panoforge.eval.dense.predict import instances_of, predict_image
from panoforge.eval.run import run_evaluation
from panoforge.train.model.checkpoint_export import export_official
from panoforge.train.model.mtpano.build import build_mtpano, describe
from panoforge.train.settings.mtpano import MtpanoSettings

SETTINGS = {
    "backbone": {"patch_px": 8, "width": 24, "depth": 4, "heads": 2},
    "height_px": 32,
    "channels": 16,
    "classes": "nyu40",
}


def checkpoint(folder, name="model.pt", **changes):
    torch.set_num_threads(1)
    settings = MtpanoSettings.model_validate(SETTINGS | changes)
    model, _ = build_mtpano(settings, len(class_set(settings.classes)), seed=3)
    return export_official(folder / name, model.state_dict(), 5, describe(model))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("weights"))


def picture(folder, width=128, name="room one.jpg"):
    rgb = room(np.random.default_rng(1), width)[0]["rgb.jpg"]
    Image.fromarray(rgb).save(folder / name, quality=95)
    return folder / name


def test_a_picture_becomes_maps_a_cloud_and_a_sample(weights, tmp_path, capsys):
    path = picture(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(path), "--checkpoint", str(weights), "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    place, staged = (tmp_path / "out" / name for name in ("room-one.dense", "staged/room-one"))
    assert capsys.readouterr().out.split() == [str(place), str(staged)]
    depth, normal = np.load(place / "depth.npy"), np.load(place / "normal.npy")
    ids = read_labels(place / "semantic.png")
    assert depth.shape == ids.shape == (64, 128) and (depth > 0).all()
    assert np.abs(np.linalg.norm(normal, axis=-1) - 1).max() < 1e-5
    assert ids.min() >= 1 and ids.max() <= 40
    facts = json.loads((place / "prediction.json").read_text())
    assert facts["classes"]["names"]["1"] == "wall" and len(facts["weights"]["sha256"]) == 64
    for name in ("classes.jpg", "depth.jpg", "normals.jpg"):
        assert cv2.imread(str(place / name)).shape == (64, 128, 3)
    cloud = trimesh.load(place / "points.ply")  # somebody else's reader
    reach = np.linalg.norm(cloud.vertices, axis=1)
    rays = pixel_to_direction(np.arange(128)[None], np.arange(64)[:, None], 128, 64)
    points = (rays * depth[..., None]).reshape(-1, 3)
    nearest = np.abs(points[:, None] - np.asarray(cloud.vertices)[None, ::50]).max(axis=-1)
    assert nearest.min(axis=0).max() < 1e-5 and 3000 < len(reach) < 128 * 64
    at = nearest.argmin(axis=0)
    rgb = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert np.array_equal(np.asarray(cloud.colors)[::50, :3], rgb[at])
    raw = cloud.metadata["_ply_raw"]["vertex"]["data"]
    assert np.array_equal(raw["label"].ravel()[::50], ids.ravel()[at])
    assert np.abs(raw["nx"].ravel()[::50] - normal.reshape(-1, 3)[at, 0]).max() < 1e-6
    pack(tmp_path / "out/staged", tmp_path / "dataset", PackOptions())
    sample = Dataset.open(tmp_path / "dataset")[0]
    assert np.array_equal(sample.read("depth"), depth)
    assert sample.read("semantic").shape == (64, 128)


def test_pano_segment_takes_the_sample(weights, tmp_path, capsys):
    path = picture(tmp_path)
    _, sample = predict_image(path, DenseModel.load(weights), tmp_path)
    words = ["segment", str(path), "--predictor", "truth", "--labels", str(sample / "instance.zst")]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--click", "0,-80", "--out", str(tmp_path / "masks")])
    assert stop.value.code == 0, capsys.readouterr().err
    assert next((tmp_path / "masks").glob("*.coco.json")).is_file()


def test_instances_are_connected_on_the_sphere():
    semantic = np.full((64, 128), VOID, np.uint8)
    chair, wall = (class_set("nyu40").classes.index(name) for name in ("chair", "wall"))
    semantic[20:40, :10] = semantic[20:40, -10:] = chair  # one, over the seam
    semantic[20:40, 50:60] = chair
    semantic[:4] = wall
    semantic[60, 60:70] = wall  # too small
    labels, names = instances_of(semantic, class_set("nyu40"))
    assert labels[30, 0] == labels[30, 127] != labels[30, 55] > 0
    assert labels[60, 65] == 0 and labels[0, 5] == labels[0, 90] > 0
    assert sorted(name.category for name in names.values()) == ["chair", "chair", "wall"]
    assert set(np.unique(labels)) == {0, *names}


def test_a_part_of_the_sphere_is_placed_and_nothing_is_said_around_it(weights, tmp_path):
    rgb = room(np.random.default_rng(1), 128)[0]["rgb.jpg"]
    tags = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description'
        ' GPano:ProjectionType="equirectangular" GPano:CroppedAreaImageWidthPixels="64"'
        ' GPano:CroppedAreaImageHeightPixels="32" GPano:FullPanoWidthPixels="128"'
        ' GPano:FullPanoHeightPixels="64" GPano:CroppedAreaLeftPixels="100"'
        ' GPano:CroppedAreaTopPixels="16"/></x:xmpmeta>'
    )
    path = tmp_path / "part.png"
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", tags)
    Image.fromarray(rgb[16:48, :64]).save(path, pnginfo=info)
    place, sample = predict_image(path, DenseModel.load(weights), tmp_path)
    depth = np.load(place / "depth.npy")
    seen = np.zeros((64, 128), bool)
    seen[16:48, [*range(100, 128), *range(36)]] = True
    assert depth.shape == (64, 128) and np.array_equal(np.isfinite(depth), seen)
    assert np.array_equal(read_labels(place / "semantic.png") > 0, seen)
    assert np.array_equal((np.load(place / "normal.npy") != 0).any(axis=-1), seen)
    assert sample.is_dir()


def test_a_model_is_scored_and_stands_beside_its_ceiling(weights, tmp_path):
    data = rooms(tmp_path, 4, 128)
    dense = {"checkpoint": weights, "tasks": ["depth", "semantic", "normal"]}
    asked = EvalConfig.model_validate({"task": "dense", "dense": dense})
    results = run_evaluation(asked, data, tmp_path / "run").results
    assert results["predictors"]["ceiling"] == "truth at 64×32"
    assert results["weights"]["steps"] == 5 and results["weights"]["kind"] == "checkpoint"
    ceiling, scored = (
        next(e for e in results["scores"] if e["role"] == role and e["task"] == "normal")
        for role in ("ceiling", "model")
    )
    assert ceiling["mean"]["mean_deg"] < 10 < scored["mean"]["mean_deg"]
    maps = DenseModel.load(weights).maps(room(np.random.default_rng(1), 128)[0]["rgb.jpg"])
    step = np.abs(np.diff(maps.depth_m, axis=1)).max()
    assert np.abs(maps.depth_m[:, 0] - maps.depth_m[:, -1]).max() <= step + 1e-6  # no seam


def test_what_does_not_fit_the_checkpoint_is_one_line(weights, tmp_path):
    data = rooms(tmp_path, 2, 128)

    def scored(file, **dense):
        asked = {"task": "dense", "dense": {"checkpoint": file, **dense}}
        run_evaluation(EvalConfig.model_validate(asked), data, tmp_path / "run")

    with pytest.raises(
        UsageError, match=r"NYUv2's 40 classes \(40\), and dense\.classes is ade20k"
    ):
        scored(weights, classes="ade20k")
    depth_only = checkpoint(tmp_path, "depth.pt", tasks=["depth"])
    with pytest.raises(UsageError, match=r"trained on depth, and dense\.tasks asks for semantic"):
        scored(depth_only)
    scored(depth_only, tasks=["depth"])
    scored(weights, classes="structured3d", tasks=["semantic"])  # the same 40


@pytest.mark.parametrize("fault", ["square", "no model", "no picture"])
def test_what_cannot_be_predicted_is_refused_with_one_line(weights, tmp_path, capsys, fault):
    image, file = picture(tmp_path), weights
    said = {"square": "twice as wide", "no model": "model.pt", "no picture": "no.jpg"}[fault]
    if fault == "square":
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    elif fault == "no picture":
        image = tmp_path / "no.jpg"
    else:
        file = tmp_path / "model.pt"
        torch.save({"model": {"x": torch.zeros(3)}, "step": 1}, file)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(image), "--checkpoint", str(file), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 1 and said in error and "\n" not in error
    assert not (tmp_path / "out").exists()
