"""Exports opened and scored by the formats' own toolkits: ground truth against itself is perfect.

pycocotools is installed with panoforge. The others ask for versions that numpy < 2 forbids, or are
not on PyPI. Put them below one folder, name it in PANOFORGE_TOOLKITS, and each test runs; without
it each is skipped with the reason. `.ci/run` brings those that PyPI has:

    panopticapi/            in CI: pypi.org/project/panopticapi-lite (the evaluator unchanged)
    ultralytics/            in CI: pypi.org/project/ultralytics
    davis2017-evaluation/   github.com/davisvideochallenge/davis2017-evaluation (scikit-image)
    youtubevos-cocoapi/     github.com/youtubevos/cocoapi
    sav_dataset/            github.com/facebookresearch/sam2, its folder sav_dataset (scikit-image)
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_cases import SMALL_SCAN, busy_dataset, clip_of, pictures_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from panoforge.core.export import ExportOptions, export
from panoforge.core.export.yolo import overlap
from panoforge.core.shards.read import Dataset


def toolkit(name: str, *needs: str) -> Path:
    """The checkout of a toolkit; skips where it, or a module that it needs, is missing."""
    root = os.environ.get("PANOFORGE_TOOLKITS")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"needs {name} below the folder that PANOFORGE_TOOLKITS names")
    for module in needs:
        pytest.importorskip(module)
    return Path(root) / name


def python(toolkit_path: Path, code: str, *arguments: object) -> str:
    """Run `code` with a toolkit on its path, as its users do; what it printed."""
    path = os.pathsep.join([str(toolkit_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_coco_is_scored_by_pycocotools(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    export(dataset, "coco", tmp_path, options)
    truth = COCO(str(tmp_path / "annotations" / "instances.json"))
    rows = [annotation | {"score": 1.0} for annotation in truth.loadAnns(truth.getAnnIds())]
    for kind in ("segm", "bbox"):
        scores = COCOeval(truth, truth.loadRes([dict(row) for row in rows]), kind)
        scores.params.maxDets = [100, 200, 1000]
        scores.evaluate()
        scores.accumulate()
        precision = scores.eval["precision"]
        assert precision[precision > -1].min() == pytest.approx(1.0)


DAVIS = """
import json, resource, sys
from davis2017.evaluation import DAVISEvaluation
root, results, task = sys.argv[1:]
scores = DAVISEvaluation(davis_root=root, task=task, gt_set="val").evaluate(results)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"J": scores["J"]["M"], "F": scores["F"]["M"], "peak_mb": peak}))
"""


@pytest.mark.parametrize("task", ["semi-supervised", "unsupervised"])
def test_davis_is_scored_by_davis2017_evaluation(
    dataset: Dataset, task: str, tmp_path: Path
) -> None:
    where = toolkit("davis2017-evaluation", "pandas", "scipy", "skimage", "tqdm")
    facts = export(dataset, "davis", tmp_path, SMALL_SCAN)
    found = python(where, DAVIS, tmp_path, tmp_path / "Annotations" / "480p", task)
    scores = json.loads(found.splitlines()[-1])
    assert len(scores["J"]) == len(scores["F"]) == facts["masklets"] > 8
    assert min(scores["J"]) == min(scores["F"]) == 1.0


DAVIS_MEMORY = """
import json, resource, sys
from davis2017.davis import DAVIS
read = DAVIS(sys.argv[1], task="semi-supervised", subset="val")
objects = [len(read.get_all_masks(name, True)[0]) for name in read.get_sequences()]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"objects": sum(objects), "sequences": len(objects), "peak_mb": peak}))
"""


@pytest.mark.slow
def test_davis_of_150_instances_fits_the_readers_memory(tmp_path: Path) -> None:
    """At the export's own size, 480 pixels. In one sequence 150 objects would take 14 GB, and 64 GB
    at 1024 pixels.
    """
    where = toolkit("davis2017-evaluation", "pandas", "scipy", "tqdm")
    export(busy_dataset(tmp_path, 150), "davis", tmp_path / "out")
    found = json.loads(python(where, DAVIS_MEMORY, tmp_path / "out").splitlines()[-1])
    print(found)
    assert found["objects"] == 150 and found["peak_mb"] < 4000


PANOPTIC = """
import json, sys
from panopticapi.evaluation import pq_compute
found = pq_compute(sys.argv[1], sys.argv[1], sys.argv[2], sys.argv[2])
print(json.dumps({"pq": found["All"]["pq"], "n": found["All"]["n"]}))
"""


def test_panoptic_is_scored_by_panopticapi(options: ExportOptions, tmp_path: Path) -> None:
    """Of a dataset with things and stuff: without either, panopticapi divides by zero."""
    where = toolkit("panopticapi")
    dataset = busy_dataset(tmp_path, 6, structure={1, 2})
    export(dataset, "mask2former-panoptic", tmp_path / "out", options)
    json_file, pictures = tmp_path / "out" / "panoptic.json", tmp_path / "out" / "panoptic"
    found = python(where, PANOPTIC, json_file, pictures)
    assert json.loads(found.splitlines()[-1]) == {"pq": 1.0, "n": 2}


def test_ytvis_is_read_by_its_cocoapi(dataset: Dataset, tmp_path: Path) -> None:
    where = toolkit("youtubevos-cocoapi")
    source = where / "PythonAPI" / "pycocotools" / "ytvos.py"
    spec = importlib.util.spec_from_file_location("pycocotools.ytvos", source)
    assert spec and spec.loader
    ytvos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ytvos)
    facts = export(dataset, "ytvis", tmp_path, SMALL_SCAN)
    read = ytvos.YTVOS(str(tmp_path / "instances.json"))
    assert len(read.vids) == facts["videos"] == 2 and len(read.anns) == facts["annotations"]
    for video in read.loadVids(read.getVidIds()):
        clip = clip_of(dataset, video["file_names"][0].split("/")[0])
        for annotation in read.loadAnns(read.getAnnIds(vidIds=[video["id"]])):
            for number, frame in enumerate(clip):
                if annotation["segmentations"][number] is not None:
                    mask = read.annToMask(annotation, number)
                    assert np.array_equal(mask, frame.labels == annotation["instance_id"])


def test_sav_is_scored_by_its_evaluator(dataset: Dataset, tmp_path: Path) -> None:
    where = toolkit("sav_dataset", "skimage")
    facts = export(dataset, "sav", tmp_path, SMALL_SCAN)
    root = str(tmp_path / "Annotations_6fps")
    done = subprocess.run(
        [sys.executable, "sav_evaluator.py", "--gt_root", root, "--pred_root", root, "-n", "1"],
        cwd=where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("caps-")]
    rows = [row for row in rows if len(row) == 5]
    assert len(rows) <= facts["masklets"] and len(rows) > 8
    assert {row[3] for row in rows} == {row[4] for row in rows} == {"100.0"}


ULTRALYTICS = """
import json, sys
import numpy as np
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygons2masks
data = check_det_dataset(sys.argv[1], autodownload=False)
read = YOLODataset(
    img_path=data["train"], data=data, task="segment", imgsz=int(sys.argv[2]), augment=False,
    rect=False, batch_size=1, hyp=get_cfg(overrides={"copy_paste": 0.0}),
)
found = {}
for label in read.labels:
    height, width = label["shape"]
    rings = [np.asarray(ring) * (width, height) for ring in label["segments"]]
    found[label["im_file"]] = {
        "classes": [int(number) for number in label["cls"][:, 0]],
        "masks": [polygons2masks((height, width), [ring], 1)[0].tolist() for ring in rings],
    }
item = read[0]
print(json.dumps({"names": data["names"], "found": found, "batch": list(item["masks"].shape)}))
"""


def test_yolo_is_read_by_ultralytics(
    dataset: Dataset, options: ExportOptions, tmp_path: Path
) -> None:
    where = toolkit("ultralytics", "torchvision")
    facts = export(dataset, "yolo-seg", tmp_path / "out", options)
    size = 192 if not options.perspective else 64
    read = json.loads(
        python(where, ULTRALYTICS, tmp_path / "out" / "data.yaml", size).splitlines()[-1]
    )
    overlaps = []
    for path, found in read["found"].items():
        frame = pictures_of(dataset, options)[Path(path).stem]
        ids = [int(id_) for id_ in np.unique(frame.labels) if id_]
        for number, mask, id_ in zip(found["classes"], found["masks"], ids, strict=True):
            assert read["names"][str(number)] == frame.instances[id_].category
            overlaps.append(overlap(np.array(mask, bool), frame.labels == id_))
    assert len(overlaps) == facts["annotations"]
    assert np.mean(overlaps) == pytest.approx(facts["cost"]["mean_iou"], abs=1e-3)
