"""Maps of other people's data in their official layouts: Structured3D, Stanford 2D-3D-S, folders.

The files are made by these tests, by what the toolkits' documentation says of them, from rooms
whose maps are known.
"""

import json

import cv2
import numpy as np
import pytest
from rooms import room

from panoforge.core.categories.class_map import class_map
from panoforge.core.categories.class_sets import VOID, class_set
from panoforge.core.errors import DataError, UsageError
from panoforge.core.geometry.poses import world_from_pano
from panoforge.eval.benchmarks import get_benchmark, open_dense_benchmark
from panoforge.eval.benchmarks.base import DenseAsked
from panoforge.eval.config import EvalConfig
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.metrics.normals import angles_deg

ALL = ("semantic", "depth", "normal")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def truths(seed, classes):
    """A room in its panorama's frame: picture, classes, depth, normals, and its yaw."""
    arrays, _, yaw_deg = room(np.random.default_rng(seed), 128)
    pano = arrays["normal.delta.zst"] @ world_from_pano(yaw_deg)
    semantic = class_map(classes).apply(arrays["semantic.zst"])
    return arrays["rgb.jpg"], semantic, arrays["depth.delta.zst"], pano, yaw_deg


def structured3d(root, seed=1, *, facing=True):
    """data_organization.md: a panorama looks along −y of the global axes, z is up."""
    rgb, semantic, depth, pano, _ = truths(seed, "structured3d")
    full = root / "scene_00000/2D_rendering/485142/panorama/full"
    save(full / "rgb_rawlight.png", rgb)
    ids = np.where(semantic == VOID, 0, semantic + 1).astype(np.uint8)
    ids[0], millimetres = 0, np.rint(depth * 1000).astype(np.uint16)
    save(full / "semantic.png", ids)
    millimetres[5] = 0
    save(full / "depth.png", millimetres)
    on_globe = pano * [-1, -1, 1] if facing else pano[..., [2, 0, 1]]
    save(full / "normal.png", np.clip(128 * (1 + on_globe), 0, 255).round().astype(np.uint8))
    return semantic, depth, pano


def stanford(root, seed=2):
    """The toolkit's README; normals in global axes, turned by the pose's camera."""
    rgb, semantic, depth, pano, yaw_deg = truths(seed, "stanford13")
    names = ["<UNK>_0_<UNK>_0_0", *(f"{c}_{k}_office_1_1" for k, c in enumerate(
        class_set("stanford13").classes, start=1))]  # fmt: skip
    (root / "assets").mkdir(parents=True)
    (root / "assets/semantic_labels.json").write_text(json.dumps(names))
    pano_folder, stem = root / "area_1/pano", "camera_aa_office_1_frame_equirectangular_domain_"
    save(pano_folder / f"rgb/{stem}rgb.png", rgb)
    index = np.where(semantic == VOID, 0, semantic.astype(int) + 1)
    colour = np.stack([index >> 16, index >> 8 & 255, index & 255], axis=-1).astype(np.uint8)
    colour[0] = 0x0D
    save(pano_folder / f"semantic/{stem}semantic.png", colour)
    units = np.rint(depth * 512).astype(np.uint16)
    units[3] = 65535
    save(pano_folder / f"depth/{stem}depth.png", units)
    world = pano @ world_from_pano(yaw_deg).T
    stored = np.clip(np.rint(world * 127.5 + 127.5), 0, 255).astype(np.uint8)
    stored[7] = 0x80
    save(pano_folder / f"normal/{stem}normals.png", stored)
    axes = world_from_pano(yaw_deg).T  # world → right, forward, up
    camera = np.stack([axes[0], -axes[2], axes[1]])  # → right, down, forward: OpenCV's
    pose = {"camera_rt_matrix": np.c_[camera, [0.3, 0.1, 2.0]].tolist()}
    (pano_folder / "pose").mkdir()
    (pano_folder / f"pose/{stem}pose.json").write_text(json.dumps(pose))
    return semantic, depth, pano


def opened(name, root, classes, tasks=ALL):
    asked = DenseAsked(tasks, class_set(classes))
    return open_dense_benchmark(get_benchmark(name), root, None, asked)


def test_structured3d(tmp_path):
    semantic, depth, pano = structured3d(tmp_path)
    (found,) = opened("structured3d", tmp_path, "structured3d")
    rgb, maps = found.read()
    assert found.key == "scene_00000_485142" and rgb.shape == (64, 128, 3)
    assert (maps.semantic[0] == VOID).all() and np.array_equal(maps.semantic[1:], semantic[1:])
    known = np.isfinite(maps.depth_m)
    assert not known[5].any() and known[6:].all()
    assert np.abs(maps.depth_m - depth)[known].max() < 0.00051
    assert angles_deg(pano, maps.normal).max() < 0.8  # 8 bits
    nyu = opened("structured3d", tmp_path, "nyu40")[0].read()[1]
    assert np.array_equal(nyu.semantic, maps.semantic)


