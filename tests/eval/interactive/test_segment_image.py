"""`pano segment`: clicks on a file to masks in files, with ground truth as predictor (the answer is
known) and with SAM2.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
import torch
from pycocotools.coco import COCO

from panoforge.cli import main
from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.pictures import decode_panorama
from panoforge.core.geometry.sphere import direction_to_lonlat
from panoforge.core.sample.products import encode_product
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.clicks import SphereClick, parse_click
from panoforge.eval.interactive.segment_image import (
    load_predictor,
    read_labels,
    segment_image,
)
from panoforge.eval.interactive.segmenter import KeptFeatures, PanoramaSegmenter
from panoforge.eval.predictors import ObjectPrompt
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.truth import GroundTruth
from panoforge.eval.segmentation.prompts import click_instances
from panoforge.train.model.checkpoint_export import export_official

SMALL = ["scan.size_px=64", "device=cpu"]
MODEL = [
    "model.size=tiny",
    "model.image_size=64",
    "scan.overlap=0.0",
    "scan.fov_deg=120",
    "device=cpu",
]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A panorama of caps (one on the seam, one on the pole) as files: the image, its labels, and
    the labels as an array.
    """
    folder = tmp_path_factory.mktemp("picture")
    rgb, labels = synthetic.caps(np.random.default_rng(5), 256, 6)
    (folder / "caps.png").write_bytes(encode_product("rgb.png", rgb))
    (folder / "ids.png").write_bytes(encode_product("instance.png", labels))
    return folder / "caps.png", folder / "ids.png", labels


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the official format."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    config = EvalConfig.model_validate(
        {"model": {"size": "tiny", "image_size": 64}, "device": "cpu", "seed": 3}
    )
    return export_official(path, load_model(config).model.state_dict(), step=0)


def click_of(labels: np.ndarray, id_: int) -> SphereClick:
    click = click_instances(labels, [id_])[0].clicks[0]
    lon, lat = np.degrees(direction_to_lonlat(click.direction))
    return SphereClick(float(lon), float(lat))


def test_ground_truth_gives_every_object_back(
    picture: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    """Also the one across the seam and the one over the pole; and the files say the same thing."""
    image, ids, labels = picture
    loaded = load_predictor("truth", None, "scan", ["scan.size_px=256", "device=cpu"])
    for id_ in np.unique(labels)[1:]:
        mask_path, overlay, coco_path = segment_image(
            image, [click_of(labels, id_)], lambda: loaded, tmp_path / str(id_), ids
        )
        found = cv2.imread(str(mask_path), cv2.IMREAD_COLOR).any(axis=2)
        truth = labels == id_
        assert (found & truth).sum() / (found | truth).sum() > 0.97, id_
        coco = COCO(str(coco_path))
        assert np.array_equal(coco.annToMask(coco.anns[1]).astype(bool), found)
        assert coco.anns[1]["area"] == found.sum() and coco.anns[1]["clicks"][0]["label"] == 1
        assert cv2.imread(str(overlay)).shape == (128, 256, 3)
    seam = json.loads((tmp_path / "1" / "caps.coco.json").read_text())["annotations"][0]
    assert (
        seam["wrap_box"]["u0"] + seam["wrap_box"]["width"] > 256
    )  # the box goes on across the seam; COCO's cannot
    assert seam["bbox"][2] == 256


def test_the_command_writes_the_files(
    picture, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, ids, labels = picture
    click = click_of(labels, 3)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "segment",
                str(image),
                "--click",
                f"{click.lon_deg},{click.lat_deg}",
                "--predictor",
                "truth",
                "--labels",
                str(ids),
                "--out",
                str(tmp_path),
                *SMALL,
            ]
        )
    assert not stopped.value.code
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "caps.coco.json",
        "caps.mask.png",
        "caps.overlay.jpg",
    ]
    assert str(tmp_path / "caps.mask.png") in capsys.readouterr().out


def test_a_checkpoint_in_the_official_format_is_used(
    picture, checkpoint: Path, tmp_path: Path
) -> None:
    image, _, _ = picture
    loaded = load_predictor("sam2", checkpoint, "scan", MODEL)
    assert "tiny at 64²" in loaded.words and isinstance(loaded.predictor, KeptFeatures)
    files = {}
    for name, clicks in {
        "one": [SphereClick(-20, 10)],
        "two": [SphereClick(-20, 10), SphereClick(-25, 5, False)],
        "one again": [SphereClick(-20, 10)],
    }.items():
        files[name] = segment_image(image, clicks, lambda: loaded, tmp_path / name)[0].read_bytes()
    assert files["one"] == files["one again"] != files["two"]


