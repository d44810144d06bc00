"""Exports opened and scored by the formats' own toolkits: ground truth against itself is perfect.

pycocotools is installed with panoforge. The others ask for versions that numpy < 2 forbids, or are
not on PyPI; `toolkits.py` says where they lie. `make toolkits`, and so CI, brings those that PyPI
has:

    panopticapi/            pypi.org/project/panopticapi-lite (the evaluator unchanged)
    ultralytics/            pypi.org/project/ultralytics
    davis2017-evaluation/   github.com/davisvideochallenge/davis2017-evaluation (scikit-image)
    youtubevos-cocoapi/     github.com/youtubevos/cocoapi
    sav_dataset/            github.com/facebookresearch/sam2, its folder sav_dataset (scikit-image)
    360VOT/                 github.com/HuajianUP/360VOT (shapely, pandas, tqdm)
"""

import copy
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import videos
from export_cases import SMALL_SCAN, busy_dataset, clip_of, pictures_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sticks import bounds, stick
from toolkits import python, toolkit

from panoforge.core.export import ExportOptions, export
from panoforge.core.export.yolo import overlap
from panoforge.core.shards.read import Dataset


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


def ytvis_api(part: str, monkeypatch: pytest.MonkeyPatch | None = None) -> ModuleType:
    """A module of YouTube-VIS' api, beside the masks of the pycocotools that is installed.

    Its evaluator was written for a numpy that has `np.float` and counts steps by a float: with
    `monkeypatch` numpy takes both, and the evaluator is as it was published.
    """
    where = toolkit("youtubevos-cocoapi")
    source = where / "PythonAPI" / "pycocotools" / f"{part}.py"
    spec = importlib.util.spec_from_file_location(f"pycocotools.{part}", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if monkeypatch is not None:
        linspace = np.linspace
        monkeypatch.setattr(np, "float", float, raising=False)
        monkeypatch.setattr(np, "linspace", lambda a, b, n, **more: linspace(a, b, int(n), **more))
    return module


def test_ytvis_videos_are_scored_by_its_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ball that goes behind a pillar and comes back: truth against itself, and what is no truth.

    A mask where the ball is hidden, and one that comes a frame too late, must cost something: else
    the evaluator would not have read the absence.
    """
    frames = 9
    clips = Dataset.open(videos.dataset_of_videos(tmp_path, scenes=2, frames=frames), "train")
    facts = export(clips, "ytvis", tmp_path / "ytvis")
    reader, judge = ytvis_api("ytvos"), ytvis_api("ytvoseval", monkeypatch)
    truth = reader.YTVOS(str(tmp_path / "ytvis/instances.json"))
    rows = truth.loadAnns(truth.getAnnIds())
    assert [video["length"] for video in truth.loadVids(truth.getVidIds())] == [frames] * 2
    assert len(rows) == facts["annotations"] == 6
    gaps = [[t for t, rle in enumerate(row["segmentations"]) if rle is None] for row in rows]
    away = [row for row, gap in zip(rows, gaps, strict=True) if gap and 0 < gap[0] < frames - 1]
    assert len(away) == 2

    def ap(change: Callable[[dict, list], list]) -> float:
        found = [
            {
                **{key: row[key] for key in ("video_id", "category_id")},
                "segmentations": change(row, list(copy.deepcopy(row["segmentations"]))),
                "score": 1.0,
            }
            for row in rows
        ]
        (tmp_path / "results.json").write_text(json.dumps(found))
        read = truth.loadRes(str(tmp_path / "results.json"))
        scores = judge.YTVOSeval(truth, read, "segm")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        return float(scores.stats[0])

    assert ap(lambda row, masks: masks) == pytest.approx(1.0)
    assert ap(lambda row, masks: [masks[0] if m is None else m for m in masks]) < 0.999
    assert ap(lambda row, masks: masks[-1:] + masks[:-1] if row in away else masks) < 0.999


def test_ytvis_is_read_by_its_cocoapi(dataset: Dataset, tmp_path: Path) -> None:
    ytvos = ytvis_api("ytvos")
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


def sav_scores(where: Path, exported: Path, begins: str) -> list[list[str]]:
    """The evaluator's lines of masklets, of truth against itself; `begins` as the videos' keys."""
    root = str(exported / "Annotations_6fps")
    done = subprocess.run(
        [sys.executable, "sav_evaluator.py", "--gt_root", root, "--pred_root", root, "-n", "1"],
        cwd=where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(begins)]
    return [row for row in rows if len(row) == 5]


def test_sav_is_scored_by_its_evaluator(dataset: Dataset, tmp_path: Path) -> None:
    where = toolkit("sav_dataset", "skimage")
    facts = export(dataset, "sav", tmp_path, SMALL_SCAN)
    rows = sav_scores(where, tmp_path, "caps-")
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


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two videos of panoramas, seven frames each."""
    folder = tmp_path_factory.mktemp("clips")
    return Dataset.open(videos.dataset_of_videos(folder, scenes=2, frames=7, width=256))


SAV_READER = """
import json, sys
from utils.sav_utils import SAVDataset
read = SAVDataset(sys.argv[1], annot_sample_rate=1)
frames, manual, _ = read.get_frames_and_annotations(sys.argv[2])
shapes = [list(frame.shape) for frame in frames]
print(json.dumps({"frames": shapes, "masks": len(manual["masklet"])}))
"""


def test_sav_of_videos_is_read_and_scored_by_its_own(clips: Dataset, tmp_path: Path) -> None:
    where = toolkit("sav_dataset", "skimage", "matplotlib")
    facts = export(clips, "sav", tmp_path)
    rows = sav_scores(where, tmp_path, "turns-")
    assert len(rows) == facts["masklets"] == 6
    assert {row[3] for row in rows} == {row[4] for row in rows} == {"100.0"}
    video = clips.videos["video"][0].as_py()
    said = python(where, SAV_READER, tmp_path / "annotations", video).splitlines()[-1]
    assert json.loads(said) == {"frames": [[128, 256, 3]] * 7, "masks": 7}


def test_davis_of_videos_is_scored_by_davis2017_evaluation(clips: Dataset, tmp_path: Path) -> None:
    where = toolkit("davis2017-evaluation", "pandas", "scipy", "skimage", "tqdm")
    facts = export(clips, "davis", tmp_path)
    results = tmp_path / "Annotations" / "480p"
    found = python(where, DAVIS, tmp_path, results, "semi-supervised")
    scores = json.loads(found.splitlines()[-1])
    assert len(scores["J"]) == len(scores["F"]) == facts["masklets"] == 6
    assert min(scores["J"]) == min(scores["F"]) == 1.0


VOT360 = """
import json, sys
from scripts.eval_360VOT import loadDataset
from eval.OPEBenchmark_360VOT import eval_success
sequences, boxes, turned, bfovs, rbfovs = loadDataset(sys.argv[1])
itself = {name: rows for name, (rows, _) in boxes.items()}
success = eval_success(boxes, "itself", {"itself": itself}, img_w=256)["itself"]
print(json.dumps({
    "sequences": sequences,
    "present": {name: int(there.sum()) for name, (_, there) in rbfovs.items()},
    "success": {name: list(map(float, curve)) for name, curve in success.items()},
}))
"""
VOT360_CROP = """
import json, sys
sys.path += ["lib", "eval"]
import cv2, numpy as np
from lib.omni import OmniImage
from lib.utils import Bfov
found = []
for frame in json.loads(open(sys.argv[1]).read()):
    mask = cv2.imread(frame["mask"], cv2.IMREAD_GRAYSCALE)
    image = OmniImage(mask.shape[1], mask.shape[0])
    row = {}
    for kind in ("bfov", "rbfov"):
        where = Bfov(*frame[kind])
        _, u, v = image.crop_bfov(mask, where, projection_type=0, num_sample_h=400)
        hit = np.zeros_like(mask)
        hit[np.rint(v).astype(int), np.rint(u).astype(int)] = 1
        row[kind] = float((hit * (mask > 0)).sum() / (mask > 0).sum())
    own = image.mask2Bbox(mask, need_rotation=False)
    row["box"] = [own.cx, own.cy, own.w, own.h]
    bfov = image.mask2Bfov(mask, need_rotation=True)
    row["own"] = [bfov.clon, bfov.clat, bfov.fov_h, bfov.fov_v, bfov.rotation]
    found.append(row)
print(json.dumps(found))
"""


def test_360vot_is_read_by_its_toolkit_which_finds_the_thing_where_we_say(
    clips: Dataset, tmp_path: Path
) -> None:
    """Cut out where our fields of view are, as the toolkit cuts, the whole thing is in the cut."""
    where = toolkit("360VOT", "shapely", "pandas", "tqdm")
    export(clips, "360vot", tmp_path / "vot")
    export(clips, "360vos", tmp_path / "vos")
    row = clips.videos.slice(0, 1).to_pylist()[0]
    split, video = row["split"], row["video"]
    read = json.loads(python(where, VOT360, tmp_path / "vot" / split).splitlines()[-1])
    name = f"{video}-{videos.MOVING}"
    assert name in read["sequences"]
    present = read["present"][name]
    # The toolkit counts frames without the thing among those that it divides by.
    assert np.allclose(read["success"][name][:-1], present / 7) and 4 <= present < 7
    label = json.loads((tmp_path / "vot" / split / name / "label.json").read_text())
    frames = []
    for number, entry in enumerate(label.values()):
        if entry["bbox"]["w"]:
            mask = tmp_path / "vos" / split / video / "mask" / f"{number:06d}_2.png"
            frames.append(
                {
                    "mask": str(mask),
                    **{kind: list(entry[kind].values()) for kind in ("bfov", "rbfov", "bbox")},
                }
            )
    balls = len(frames)
    for lon_deg, lat_deg, turn_deg in ((170.0, 30.0, 40.0), (20.0, -50.0, -25.0)):
        mask = stick(lon_deg, lat_deg, turn_deg, 40.0, 8.0)
        file = tmp_path / f"{turn_deg}.png"
        file.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())
        boxes = bounds(mask)
        whole = {"bfov": list(vars(boxes.fov).values()), "mask": str(file)}
        frames.append({**whole, "rbfov": list(vars(boxes.rotated_fov).values())})
    (tmp_path / "frames.json").write_text(json.dumps(frames))
    said = json.loads(python(where, VOT360_CROP, tmp_path / "frames.json").splitlines()[-1])
    for ours, theirs in zip(frames, said, strict=True):
        assert theirs["bfov"] > 0.97 and theirs["rbfov"] > 0.97, (ours, theirs)
    for ours, theirs in zip(frames[:balls], said, strict=False):
        off = np.abs(np.array(ours["bbox"][:4]) - theirs["box"])
        assert min(off[0], 256 - off[0]) <= 2 and off[1:].max() <= 2, (ours["bbox"], theirs["box"])
    for ours, theirs in zip(frames[balls:], said[balls:], strict=True):
        assert np.abs(np.array(theirs["own"]) - ours["rbfov"]).max() < 4, (ours, theirs)
