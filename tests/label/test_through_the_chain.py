"""What `pano annotate` writes goes through the other verbs: stats, export, train, eval."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from videos import dataset_of_videos

from panoforge.cli import main
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.shards.read import Dataset

CHAIN = """
run: labels
annotate:
  entities: [{kind: truth, name: a}]
  panoptic: [{kind: truth, name: b}, {kind: truth, name: c}]
  follow: {kind: noisy_truth}
  least_free_mb: 1
  write: []
train:
  model: {size: micro, image_size: 128}
  clip: {frames: 2, max_objects: 1, min_area_sr: 0.01}
  prompt: {corrections: 0}
  steps: 1
  clips_per_step: 1
  checkpoint_every: 1
  torch_threads: 1
  loader_threads: 1
  device: cpu
eval:
  methods: [direct]
  model: {size: micro, image_size: 128, checkpoint: "${run}/checkpoints/model.pt"}
  instances: {max_per_panorama: 1, min_pixels: 16}
"""


def pano(*words: str) -> None:
    """One verb, as the command runs it."""
    with pytest.raises(SystemExit) as end:
        main([*words])
    assert not end.value.code, words


@pytest.mark.real
@pytest.mark.timeout(600)
def test_labels_of_annotate_go_through_stats_export_train_and_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = dataset_of_videos(tmp_path / "truth", scenes=1, frames=3, width=256)
    monkeypatch.chdir(tmp_path)
    Path("chain.yaml").write_text(CHAIN)
    pano("annotate", str(truth), "--config", "chain.yaml")
    dataset = Dataset.open("labels/dataset")
    labels = {key: dataset.by_key(key, ("instance",)).read("instance") for key in dataset.keys}
    pano("stats", "labels/dataset", "--out", "stats")
    page = Path("stats/report.html").read_text()
    assert "pano annotate" in page and all(word in page for word in ("wall", "pillar", "ball"))

    for to in ("coco", "labelme", "sav"):
        pano("export", "labels/dataset", to, "--to", to)
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        coco = COCO("coco/annotations/instances.json")
    for image in coco.loadImgs(coco.getImgIds()):
        own = labels[Path(image["file_name"]).stem]
        found = coco.loadAnns(coco.getAnnIds(image["id"]))
        masks = [coco.annToMask(one).astype(bool) for one in found]
        ids = set(np.unique(own)) - {0}
        assert len(masks) == len(ids)
        assert all(any(np.array_equal(mask, own == id_) for id_ in ids) for mask in masks)
    for key, own in labels.items():
        file = read_labelme(Path("labelme") / f"{key}.json")
        assert all(np.array_equal(file.mask(s), own == int(s.group or 0)) for s in file.shapes)
    (found,) = Path("sav").rglob("*_manual.json")
    first = json.loads(found.read_text())["masklet"][0]
    there = [coco_mask.decode(rle).astype(bool) for rle in first]
    own = labels[min(labels)]
    assert {int(mask.sum()) for mask in there} - {0} == {
        int((own == id_).sum()) for id_ in np.unique(own) if id_
    }

    pano("train", "chain.yaml")
    assert Path("labels/checkpoints/model.pt").exists()
    pano("eval", "chain.yaml")
    results = json.loads(Path("labels/eval/latest/results.json").read_text())
    scored = [row for row in results["rows"] if row["role"] == "model"]
    assert sorted(row["key"] for row in scored) == sorted(labels)  # an instance of each