def test_stanford2d3d(tmp_path):
    semantic, depth, pano = stanford(tmp_path)
    (found,) = opened("stanford2d3d", tmp_path, "stanford13")
    _, maps = found.read()
    assert (maps.semantic[0] == VOID).all() and np.array_equal(maps.semantic[1:], semantic[1:])
    known = np.isfinite(maps.depth_m)
    assert not known[3].any() and np.abs(maps.depth_m - depth)[known].max() <= 0.5 / 512 + 1e-6
    there = (maps.normal != 0).any(axis=-1)
    assert not there[7].any() and there[8:].all()
    assert angles_deg(pano[there], maps.normal[there]).max() < 0.8
    only = opened("stanford2d3d", tmp_path, "stanford13", ("depth",))[0]
    assert only.read()[1].normal is None


def test_normals_of_another_frame_are_refused(tmp_path):
    structured3d(tmp_path, facing=False)
    with pytest.raises(DataError, match=r"only \d+ % of its normals face the camera"):
        opened("structured3d", tmp_path, "structured3d")[0].read()
    assert opened("structured3d", tmp_path, "structured3d", ("depth",))[0].read()[1].normal is None


def test_a_folder_of_ones_own_in_every_form(tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    rgb, semantic, depth, pano, _ = truths(3, "nyu40")
    save(tmp_path / "images/a.png", rgb)
    save(tmp_path / "semantic/a.png", np.where(semantic == VOID, 0, semantic + 1).astype(np.uint8))
    forms = {
        "png": (np.rint(depth * 1000).astype(np.uint16), 0.00051, np.rint(pano * 127.5 + 127.5)),
        "npy": (depth, 0, pano.astype(np.float32)),
        "exr": (depth, 0, pano.astype(np.float32)),
    }
    for form, (stored, tolerance, vectors) in forms.items():
        for task in ("depth", "normal"):
            for old in (tmp_path / task).glob("*"):
                old.unlink()
        (tmp_path / "depth").mkdir(exist_ok=True)
        (tmp_path / "normal").mkdir(exist_ok=True)
        if form == "png":
            save(tmp_path / "depth/a.png", stored)
            save(tmp_path / "normal/a.png", vectors.astype(np.uint8))
        elif form == "npy":
            np.save(tmp_path / "depth/a.npy", stored)
            np.save(tmp_path / "normal/a.npy", vectors)
        else:
            header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
            openexr.File(header, {"Z": stored}).write(str(tmp_path / "depth/a.exr"))
            planes = {c: np.ascontiguousarray(vectors[..., k]) for k, c in enumerate("XYZ")}
            openexr.File(header, planes).write(str(tmp_path / "normal/a.exr"))
        maps = opened("folder", tmp_path, "nyu40")[0].read()[1]
        assert np.array_equal(maps.semantic, semantic), form
        assert np.abs(maps.depth_m - depth).max() <= tolerance, form
        assert angles_deg(pano, maps.normal).max() < 0.5, form


def test_scored_from_end_to_end(tmp_path):
    stanford(tmp_path / "data")
    asked = EvalConfig.model_validate(
        {
            "task": "dense",
            "benchmark": "stanford2d3d",
            "root": tmp_path / "data",
            "dense": {"predictor": "truth", "classes": "stanford13", "ceiling_height_px": 32},
        }
    )
    results = run_evaluation(asked, tmp_path, tmp_path / "run").results
    assert results["dataset"]["licence"].startswith("its agreement")
    depth = next(e for e in results["scores"] if e["task"] == "depth" and e["role"] == "ceiling")
    assert 0 < depth["mean"]["abs_rel"] < 0.1
    page = next((tmp_path / "run").glob("eval/*/report.html")).read_text()
    assert "Trans4PASS" in page and "360BEV" in page


def test_what_does_not_fit_is_one_line_with_the_layout_behind_it(tmp_path):
    structured3d(tmp_path / "s3d")
    with pytest.raises(UsageError, match=r"dense\.classes is ade20k: set it to structured3d"):
        opened("structured3d", tmp_path / "s3d", "ade20k")
    stanford(tmp_path / "s")
    with pytest.raises(UsageError, match="set it to stanford13"):
        opened("stanford2d3d", tmp_path / "s", "nyu40")
    full = tmp_path / "s3d/scene_00000/2D_rendering/485142/panorama/full"
    save(full / "depth.png", np.ones((32, 64), np.uint16))
    with pytest.raises(DataError, match=r"depth\.png is 64×32, its picture 128×64"):
        opened("structured3d", tmp_path / "s3d", "structured3d")[0].read()
    (full / "depth.png").unlink()
    with pytest.raises(DataError, match=r"none with .*depth\.png"):
        opened("structured3d", tmp_path / "s3d", "structured3d")
    for pose in (tmp_path / "s").rglob("*pose.json"):
        pose.write_text('{"camera_rt_matrix": [[1, 0], [0, 1]]}')
    with pytest.raises(DataError, match="expected camera_rt_matrix, a rotation"):
        opened("stanford2d3d", tmp_path / "s", "stanford13")[0].read()
    (tmp_path / "f/images").mkdir(parents=True)
    save(tmp_path / "f/images/a.png", np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(DataError, match=r"no picture of images/ has a map in each of semantic/"):
        opened("folder", tmp_path / "f", "nyu40")
