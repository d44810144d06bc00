"""The davis export, read by the rules of DAVIS' own evaluator and by SAM2's reader.

`read_davis` states again what davis2017-evaluation opens and what it takes for an object. Beside
it, test_export_toolkits.py runs that evaluator itself, where it is installed.
"""

import json
from glob import glob
from pathlib import Path

import numpy as np
import pytest
from export_cases import SCAN, SMALL_SCAN, busy_dataset, clip_of
from PIL import Image

from panoforge.core.export import export
from panoforge.core.export.davis import MAX_OBJECTS, sequences
from panoforge.core.geometry.scan import scan_views
from panoforge.core.shards.read import Dataset

VOID = 255


def read_davis(root: Path, task: str, subset: str) -> dict[str, np.ndarray]:
    """Masks (objects, frames, height, width) per sequence, as davis2017/davis.py reads them:
    folders `480p`, ImageSets/2017, as many objects as the first mask's highest number, 255 is void.
    """
    folder = {"semi-supervised": "Annotations", "unsupervised": "Annotations_unsupervised"}[task]
    names = (root / "ImageSets" / "2017" / f"{subset}.txt").read_text().split("\n")
    found = {}
    for name in filter(None, map(str.strip, names)):
        images = sorted(glob(str(root / "JPEGImages" / "480p" / name / "*.jpg")))
        files = sorted(glob(str(root / folder / "480p" / name / "*.png")))
        assert images and len(files) == len(images)
        masks = np.stack([np.array(Image.open(file)) for file in files])
        assert not (masks == VOID).any()
        numbers = np.arange(1, masks[0].max() + 1)[:, None, None, None]
        found[name] = numbers == masks[None]
        assert masks.max() == len(numbers), f"{name}: an object that the first frame does not show"
    return found


@pytest.mark.parametrize("task", ["semi-supervised", "unsupervised"])
def test_davis_opens_in_the_evaluators_layout(dataset: Dataset, task: str, tmp_path: Path) -> None:
    """Every instance of every panorama is one object of one sequence, in every frame exactly."""
    facts = export(dataset, "davis", tmp_path, SMALL_SCAN)
    read = read_davis(tmp_path, task, "val")
    known = json.loads((tmp_path / "objects.json").read_text())
    assert read.keys() == known.keys() and len(read) == facts["videos"]
    masklets = 0
    for key in dataset.keys:
        clip = clip_of(dataset, key)
        frames = {frame.image: frame.labels for frame in clip}
        ids = []
        for name in (name for name in known if name.startswith(f"{key}-s")):
            files = sorted((tmp_path / "JPEGImages" / "480p" / name).glob("*.jpg"))
            labels = np.stack([frames[file.read_bytes()] for file in files])
            assert len(labels) == len(scan_views(SCAN))
            assert read[name].any(axis=(2, 3))[:, 0].all() and len(read[name]) <= MAX_OBJECTS
            for place, mask in enumerate(read[name], start=1):
                id_ = known[name][str(place)]["id"]
                assert np.array_equal(mask, labels == id_)
                ids.append(id_)
        assert sorted(ids) == sorted(set().union(*(np.unique(f.labels) for f in clip)) - {0})
        masklets += len(ids)
    assert facts["masklets"] == masklets > 8 and facts["splits"] == {
        "train": "train",
        "val": "train",
    }


def test_davis_is_read_by_sam2(dataset: Dataset, tmp_path: Path) -> None:
    from training.dataset.vos_raw_dataset import PNGRawDataset

    export(dataset, "davis", tmp_path, SMALL_SCAN)
    reader = PNGRawDataset(
        str(tmp_path / "JPEGImages" / "480p"),
        str(tmp_path / "Annotations" / "480p"),
        str(tmp_path / "ImageSets" / "2017" / "train.txt"),
    )
    known = json.loads((tmp_path / "objects.json").read_text())
    assert reader.video_names == sorted(known)
    for index, name in enumerate(reader.video_names):
        video, loader = reader.get_video(index)
        labels = {frame.image: frame.labels for frame in clip_of(dataset, name.rsplit("-s", 1)[0])}
        for number, frame in enumerate(video.frames):
            truth = labels[Path(frame.image_path).read_bytes()]
            for place, mask in loader.load(number).items():
                assert np.array_equal(mask.numpy(), truth == known[name][str(place)]["id"])


def test_a_busy_panorama_becomes_sequences_of_few_objects(tmp_path: Path) -> None:
    """Many instances: more sequences, none lost, none twice, 480 pixels where no size is asked."""
    dataset = busy_dataset(tmp_path, 60)
    facts = export(dataset, "davis", tmp_path / "out")
    assert facts["scan"]["size_px"] == 480
    known = json.loads((tmp_path / "out" / "objects.json").read_text())
    ids = [entry["id"] for objects in known.values() for entry in objects.values()]
    assert facts["masklets"] == len(ids) == len(set(ids)) == 60
    assert max(map(len, known.values())) == MAX_OBJECTS and len(known) == facts["videos"] >= 3
    read = read_davis(tmp_path / "out", "semi-supervised", "val")
    assert sum(map(len, read.values())) == 60


def test_sequences_begin_where_most_is_seen() -> None:
    seen = [{1}, {1, 2, 3}, {3, 4}, set()]
    assert sequences(seen, {1: 5, 2: 5, 3: 5, 4: 9}) == [(1, [1, 2, 3]), (2, [4])]
    many = set(range(1, 31))
    first, second = sequences([many], dict.fromkeys(many, 1))
    assert first == (0, list(range(1, 21))) and second == (0, list(range(21, 31)))
    assert sequences([set()], {}) == []