def test_kept_features_change_nothing(picture, checkpoint: Path) -> None:
    """With and without the cache, mask for mask; and the encoder runs once per frame."""
    rgb = decode_panorama(picture[0].read_bytes(), "caps.png")
    loaded = load_predictor("sam2", checkpoint, "scan", MODEL)
    model = loaded.predictor.model
    plain = PanoramaSegmenter(rgb, loaded.config, BatchedSam2(model))
    calls, real = [], model.forward_image
    model.forward_image = lambda images: calls.append(len(images)) or real(images)
    kept = PanoramaSegmenter(rgb, loaded.config, loaded.predictor)
    assert sum(calls) == kept.frames
    for clicks in (
        [SphereClick(10, 0)],
        [SphereClick(170, 40), SphereClick(-170, 30)],
        [SphereClick(0, -80)],
    ):
        assert np.array_equal(kept.mask(clicks), kept.mask(list(clicks)))
    assert sum(calls) == kept.frames
    assert np.array_equal(plain.mask([SphereClick(10, 0)]), kept.mask([SphereClick(10, 0)]))
    assert kept.mask([SphereClick(10, 0)]).any()


def test_a_frame_that_sees_only_negative_clicks_is_not_prompted(picture) -> None:
    """SAM2 would take a lone negative click in a frame for the whole of the prompt there."""
    labels = picture[2]
    seen: list[list[ObjectPrompt]] = []

    class Spy(GroundTruth):
        def predict(self, frames, prompts):
            seen.append(list(prompts))
            return super().predict(frames, prompts)

    rgb = decode_panorama(picture[0].read_bytes(), "caps.png")
    click = click_of(labels, 3)
    far = SphereClick((click.lon_deg + 360) % 360 - 180, -click.lat_deg, False)  # the antipode
    config = load_predictor("truth", None, "scan", SMALL).config
    mask = PanoramaSegmenter(rgb, config, Spy(), labels).mask([click, far])
    assert mask.any() and all((given == 1).any() for _, given in seen[0][0].points.values())
    assert not PanoramaSegmenter(rgb, config, Spy(), labels).mask([far]).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12", "no click: expected LON,LAT"),
        ("a,b", "no click"),
        ("190,0", "longitude of −180 to 180"),
        ("0,91", "latitude of −90 to 90"),
        ("nan,0", "longitude"),
        ("1,2,3", "no click"),
    ],
)
def test_bad_clicks_are_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_click(text)
    assert parse_click("-30,5.5") == SphereClick(-30, 5.5)


def test_mistakes_are_named(picture, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image, ids, labels = picture
    loaded = load_predictor("truth", None, "direct", SMALL)
    empty = np.argwhere(labels == 0)[len(np.argwhere(labels == 0)) // 2]
    nowhere = SphereClick((empty[1] + 0.5) / 256 * 360 - 180, 90 - (empty[0] + 0.5) / 128 * 180)
    with pytest.raises(UsageError, match="hold nothing at"):
        segment_image(image, [nowhere], lambda: loaded, tmp_path, ids)
    with pytest.raises(UsageError, match="needs the labels"):
        segment_image(image, [SphereClick(0, 0)], lambda: loaded, tmp_path)
    with pytest.raises(UsageError, match="at least one --click"):
        segment_image(image, [SphereClick(0, 0, False)], lambda: loaded, tmp_path, ids)
    with pytest.raises(UsageError, match="needs weights: give --checkpoint"):
        load_predictor("sam2", None, "scan")
    with pytest.raises(UsageError, match="expected one of sam2, truth"):
        load_predictor("oracle", None, "scan")
    (tmp_path / "wide.png").write_bytes(encode_product("rgb.png", np.zeros((10, 30, 3), np.uint8)))
    with pytest.raises(
        DataError, match=r"30×10 is no equirectangular panorama: it must be twice as wide"
    ):
        segment_image(tmp_path / "wide.png", [SphereClick(0, 0)], lambda: loaded, tmp_path, ids)
    (tmp_path / "half.png").write_bytes(encode_product("instance.png", labels[::2, ::2]))
    with pytest.raises(UsageError, match="labels are 128×64 and the picture is 256×128"):
        segment_image(image, [SphereClick(0, 0)], lambda: loaded, tmp_path, tmp_path / "half.png")
    with pytest.raises(DataError, match="x is a GIF: save it as PNG"):
        decode_panorama(b"GIF89a", "x")
    with pytest.raises(DataError, match="over the cap"):
        decode_panorama(image.read_bytes(), "x", max_bytes=100)
    assert read_labels(ids).dtype == np.uint16
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "segment",
                str(tmp_path / "missing.png"),
                "--click",
                "0,0",
                "--predictor",
                "truth",
                "--labels",
                str(ids),
                *SMALL,
            ]
        )
    assert stopped.value.code == 1 and "Traceback" not in capsys.readouterr().err


