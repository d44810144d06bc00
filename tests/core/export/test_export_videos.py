"""Videos in the formats that hold them, opened by the readers that the product scores them with,
and compared with the label maps pixel by pixel. The formats' own toolkits: test_export_toolkits.py.
"""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path

import av
import browser
import numpy as np
import pytest
import synthetic
import videos
from PIL import Image
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError, UsageError
from panoforge.core.export import FORMATS, ExportOptions, export, tracks
from panoforge.core.export.davis import sequences_in_time
from panoforge.core.export.frames import ExportJob, Frame
from panoforge.core.export.mp4 import encode_h264
from panoforge.core.export.spherical import with_spherical_metadata
from panoforge.core.export.units import Unit, units_of
from panoforge.core.foreign.videos import index_video
from panoforge.core.geometry.scan import ScanSpec
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import pack
from panoforge.core.storage.store import Store
from panoforge.eval.benchmarks import panovos, vots360
from panoforge.eval.scoring.metrics.bfov import sphere_iou

FRAMES, WIDTH = 7, 128


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two videos of seven frames: a ball goes over the seam and behind a pillar."""
    folder = tmp_path_factory.mktemp("clips")
    return Dataset.open(videos.dataset_of_videos(folder, scenes=2, frames=FRAMES, width=WIDTH))


def labels_of(dataset: Dataset, video: str) -> list[np.ndarray]:
    return [dataset.by_key(key).read("instance") for key in dataset.video(video).frame_keys]


def test_a_unit_is_a_video_or_a_picture(tmp_path: Path, clips: Dataset) -> None:
    listed = clips.videos.select(["video", "split"]).to_pylist()
    assert units_of(clips, videos=True) == [
        Unit(row["video"], FRAMES * place, FRAMES, row["split"], 10.0)
        for place, row in enumerate(listed)
    ]
    assert [unit.key for unit in units_of(clips, videos=False)] == clips.keys
    staged = tmp_path / "staged"
    for camera in range(2):
        synthetic.stage(staged, 0, camera, width=WIDTH)
    videos.stage_video(staged, 5, frames=3, width=WIDTH)
    pack(staged, tmp_path / "mixed")
    mixed = Dataset.open(tmp_path / "mixed")
    assert sorted(unit.samples for unit in units_of(mixed, videos=True)) == [1, 1, 3]
    facts = export(mixed, "mp4", tmp_path / "mp4")
    assert (facts["videos"], facts["samples"], facts["left_out"]) == (1, 3, 2)
    facts = export(mixed, "sav", tmp_path / "sav", ExportOptions(ScanSpec(size_px=32)))
    assert (facts["videos"], facts["samples"], facts["left_out"]) == (3, 5, 0)
    assert len(list((tmp_path / "sav" / "annotations").glob("*.mp4"))) == 1


@pytest.mark.parametrize("to", [name for name, layout in FORMATS.items() if layout.panoramic])
def test_panoramic_formats_want_videos_and_are_the_same_by_any_number_of_workers(
    clips: Dataset, to: str, tmp_path: Path
) -> None:
    stills = Dataset.open(synthetic.dataset(tmp_path, scenes=1, cameras=1, width=WIDTH))
    with pytest.raises(UsageError, match=f"holds no videos, and {to} is a format of panoramic"):
        export(stills, to, tmp_path / "out")
    with pytest.raises(UsageError, match="whole panoramas: leave perspective out"):
        export(clips, to, tmp_path / "out", ExportOptions(ScanSpec()))
    facts = export(clips, to, tmp_path / "one")
    assert json.loads((tmp_path / "one" / "export.json").read_text()) == facts
    export(clips, to, tmp_path / "two", workers=2)
    one, two = (
        {path.relative_to(tmp_path / n): path.read_bytes() for path in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    )
    assert one == two and len(one) > 2


@pytest.mark.parametrize(
    ("to", "opened"), [("panovos", panovos.open_videos), ("360vos", vots360.open_videos)]
)
def test_masks_are_those_of_the_label_maps(clips: Dataset, to: str, opened, tmp_path: Path) -> None:
    facts = export(clips, to, tmp_path)
    assert facts["videos"] == 2 and facts["masklets"] == 6
    seen = 0
    for split in set(clips.videos["split"].to_pylist()):
        for item in opened(tmp_path, split):
            assert len(item.images) == len(item.masks) == FRAMES
            for ids, image, masks, key in zip(
                labels_of(clips, item.key),
                item.images,
                item.masks,
                clips.video(item.key).frame_keys,
                strict=True,
            ):
                sample = clips.by_key(key)
                assert image.read_bytes() == sample.members[sample.suffix("rgb")]
                assert masks is not None
                found = masks()
                for id_ in (1, 2, 3):
                    mask = found.get(id_, np.zeros(ids.shape, bool))
                    assert np.array_equal(mask, ids == id_)
                    seen += int(mask.any())
    assert seen > 30


def test_panovos_says_when_each_object_is_there(clips: Dataset, tmp_path: Path) -> None:
    export(clips, "panovos", tmp_path)
    video, split = (clips.videos[name][0].as_py() for name in ("video", "split"))
    meta = json.loads((tmp_path / split / f"{split}_meta.json").read_text())["videos"][video]
    for row in clips.video(video).meta.instances:
        there = [frame for frame, pixels in enumerate(row.pixels) if pixels]
        said = meta["objects"][str(row.id)]
        assert said["frame_range"] == {
            "start": f"{there[0]:05d}",
            "end": f"{there[-1]:05d}",
            "frame_nums": len(there),
        }
        assert said["panoforge_instance"] == {
            "id": row.id,
            "name": row.name,
            "category": row.category,
        }


def test_more_things_than_a_palette_numbers_are_two_videos(clips: Dataset, tmp_path: Path) -> None:
    labels = np.arange(1, 601, dtype=np.uint16).reshape(20, 30).repeat(2, 0).repeat(2, 1)
    names = {
        id_: InstanceLabel(f"n{id_}", "a", "a", ("structure",) if id_ <= 300 else ())
        for id_ in range(1, 601)
    }
    rows = {row.id: row for row in instance_table(labels, names)}
    frame = Frame("f", b"jpeg", "jpg", 60, 40, lambda: labels, rows)
    job = ExportJob(clips, Store.at(tmp_path), ExportOptions(), {})
    part = tracks.panovos_part(job, Unit("v", 0, 1, "train", 10.0), [frame])
    assert part.counts == {"videos": 2, "masklets": 300, "structure_left_out": 300}
    found = np.zeros_like(labels)
    for name, first in (("v-s00", 301), ("v-s01", 301 + 254)):
        png = np.frombuffer(part.files[f"train/Annotations/{name}/00000.png"], np.uint8)
        values = np.array(Image.open(io.BytesIO(png.tobytes()))).astype(np.uint16)
        assert values.max() < 255
        found[values > 0] = values[values > 0] + first - 1
    assert np.array_equal(found, np.where(labels > 300, labels, 0))


def test_360vot_follows_what_moves_from_its_first_sight(clips: Dataset, tmp_path: Path) -> None:
    facts = export(clips, "360vot", tmp_path)
    assert facts["sequences"] == 2 and facts["still_left_out"] == 4
    for split in set(clips.videos["split"].to_pylist()):
        for item in vots360.open_tracks(tmp_path, split):
            video, _, id_ = item.key.rpartition("-")
            maps = labels_of(clips, video)
            assert int(id_) == videos.MOVING and len(item.images) == FRAMES
            assert item.present.tolist() == [bool((ids == videos.MOVING).any()) for ids in maps]
            assert not item.present.all()
            for ids, box, there in zip(maps, item.boxes, item.present, strict=True):
                v, u = np.nonzero(ids == videos.MOVING)
                if there:
                    x, y, w, h = box
                    assert ((u - x) % WIDTH < w).all() and ((v >= y) & (v < y + h)).all()
            there = item.bfovs[item.present]
            assert np.allclose(sphere_iou(there, there), 1.0)
            label = json.loads(item.labels.read_text())
            assert all(set(entry) == {"bfov", "rbfov", "bbox", "rbbox"} for entry in label.values())


def test_a_video_in_time_begins_with_its_objects_and_never_wraps(
    clips: Dataset, tmp_path: Path
) -> None:
    seen = [{1}, {1, 2}, {1}, {1, 2, 3}]
    assert sequences_in_time(seen, {1: 5, 2: 9, 3: 1}) == [(0, [1]), (1, [2]), (3, [3])]
    many = [set(range(1, 51))]
    shared = sequences_in_time(many, {id_: 1 for id_ in many[0]})
    assert [len(ids) for _, ids in shared] == [20, 20, 10]
    export(clips, "davis", tmp_path)
    for folder in sorted((tmp_path / "JPEGImages" / "480p").iterdir()):
        names = [path.read_bytes() for path in sorted(folder.iterdir())]
        video = folder.name.rpartition("-s")[0]
        own = [clips.by_key(key).members["rgb.jpg"] for key in clips.video(video).frame_keys]
        assert names == own[len(own) - len(names) :]


def test_sav_and_ytvis_hold_whole_panoramas_in_time(clips: Dataset, tmp_path: Path) -> None:
    export(clips, "sav", tmp_path / "sav")
    export(clips, "ytvis", tmp_path / "ytvis")
    for video in clips.videos["video"].to_pylist():
        maps = labels_of(clips, video)
        document = json.loads(
            (tmp_path / "sav" / "annotations" / f"{video}_manual.json").read_text()
        )
        assert (document["fps"], document["video_frame_count"]) == (10.0, FRAMES)
        assert document["video_duration"] == pytest.approx(FRAMES / 10)
        for ids, rles in zip(maps, document["masklet"], strict=True):
            for id_, rle in enumerate(rles, start=1):
                assert np.array_equal(coco_mask.decode(rle), ids == id_)
        file = tmp_path / "sav" / "annotations" / f"{video}.mp4"
        found = index_video(file)
        assert len(found.times) == FRAMES and found.fps == 10.0
    read = json.loads((tmp_path / "ytvis" / "instances.json").read_text())
    assert [video["length"] for video in read["videos"]] == [FRAMES, FRAMES]
    assert len(read["annotations"]) == 6


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (8, 16, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    return [np.roll(base, 8 * frame, axis=1) for frame in range(20)]


def test_an_mp4_has_every_frame_and_is_said_to_be_spherical(tmp_path: Path) -> None:
    own = pictures()
    plain = encode_h264(own, 256, 128, 10.0)
    assert plain == encode_h264(own, 256, 128, 10.0)
    file = tmp_path / "video.mp4"
    file.write_bytes(with_spherical_metadata(plain))
    with av.open(file) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(read) == len(own)
    for frame, picture in zip(read, own, strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 6
    data = file.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser begins at once
    assert b"<GSpherical:ProjectionType>equirectangular<" in data
    with pytest.raises(ValueError, match="expected the moov box behind"):
        with_spherical_metadata(data)
    if shutil.which("ffprobe") is None:
        pytest.skip("THE 360° METADATA IS NOT READ BY ffprobe: it is not installed")
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(file)]
    stream = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (stream,) = stream["streams"]
    sides = {side["side_data_type"]: side for side in stream["side_data_list"]}
    assert sides["Spherical Mapping"]["projection"] == "equirectangular"
    assert sides["Stereo 3D"]["type"] == "2D"
    assert (stream["nb_frames"], stream["r_frame_rate"]) == ("20", "10/1")


def test_odd_sides_are_refused(tmp_path: Path) -> None:
    folder = videos.dataset_of_videos(tmp_path, scenes=1, frames=2, width=130)
    with pytest.raises(DataError, match="130×65: H\\.264 holds colour for every second pixel"):
        export(Dataset.open(folder), "mp4", tmp_path / "out")
    assert not (tmp_path / "out" / "export.json").exists()


def test_a_browser_plays_an_mp4(tmp_path: Path) -> None:
    own = [np.full((128, 256, 3), 12 * frame, np.uint8) for frame in range(20)]
    data = with_spherical_metadata(encode_h264(own, 256, 128, 10.0))
    video = base64.b64encode(data).decode()  # a canvas tells no pixels of another file's
    (tmp_path / "page.html").write_text(PAGE.replace("VIDEO", f"data:video/mp4;base64,{video}"))
    with browser.open_tab((tmp_path / "page.html").as_uri()) as tab:
        tab.page.wait_for_function("window.seen !== undefined")
        seen = tab.page.evaluate("window.seen")
    assert (seen["width"], seen["height"]) == (256, 128) and abs(seen["duration"] - 2.0) < 0.01
    assert seen["greys"] == sorted(seen["greys"]) and len(set(seen["greys"])) == 4
    for grey, frame in zip(seen["greys"], (2, 7, 12, 17), strict=True):
        assert abs(grey - 12 * frame) < 6, seen


PAGE = """<!doctype html><video id=v src=VIDEO muted preload=auto></video><canvas id=c></canvas>
<script>
const video = document.getElementById("v"), canvas = document.getElementById("c");
async function at(seconds) {
  const moved = new Promise(done => {  // "seeked" may come before its frame is there
    const seen = (_, frame) =>
      Math.abs(frame.mediaTime - seconds) < 0.1 ? done() : video.requestVideoFrameCallback(seen);
    video.requestVideoFrameCallback(seen);
  });
  video.currentTime = seconds;
  await moved;
  const draw = canvas.getContext("2d");
  draw.drawImage(video, 0, 0, 8, 8);
  return draw.getImageData(4, 4, 1, 1).data[0];
}
video.addEventListener("error", () => { window.seen = {error: video.error.message}; });
video.addEventListener("loadeddata", async () => {
  const greys = [];
  for (const seconds of [0.25, 0.75, 1.25, 1.75]) greys.push(await at(seconds));
  const {videoWidth, videoHeight, duration} = video;
  window.seen = {width: videoWidth, height: videoHeight, duration, greys};
}, {once: true});
</script>"""
