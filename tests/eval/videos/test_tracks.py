"""What 360VOTS and PAV-SOD report beside masks: boxes as tracks, all masks as a saliency map,
through `pano eval`.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction, pixel_to_direction
from panoforge.eval.benchmarks.vots360 import open_tracks
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.metrics.saliency import s_measure
from panoforge.eval.scoring.metrics.tracking import TRACKING
from panoforge.eval.scoring.salient import OFFICIAL, SEAM_AWARE, quiet_column, salient_scores
from panoforge.eval.videos.boxes import box_corners, box_mask, score_boxes
from panoforge.eval.videos.tracks import Track, mask_bfov, mask_box
from panoforge.eval.views.merge import FrameLogits

WIDTH, HEIGHT = 96, 48


def disc(lon: float, lat: float, radius: float) -> np.ndarray:
    at = pixel_to_direction(np.arange(WIDTH)[None, :], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT)
    return angle_between(at, lonlat_to_direction(lon, lat)) < radius


def random_mask(rng: np.random.Generator, case: int) -> np.ndarray:
    """Empty, full, over the seam, over a pole, somewhere, noise."""
    lon, lat = rng.uniform(-np.pi, np.pi), rng.uniform(-1.3, 1.3)
    kinds = (
        lambda: np.zeros((HEIGHT, WIDTH), bool),
        lambda: np.ones((HEIGHT, WIDTH), bool),
        lambda: disc(np.pi, lat, 0.4),
        lambda: disc(lon, np.pi / 2 * rng.choice([-1, 1]), 0.5),
        lambda: disc(lon, lat, rng.uniform(0.1, 0.7)),
        lambda: rng.random((HEIGHT, WIDTH)) < 0.01,
    )
    return kinds[case % 6]()


def test_boxes_are_the_shortest_of_all_intervals_and_bfovs_hold_their_masks() -> None:
    from panoforge.core.geometry.bfov import Bfov
    from panoforge.eval.views.frames import BfovFrame

    rng = np.random.default_rng(0)
    for case in range(240):
        mask = random_mask(rng, case)
        x, y, w, h = mask_box(mask).astype(int).tolist()
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if not columns.size:
            assert (x, y, w, h) == (0, 0, 0, 0) and not mask_bfov(mask).any()
            continue
        shortest = min(int(((columns - start) % WIDTH).max()) + 1 for start in columns.tolist())
        assert w == shortest and set(columns.tolist()) <= {(x + k) % WIDTH for k in range(w)}
        assert (y, y + h) == (rows[0], rows[-1] + 1) and 0 <= x < WIDTH
        clon, clat, fov_h, fov_v, roll = mask_bfov(mask)
        if fov_h:
            tangents = np.tan(np.radians([fov_h, fov_v]) / 2)
            v, u = np.nonzero(mask)
            assert (
                roll == 0
                and BfovFrame(Bfov(clon, clat, *tangents), 8)
                .project(pixel_to_direction(u, v, WIDTH, HEIGHT))[2]
                .all()
            )


def test_a_track_is_scored_in_both_modes() -> None:
    track, late = Track(WIDTH, HEIGHT), Track(WIDTH, HEIGHT)
    for t in range(6):
        true = disc(np.pi - 0.3 + 0.12 * t, 0.2, 0.35)  # walks over the seam
        track.add(true, true)
        late.add(disc(np.pi - 0.3 + 0.12 * t - 0.35, 0.2, 0.35), true)
    track.add(np.zeros_like(true), np.zeros_like(true))  # gone
    late.add(true, np.zeros_like(true))
    perfect, behind = track.scores(), late.scores()
    assert set(perfect) == {
        name + end for name in TRACKING for end in ("", "_official", "_rotated")
    }
    assert (
        perfect["s_dual"] == pytest.approx(20 / 21)
        and perfect["p_dual"] == perfect["p_angle"] == 1.0
    )
    assert perfect["s_dual_official"] == pytest.approx(
        20 / 21 * 6 / 7
    )  # the absent frame stays in the number of frames
    assert (
        0.2 < behind["s_dual"] < 0.6
        and behind["p_angle"] == 0.0
        and behind["s_sphere"] < 0.7 < perfect["s_sphere"]
    )
    gone = Track(WIDTH, HEIGHT)
    gone.add(true, np.zeros_like(true))
    assert gone.scores() == {}


def test_saliency_of_masks_is_counted_and_knows_no_seam() -> None:
    rng = np.random.default_rng(1)
    for case in range(240):
        predicted, true = random_mask(rng, case), random_mask(rng, case // 6)
        found = salient_scores(predicted, true)
        assert set(found) == {*OFFICIAL, *SEAM_AWARE} and found["mae"] == pytest.approx(
            (predicted ^ true).mean()
        )
        area = np.diff(np.sin((0.5 - np.arange(HEIGHT + 1) / HEIGHT) * np.pi)) * -2 * np.pi / WIDTH
        assert found["mae_sphere"] == pytest.approx(
            (predicted ^ true).sum(axis=1) @ area / (4 * np.pi), abs=1e-9
        )
        if 0 < predicted.sum() < predicted.size:
            hit = (predicted & true).sum()
            precision, recall = hit / predicted.sum(), hit / max(true.sum(), 1)
            expected = 1.3 * precision * recall / (0.3 * precision + recall) if hit else 0.0
            assert found["f_beta"] == pytest.approx(expected)
        if case % 8 == 0:
            turn = int(rng.integers(1, WIDTH))
            moved = salient_scores(np.roll(predicted, turn, 1), np.roll(true, turn, 1))
            busy = (predicted | true).any(axis=0)
            gaps = np.diff(np.flatnonzero(np.tile(~busy, 2)), prepend=-2)
            if busy.any() and not busy.all() and gaps.size:
                cut = quiet_column(predicted | true)
                assert not busy[cut] or busy.mean() > 0.9
                assert moved["mae"] == pytest.approx(found["mae"]) and moved[
                    "e_measure"
                ] == pytest.approx(found["e_measure"])
    seam, near = disc(np.pi, 0.1, 0.4), disc(3.0, 0.1, 0.4)
    here, moved = (
        salient_scores(seam, near),
        salient_scores(np.roll(seam, 30, 1), np.roll(near, 30, 1)),
    )
    assert moved["s_measure_seam"] == pytest.approx(here["s_measure_seam"])
    assert moved["s_measure"] != pytest.approx(here["s_measure"])
    middle = s_measure(np.roll(seam, 48, 1).astype(float), np.roll(near, 48, 1))
    assert moved["s_measure_seam"] == pytest.approx(middle, abs=0.02)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def config(**changes: object) -> EvalConfig:
    return EvalConfig.model_validate(
        {
            "methods": ["direct"],
            "scan": {"size_px": 64},
            "device": "cpu",
            "report_panoramas": 1,
            "model": {"size": "tiny", "image_size": 64, "checkpoint": "random"},
            "instances": {"min_pixels": 8},
            **changes,
        }
    )


def test_360vos_reports_tracking_scores(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"data/0117/image/{t:06d}.jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        write(
            tmp_path / f"data/0117/mask/{t:06d}_0.png",
            disc(np.pi - 0.2 + 0.2 * t, 0.0, 0.4).astype(np.uint8) * 255,
        )
    results = run_evaluation(
        config(predictor="empty", benchmark="360vos", root=tmp_path / "data"),
        tmp_path,
        tmp_path / "out",
    ).results
    tracking = {s["role"]: s["tracking"] for s in results["scores"]}
    assert tracking["ceiling"]["s_dual"] > 0.7 and tracking["ceiling"]["p_dual"] == 1.0
    assert tracking["model"]["s_dual"] == 0.0 and set(tracking["model"]) >= {
        "p_dual_official",
        "s_sphere",
    }
    text, page = (
        "\n".join(as_lines(results)),
        (tmp_path / "out/eval/latest/report.html").read_text(),
    )
    for word in ("S_dual", "official", "seam-aware"):
        assert word in text and word in page
    assert "97 of the 170" in page


class Follower:
    """A predictor that answers with the discs of `walk`, `late` frames behind, at 64², and keeps
    what it was prompted with.
    """

    name = "follower"

    def __init__(self, late: int = 0) -> None:
        self.late, self.prompts = late, []

    def predict(self, frames, prompts):
        self.prompts = list(prompts)
        for t in range(len(frames)):
            mask = walk(max(t - self.late, 0))
            small = (
                cv2.resize(mask.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) * 20
                - 10
            )
            yield FrameLogits(t, np.array([0]), torch.tensor(small[None]))


def walk(t: int) -> np.ndarray:
    """Over the seam, and gone in frame 4."""
    return disc(np.pi - 0.45 + 0.15 * t, 0.1, 0.35) if t != 4 else np.zeros((HEIGHT, WIDTH), bool)


def track_tree(root: Path) -> None:
    """A sequence of 360VOT: boxes whose centres may lie outside the picture."""
    labels = {}
    for t in range(7):
        write(root / f"0001/image/{t:06d}.jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        (x, y, w, h), (lon, lat, fov_h, fov_v, _) = mask_box(walk(t)), mask_bfov(walk(t))
        labels[f"{t:06d}.jpg"] = {
            "bbox": {
                "cx": x + w / 2 - (WIDTH if x + w > WIDTH else 0),
                "cy": y + h / 2,
                "w": w,
                "h": h,
                "rotation": 0,
            },
            "bfov": {"clon": lon, "clat": lat, "fov_h": fov_h, "fov_v": fov_v, "rotation": 0},
        }
    (root / "0001/label.json").write_text(json.dumps(labels))


def test_360vot_scores_boxes_around_masks(tmp_path: Path) -> None:
    track_tree(tmp_path / "data")
    (track,) = open_tracks(tmp_path / "data")
    exact, behind = Follower(), Follower(late=2)
    found = {row.role: row for row in score_boxes(track, exact, 64).rows}
    late = {row.role: row for row in score_boxes(track, behind, 64).rows}["model"].tracking
    assert found["model"].frames == 6 and found["model"].j is None
    assert set(found["model"].tracking) >= {"s_dual", "s_sphere_official"}
    assert found["model"].tracking["s_dual"] > 0.85 and found["model"].tracking["p_dual"] == 1.0
    assert late["s_dual"] < found["model"].tracking["s_dual"] - 0.2 and late["p_angle"] < 0.5
    assert (
        0.7 < found["ceiling"].tracking["s_dual"] < 1
        and "s_sphere" not in found["ceiling"].tracking
    )
    (prompt,) = exact.prompts
    corners, labels = prompt.points[0]
    x, y, w, h = mask_box(walk(0)).tolist()
    assert labels.tolist() == [2, 3] and not prompt.masks
    np.testing.assert_allclose(
        (corners + 0.5) * [WIDTH / 64, HEIGHT / 64], [[x, y], [x + w, y + h]]
    )


def test_a_box_over_the_seam_prompts_its_wider_part() -> None:
    left = box_corners(np.array([-10.0, -4.0, 40.0, 20.0]), 96, 48, 96)
    np.testing.assert_allclose((left + 0.5)[:, 0], [0, 30])
    np.testing.assert_allclose((left + 0.5)[:, 1], [0, 32])
    right = box_corners(np.array([60.0, 10.0, 40.0, 90.0]), 96, 48, 96)
    np.testing.assert_allclose((right + 0.5)[:, 0], [60, 96])
    np.testing.assert_allclose((right + 0.5)[:, 1], [20, 96])
    rng = np.random.default_rng(2)
    for _ in range(200):
        box = np.array(
            [
                rng.integers(-60, 100),
                rng.integers(-5, 44),
                rng.integers(1, 97),
                rng.integers(6, 30),
            ],
            float,
        )
        mask = box_mask(box, 96, 48)
        assert mask.any(axis=0).sum() == box[2] and mask_box(mask)[2] == box[2]
        rows = np.flatnonzero(mask.any(axis=1))
        assert (rows[0], rows[-1] + 1) == (max(box[1], 0), min(box[1] + box[3], 48))


def test_360vot_through_pano_eval(tmp_path: Path) -> None:
    track_tree(tmp_path / "data")
    asked = config(predictor="empty", benchmark="360vot", root=tmp_path / "data")
    results = run_evaluation(asked, tmp_path, tmp_path / "out").results
    scores = {s["role"]: s for s in results["scores"]}
    assert scores["model"]["tracking"]["s_dual"] == pytest.approx(
        1 / 6 * 20 / 21
    )  # the frame of the prompt, as in the toolkit
    assert (
        scores["ceiling"]["tracking"]["s_dual"] > 0.7
        and scores["model"]["j"] is scores["model"]["j_and_f"] is None
    )
    text, page = (
        "\n".join(as_lines(results)),
        (tmp_path / "out/eval/latest/report.html").read_text(),
    )
    assert (
        "S_dual" in text
        and "S_dual" in page
        and "J&F" not in text
        and "the first box is the prompt" in page
    )
    assert "97 of the 170" in page
    assert run_evaluation(asked, tmp_path, tmp_path / "out").results["scores"] == results["scores"]
    labels = json.loads((tmp_path / "data/0001/label.json").read_text())
    for frame in labels.values():
        frame["bbox"]["w"] = 0
    (tmp_path / "data/0001/label.json").write_text(json.dumps(labels))
    with pytest.raises(DataError, match="0001 has no frame with the object"):
        run_evaluation(asked, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("frame", ["000003.jpg", "000006.jpg"])
def test_a_label_file_of_another_length_is_refused_and_nothing_written(
    tmp_path: Path, frame: str
) -> None:
    """A picture without its bounds, in the middle or behind the last: not scored as if it had."""
    track_tree(tmp_path / "data")
    path = tmp_path / "data/0001/label.json"
    labels = json.loads(path.read_text())
    path.write_text(json.dumps({name: labels[name] for name in labels if name != frame}))
    asked = config(predictor="empty", benchmark="360vot", root=tmp_path / "data")
    with pytest.raises(DataError) as caught:
        run_evaluation(asked, tmp_path, tmp_path / "out")
    said = str(caught.value).splitlines()[0]  # where to get the data, and its layout, come after it
    assert "label.json has 6 entries, image/ 7 pictures" in said
    assert f"label.json lacks 1 picture of image/, first {frame}" in said
    assert not list((tmp_path / "out").rglob("*.json"))


def test_pavsod_reports_saliency(tmp_path: Path) -> None:
    for t in range(2):
        colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        colours[disc(np.pi, 0.1, 0.4)], colours[disc(0.5 + t, -0.4, 0.3)] = (0, 0, 200), (0, 200, 0)
        write(
            tmp_path / f"data/frame_key/street/{t:05d}.png",
            np.full((HEIGHT, WIDTH, 3), 90, np.uint8),
        )
        write(tmp_path / f"data/instance/street/{t:05d}.png", colours)
    asked = config(predictor="ground_truth", benchmark="pavsod", root=tmp_path / "data")
    results = run_evaluation(asked, tmp_path, tmp_path / "out").results
    found = {s["role"]: s for s in results["saliency"]}
    assert (
        found["floor"]["f_beta"] == 0.0
        and found["floor"]["mae"] > 0.03
        and found["ceiling"]["panoramas"] == 2
    )
    assert (
        found["ceiling"]["f_beta"] > 0.9
        and found["ceiling"]["s_measure"] > 0.85
        and found["ceiling"]["mae"] < 0.02
    )
    text, page = (
        "\n".join(as_lines(results)),
        (tmp_path / "out/eval/latest/report.html").read_text(),
    )
    for word in ("MAE", "S-measure", "E-measure"):
        assert word in text and word in page
    assert (
        run_evaluation(asked, tmp_path, tmp_path / "out").results["saliency"] == results["saliency"]
    )
