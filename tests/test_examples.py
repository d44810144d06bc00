"""Every example runs, in a folder like the one that `make demo` leaves, at small size."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import videos
from repository import ROOT

from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors.load import load_model
from panoforge.train.model.checkpoint_export import export_official

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Over half a minute on a busy machine, or with a Ray and a render of its own: make test-real.
MARKS = {
    "annotate_by_teachers.py": [pytest.mark.real],
    "render_your_blend.py": [pytest.mark.real, pytest.mark.ray, pytest.mark.render],
}
# What an example says at its end, or leaves behind.
ENDS = {
    "annotate_by_teachers.py": r"what a person should look at: ",
    "build_a_coco_set.py": r"(?m)^\d+ pictures, [1-9]\d* instances, 3 categories$",
    "look_at_a_dataset.py": r"(?m)^64 instances, median 0\.\d+ sr of 12\.57$",
    "points_in_3d.py": r"(?m)^[1-9]\d+ points from ",
    "render_your_blend.py": r"(?m)^\d+ \S*[Tt]able\S* table \d",
    "score_and_compare.py": r"(?m)^scan     mIoU (1\.000|0\.9\d\d) ",
    "segment_a_photo.py": r"(?m)^\d+\.\d% of the pixels$",
    "stream_shards.py": r"(?m)^caps-\d+-c\d \S+ 8 instances$",
    "train_and_resume.py": r"(?m)^steps \[1, 2, 3, 4\]$",
    "video_with_flow.py": r"(?m)^(100\.0|99\.\d)% of [1-9]\d+ visible pixels",
}
FILES = {
    "look_at_a_dataset.py": "look_at_a_dataset.png",
    "points_in_3d.py": "points_in_3d.ply",
    "segment_a_photo.py": "segment_a_photo.png",
}


@pytest.fixture(scope="module")
def desk(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(caps_dataset, folder / "runs/demo/dataset")
    videos.dataset_of_videos(folder / "runs/video", scenes=1)
    (folder / "room.jpg").write_bytes(Dataset.open(caps_dataset)[0].members["rgb.jpg"])
    torch.set_num_threads(1)
    config = EvalConfig.model_validate({"model": {"size": "tiny", "image_size": 64}})
    export_official(folder / "sam2.1_hiera_tiny.pt", load_model(config).model.state_dict(), step=0)
    return folder


def test_all_examples_are_listed_and_tried() -> None:
    names = {path.name for path in EXAMPLES}
    assert names == set(ENDS) and len(names) == 10
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in page for name in names)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_notebook_too(path: Path) -> None:
    """It begins with a cell of text that has a title, and every cell of code is whole."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    cells = re.split(r"(?m)^# %%.*\n", text)[1:]
    assert len(cells) >= 4
    for cell in cells:
        ast.parse(cell)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=MARKS.get(path.name, [])) for path in EXAMPLES],
    ids=lambda path: path.name,
)
def test_an_example_runs(desk: Path, path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, path],
        cwd=desk,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert re.search(ENDS[path.name], ended.stdout), ended.stdout
    if path.name in FILES:
        assert (desk / FILES[path.name]).stat().st_size > 1000