def test_a_png_bomb_is_refused_before_it_is_decoded(picture) -> None:
    """A header that promises 60000×30000 pixels."""
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 60000, 30000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + head
        + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    )
    with pytest.raises(DataError, match=r"bomb.png claims 60000×30000 pixels: outside of the cap"):
        decode_panorama(data + b"\0\0\0\0IEND\xaeB`\x82", "bomb.png")


def test_what_would_be_ignored_is_refused(picture, tmp_path: Path) -> None:
    """model.size=tiny was accepted and overruled by --model's default."""
    assert load_predictor("truth", None, "scan", ["model.size=tiny"]).config.model.size == "tiny"
    assert load_predictor("truth", None, "scan", [], "small").config.model.size == "small"
    assert load_predictor("truth", None, "scan").config.model.size == "large"
    with pytest.raises(UsageError, match="--model small say the same thing"):
        load_predictor("truth", None, "scan", ["model.size=tiny"], "small")
    for word in ("methods=[direct]", "predictor=empty", "max_panoramas=3", "benchmark=folder"):
        with pytest.raises(UsageError, match="means nothing for one picture"):
            load_predictor("truth", None, "scan", [word])
    odd = tmp_path / "ck #1"
    odd.mkdir()
    found = load_predictor("truth", odd / "[a] b.pt", "scan").config.model
    assert found.checkpoint == odd / "[a] b.pt"  # taken as it is, not as YAML


def test_clicks_and_picture_are_looked_at_before_the_model(
    picture, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = picture[0]

    def never() -> None:
        raise AssertionError("the model was loaded")

    with pytest.raises(UsageError, match="at least one --click"):
        segment_image(image, [], never, tmp_path)
    with pytest.raises(DataError, match="missing"):
        segment_image(tmp_path / "missing.png", [SphereClick(0, 0)], never, tmp_path)
    with pytest.raises(DataError, match="missing"):
        segment_image(image, [SphereClick(0, 0)], never, tmp_path, tmp_path / "missing.png")
    with pytest.raises(SystemExit) as stopped:
        main(["segment", str(image)])
    assert stopped.value.code == 2 and "at least one --click" in capsys.readouterr().err


def test_results_do_not_overwrite_each_other(picture, tmp_path: Path) -> None:
    """Other clicks, a picture of the same stem, a mask that is not ours: each keeps its file."""
    image, ids, labels = picture

    def segmented(name: str, id_: int) -> list[str]:
        copy = tmp_path / name
        copy.write_bytes(image.read_bytes())
        clicks, out = [click_of(labels, id_)], tmp_path / "out"
        paths = segment_image(copy, clicks, lambda: load_truth(), out, ids)
        return [path.name for path in paths]

    def load_truth():
        return load_predictor("truth", None, "direct", [w for w in SMALL if "=" in w])

    first = segmented("a.jpg", 3)
    assert first == ["a.mask.png", "a.overlay.jpg", "a.coco.json"]
    before = {name: (tmp_path / "out" / name).read_bytes() for name in first}
    assert segmented("a.jpg", 3) == first  # the same again is the same file
    assert segmented("a.jpg", 2) == ["a-2.mask.png", "a-2.overlay.jpg", "a-2.coco.json"]
    assert segmented("a.png", 3)[0] == "a-3.mask.png"
    (tmp_path / "out/b.mask.png").write_bytes(ids.read_bytes())
    assert segmented("b.jpg", 3)[0] == "b-2.mask.png"
    assert {name: (tmp_path / "out" / name).read_bytes() for name in first} == before
    assert (tmp_path / "out/b.mask.png").read_bytes() == ids.read_bytes()
