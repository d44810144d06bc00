"""Our own videos as a benchmark: frames and ids from the shards, scored like anybody's videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import videos

from panoforge.core.errors import DataError
from panoforge.core.shards.write import PackOptions
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.config import EvalConfig
from panoforge.eval.run import run_evaluation


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held_out")
    options = PackOptions(splits=(("test", 1.0),))
    return videos.dataset_of_videos(folder, scenes=2, frames=6, options=options)


def test_masks_are_the_ids_of_the_frames(dataset: Path) -> None:
    items = open_benchmark(get_benchmark("held_out_video"), dataset, None)
    assert len(items) == 2
    video = items[0]
    assert video.key.endswith("-v0") and len(video.images) == 6
    assert video.names == {1: "wall", 2: "pillar", 3: "ball"}
    absent = 0
    for t, read in enumerate(video.masks):
        labels, masks = videos.labels(t, 128, 6), read()
        for id_ in (1, 2, 3):
            absent += id_ not in masks
            assert np.array_equal(masks.get(id_, np.zeros_like(labels, bool)), labels == id_)
        assert video.images[t].read().shape == (64, 128, 3)
    assert absent  # behind the pillar


def test_they_are_scored_and_other_bytes_are_other_data(dataset: Path, tmp_path: Path) -> None:
    asked = EvalConfig.model_validate(
        {
            "benchmark": "held_out_video",
            "root": str(dataset),
            "predictor": "sam2",
            "model": {"size": "micro", "image_size": 128, "checkpoint": "random"},
            "device": "cpu",
        }
    )
    found = run_evaluation(asked, tmp_path, tmp_path / "out").results
    ceiling = next(entry for entry in found["scores"] if entry["role"] == "ceiling")
    assert ceiling["objects"] == 6 and ceiling["j"] > 0.8
    assert {entry["label"] for entry in found["labels"]} == {"wall", "pillar", "ball"}
    assert found["dataset"]["name"] == "held_out_video" and found["dataset"]["videos"] == 2
    others = videos.dataset_of_videos(
        tmp_path / "others",
        scenes=2,
        frames=6,
        width=160,
        options=PackOptions(splits=(("test", 1.0),)),
    )
    other = run_evaluation(
        asked.model_copy(update={"root": others}), tmp_path, tmp_path / "again"
    ).results
    assert other["dataset"]["manifest_sha256"] != found["dataset"]["manifest_sha256"]
    assert json.dumps(found)


def test_every_search_goes_through_and_the_page_says_which(dataset: Path, tmp_path: Path) -> None:
    """`pano eval` with each, random weights: other protocols, and a page that names the way."""
    protocols = set()
    for search, words in (("whole", "whole, resized"), ("bfov", "BFoV"), ("scan", "of a scan")):
        asked = EvalConfig.model_validate(
            {
                "benchmark": "held_out_video",
                "root": str(dataset),
                "max_panoramas": 1,
                "model": {"size": "micro", "image_size": 64, "checkpoint": "random"},
                "video": {"search": search},
                "scan": {"overlap": 0.0},
                "device": "cpu",
            }
        )
        found = run_evaluation(asked, tmp_path, tmp_path / search)
        page = (found.folder / "report.html").read_text()
        assert words in page and "By what the objects are" in page and "pillar" in page
        protocols.add(found.results["protocol_id"])
    assert len(protocols) == 3


def test_a_dataset_without_videos_or_that_split_is_refused(
    dataset: Path, caps_dataset: Path
) -> None:
    with pytest.raises(DataError, match=r"has no split 'val', only \['test'\]"):
        open_benchmark(get_benchmark("held_out_video"), dataset, "val")
    with pytest.raises(DataError, match=r"its split train holds no videos"):
        open_benchmark(get_benchmark("held_out_video"), caps_dataset, "train")
