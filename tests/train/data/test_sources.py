"""Other datasets as clips: masks are those of the files, clips are functions of the position,
faults are named.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import source_trees as trees
from pycocotools import mask as coco_mask
from train_small import small_config

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.foreign.masks import fill_runs, run_area, run_counts
from panoforge.train.data.clips import IMAGENET_MEAN, IMAGENET_STD, collate
from panoforge.train.data.mixture import Mixture
from panoforge.train.data.sources import open_source
from panoforge.train.data.sources.draw import square, walk
from panoforge.train.data.sources.whole import StillTurn
from panoforge.train.settings.clips import SourceSettings

PLAIN = {"flip": 0, "colour_jitter": 0, "grayscale": 0}


def opened(kind: str, folder: Path, *, clip: dict | None = None, **settings: object):
    config = small_config(clip={**PLAIN, **(clip or {})})
    return open_source(kind, SourceSettings(kind=kind, weight=1, folder=folder, **settings), config)


def masks_of(clip) -> dict[int, list[np.ndarray]]:
    """Object id → its mask in each frame."""
    return {
        o.object_id: [f.objects[i].segment.numpy() for f in clip.frames]
        for i, o in enumerate(clip.frames[0].objects)
    }


def image_of(clip, frame: int = 0) -> np.ndarray:
    """RGB of a frame, as it came out of the file and was resized."""
    return (clip.frames[frame].data.numpy().transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN) * 255


def is_bright(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask's pixels are those that were painted (red above 180), but for a rim that JPEG
    and resizing blur.
    """
    return image[..., 0][mask].mean() > 195


@pytest.fixture(params=["sa1b", "sav-mp4", "sav-frames", "davis", "360vos", "coco"])
def source(request, tmp_path: Path):
    kind, _, variant = request.param.partition("-")
    if kind == "sav":
        return opened("sav", trees.sav(tmp_path, mp4=variant == "mp4"))
    if kind in ("davis", "360vos"):
        return opened("vos", (trees.davis if kind == "davis" else trees.vos360)(tmp_path))
    return opened(kind, getattr(trees, kind)(tmp_path))


def test_every_source_gives_sam2s_clips(source):
    """The same clip for the same position, SAM2's shapes, objects seen in the first frame, pictures
    under their masks.
    """
    frames = 1 if source.name in ("sa1b", "coco") else 3
    for position in range(2 * len(source)):
        clip, again = source.clip(position), source.clip(position)
        assert len(clip.frames) == frames and clip.size == (128, 128)
        for frame, twin in zip(clip.frames, again.frames, strict=True):
            assert frame.data.equal(twin.data) and frame.data.shape == (3, 128, 128)
            assert [o.object_id for o in frame.objects] == [
                o.object_id for o in clip.frames[0].objects
            ]
            assert all(
                a.segment.equal(b.segment) for a, b in zip(frame.objects, twin.objects, strict=True)
            )
        for masks in masks_of(clip).values():
            assert masks[0].any()
            assert all(
                is_bright(image_of(clip, t), mask) for t, mask in enumerate(masks) if mask.any()
            )
    epochs = [{source.key(e * len(source) + i) for i in range(len(source))} for e in range(2)]
    assert epochs[0] == epochs[1] and len(epochs[0]) == len(source)
    assert collate([source.clip(0)]).masks.shape[0] == frames
    assert len(source.sha256()) == 64


def test_positions_and_seeds_draw_apart(tmp_path: Path):
    folder = trees.sa1b(tmp_path, images=12)
    one, other = (
        opened("sa1b", folder),
        open_source("other", SourceSettings(kind="sa1b", weight=1, folder=folder), small_config()),
    )
    keys = [[s.key(p) for p in range(24)] for s in (one, other)]
    assert (
        keys[0] != keys[1]
        and keys[0][:12] != keys[0][12:]
        and sorted(keys[0][:12]) == sorted(keys[1][:12])
    )


def test_sa1b_masks_are_the_annotations_and_specks_are_left_out(tmp_path: Path):
    source = opened("sa1b", trees.sa1b(tmp_path), clip={"max_objects": 3})
    clip = source.clip(0)
    number = int(source.key(0).split("_")[-1].removesuffix(".jpg")) - 100
    masks = masks_of(clip)
    assert sorted(masks) == [0, 1]  # annotation 2 is one pixel
    assert all(
        np.array_equal(masks[i][0], square(trees.square_at(4 + 10 * i + number), 128))
        for i in masks
    )
    flipped = opened("sa1b", tmp_path, clip={"max_objects": 3, "flip": 1}).clip(0)
    assert np.array_equal(masks_of(flipped)[0][0], masks[0][0][:, ::-1])


@pytest.mark.parametrize("mp4", [True, False])
def test_sav_follows_annotated_frames_and_keeps_what_leaves(tmp_path: Path, mp4: bool):
    source = opened("sav", trees.sav(tmp_path, mp4=mp4), clip={"frames": 4})
    starts = set()
    for position in range(12):
        masks = masks_of(source.clip(position))
        if 0 not in masks:
            continue
        columns = [np.flatnonzero(m.any(axis=0))[0] * trees.WIDTH / 128 for m in masks[0]]
        assert np.allclose(
            np.diff(columns), 4, atol=1.3
        )  # one pixel a frame, every fourth frame annotated
        start = round((columns[0] - 2) / 4)
        starts.add(start)
        if 1 in masks:
            assert [m.any() for m in masks[1]] == [start + t < 2 for t in range(4)]
    assert starts == {0, 1, 2}


def test_palette_labels_keep_ids_and_void_is_nothing(tmp_path: Path):
    source = opened("vos", trees.davis(tmp_path))
    seen = set()
    for position in range(8):
        masks = masks_of(source.clip(position))
        seen |= set(masks)
        if 4 in masks:
            assert all(np.array_equal(m, square(trees.square_at(50, 30), 128)) for m in masks[4])
    assert seen == {1, 4}
    assert set(np.unique(read_labels(tmp_path / "Annotations/vid/00007.png"))) == {0, 1, 4, 255}


def seen_rays(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, ahead and up of each pixel of a whole panorama at size×size."""
    place = (np.arange(size) + 0.5) / size
    lon, lat = (place * 2 - 1) * np.pi, ((0.5 - place) * np.pi)[:, None]
    return np.sin(lon) * np.cos(lat), np.cos(lon) * np.cos(lat), np.sin(lat) + 0 * lon


def test_whole_panoramas_turn_and_lean_with_exact_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pixel of a leaning clip of PanoVOS against its ray, turn and lean written out."""
    turns: list[StillTurn] = []

    class Noted(StillTurn):
        def shown(self, *args: object) -> object:
            turns.append(self)
            return super().shown(*args)

    monkeypatch.setattr("panoforge.train.data.sources.vos.StillTurn", Noted)
    trees.panovos(tmp_path)
    lean = {"tilt_jitter_deg": 40.0, "frames": 3, "frames_are": "panorama"}
    source = opened("vos", tmp_path, clip=lean, panoramas=True)
    x, y, z = seen_rays(128)
    seen = set()
    for position in range(6):
        turns.clear()
        clip = source.clip(position)
        assert len(turns) == 3 and len({(t.yaw_deg, t.tilt_deg) for t in turns}) == 1
        assert 0 < turns[0].tilt_deg <= 40
        yaw, tilt, to = np.radians([turns[0].yaw_deg, turns[0].tilt_deg, turns[0].tilt_towards_deg])
        # Along the lean (towards `to`), across it, and up: a lean turns the first into the third.
        along, across = x * np.sin(to) + y * np.cos(to), x * np.cos(to) - y * np.sin(to)
        along, up = (
            along * np.cos(tilt) + z * np.sin(tilt),
            z * np.cos(tilt) - along * np.sin(tilt),
        )
        lon = np.arctan2(across, along) + to + yaw
        column = np.floor((lon / (2 * np.pi) + 0.5) * 96).astype(int) % 96
        row = np.floor((0.5 - np.arcsin(np.clip(up, -1, 1)) / np.pi) * 48).astype(int).clip(0, 47)
        found = [
            np.stack([labels[row, column] == o.object_id for o in clip.frames[0].objects])
            for labels in (read_labels(tmp_path / f"Annotations/vid/{t:05d}.png") for t in range(5))
        ]
        told = [np.stack([o.segment.numpy() for o in frame.objects]) for frame in clip.frames]
        starts = [
            s for s in range(3) if all(np.array_equal(told[t], found[s + t]) for t in range(3))
        ]
        assert starts, position
        seen |= {o.object_id for o in clip.frames[0].objects}
        for frame, masks in zip(range(3), told, strict=True):
            for mask in masks:  # the picture turns with its masks
                if mask.sum() > 60:
                    assert image_of(clip, frame)[..., 0][mask].mean() > 150
    assert seen == {1, 4, 9}


def test_upright_panoramas_are_moved_by_whole_columns(tmp_path: Path) -> None:
    trees.panovos(tmp_path)
    source = opened("vos", tmp_path, clip={"frames_are": "panorama", "frames": 1}, panoramas=True)
    labels = [read_labels(tmp_path / f"Annotations/vid/{t:05d}.png") for t in range(5)]
    shifts = set()
    for position in range(8):
        found = masks_of(source.clip(position))
        right = [
            shift
            for shift in range(96)
            for of_frame in labels
            if all(
                np.array_equal(mask, square(np.roll(of_frame == i, shift, axis=1), 128))
                for i, (mask,) in found.items()
            )
        ]
        assert right
        shifts.add(right[0])
    assert len(shifts) > 4


def test_a_share_of_a_panorama_is_that_of_the_sphere(tmp_path: Path) -> None:
    """Near the zenith 2 % of the pixels are 0.8 % of the sphere."""
    trees.panovos(tmp_path)
    labels = read_labels(tmp_path / "Annotations/vid/00000.png")
    assert (labels == 4).mean() > 0.035
    plane, sphere = (
        opened("vos", tmp_path, clip={"max_objects": 3}, min_area_share=0.025, panoramas=panoramas)
        for panoramas in (None, True)
    )
    shown = [{i for p in range(8) for i in masks_of(s.clip(p))} for s in (plane, sphere)]
    assert shown == [{1, 4, 9}, {1, 9}]


def test_a_picture_that_is_no_panorama_is_refused(tmp_path: Path) -> None:
    trees.davis(tmp_path)
    with pytest.raises(DataError, match=r"00\d+\.jpg is 80×60, and mixture\.vos\.panoramas says"):
        opened("vos", tmp_path, panoramas=True).clip(0)


def test_val_and_valid_are_one_split_and_sav_val_is_read(tmp_path: Path):
    trees.davis(tmp_path / "panovos/valid")
    assert opened("vos", tmp_path / "panovos", split="val").key(0) == "vid"
    for t in (0, 4, 8):  # SA-V val: frames at 24 a second, masks at 6, one folder per object
        for frame in range(t, t + 4):
            trees.write_image(
                tmp_path / f"sav_val/JPEGImages_24fps/v/{frame:05d}.jpg",
                trees.picture(trees.square_at(5)),
            )
        for object_ in range(2):
            path = tmp_path / f"sav_val/Annotations_6fps/v/{object_:03d}/{t:05d}.png"
            trees.write_labels(path, trees.square_at(5 + 20 * object_) * 255, palette=False)
    source = opened("vos", tmp_path / "sav_val")
    assert [p.stem for p, _ in source.videos[0].frames] == ["00000", "00004", "00008"]
    assert set(masks_of(source.clip(0))) <= {1, 2}


def test_coco_reads_polygons_and_both_rles_and_leaves_crowds_out(tmp_path: Path):
    source = opened("coco", trees.coco(tmp_path), clip={"max_objects": 9})
    clips = {source.key(p): masks_of(source.clip(p)) for p in range(2)}
    assert sorted(clips) == ["000000000000.jpg", "000000000001.jpg"]
    first, second = clips["000000000000.jpg"], clips["000000000001.jpg"]
    truth = [square(m, 128) for m in (trees.square_at(10), trees.square_at(40, 30))]
    assert len(first) == 1 and (first[0][0] ^ truth[0]).sum() < 0.1 * truth[0].sum()
    assert np.array_equal(second[0][0], truth[0]) and np.array_equal(second[1][0], truth[1])


def test_run_lengths_are_cocos():
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (7, 5), (40, 33), (120, 90)]:
        for chance in (0.0, 0.02, 0.5, 1.0):
            mask = rng.random(shape) < chance
            runs = run_counts(trees.rle(mask), *shape, "here")
            assert np.array_equal(fill_runs(runs, *shape), mask) and run_area(runs) == mask.sum()
    big = np.zeros((2000, 3000), bool)
    big[500:1500, 1000:2500] = True
    assert np.array_equal(
        fill_runs(run_counts(trees.rle(big), *big.shape, "here"), *big.shape), big
    )


@pytest.mark.parametrize(
    "counts",
    ["", "04", "zzzz", "~~~", "\u00e9", "o" * 40, "4" * 9, [5, -1, 12], [3, 3], [[16]], None, 7],
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts):
    """pycocotools decodes the second of these to whatever the memory held."""
    with pytest.raises(DataError, match="here: its RLE does not fill a mask of 4×4"):
        run_counts({"size": [4, 4], "counts": counts}, 4, 4, "here")
    assert coco_mask.area({"size": [4, 4], "counts": b"04"}) == 4


def test_short_videos_are_walked_there_and_back():
    assert walk(5, 3, 2, False) == [2, 3, 4] and walk(5, 3, 1, True) == [3, 2, 1]
    assert walk(3, 7, 0, False) == [0, 1, 2, 1, 0, 1, 2]
    assert walk(1, 3, 0, False) == [0, 0, 0] and walk(2, 4, 1, False) == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sa1b", r"is no SA-1B: expected sa_<id>\.jpg with sa_<id>\.json.*found stray\.txt"),
        (
            "sav",
            (
                r"is no SA-V training set: expected <id>_manual\.json beside <id>\.mp4.*found"
                r" stray\.txt"
            ),
        ),
        (
            "vos",
            r"holds no videos with masks: expected JPEGImages/<video>/\*\.jpg.*found stray\.txt",
        ),
        (
            "coco",
            r"is no COCO dataset: expected annotations/instances_<split>\.json, found stray\.txt",
        ),
    ],
)
def test_another_layout_is_refused_with_what_was_found(tmp_path: Path, kind: str, message: str):
    (tmp_path / "stray.txt").touch()
    with pytest.raises(DataError, match=message):
        opened(kind, tmp_path)
    with pytest.raises(UsageError, match=r"mixture\.\w+: .*nowhere is no folder: expected where"):
        opened(kind, tmp_path / "nowhere")


def test_missing_halves_are_refused_at_once(tmp_path: Path):
    trees.sa1b(tmp_path / "sa1b")
    (tmp_path / "sa1b/sa_000001/sa_103.json").unlink()
    with pytest.raises(
        DataError, match=r"sa_103\.jpg has no sa_103\.json beside it \(1 such image\)"
    ):
        opened("sa1b", tmp_path / "sa1b")
    trees.sav(tmp_path / "sav", mp4=True)
    (tmp_path / "sav/sav_000/sav_000001.mp4").unlink()
    with pytest.raises(DataError, match=r"has neither sav_000001\.mp4 nor a folder"):
        opened("sav", tmp_path / "sav")
    with pytest.raises(DataError, match=r"expected <id>_auto\.json"):
        opened("sav", tmp_path / "sav", annotations="auto")
    trees.davis(tmp_path / "vos/test", frames=1)
    with pytest.raises(DataError, match=r"1 video with a mask for one frame only \(first: vid\)"):
        opened("vos", tmp_path / "vos", split="test")
    with pytest.raises(DataError, match="has no split train: found test"):
        opened("vos", tmp_path / "vos", split="train")


def test_damage_is_named(tmp_path: Path):
    """Each file in turn: cut, swapped for another kind, or contradicting its neighbour."""
    source = opened("sa1b", trees.sa1b(tmp_path / "a", images=1))
    image, notes = (tmp_path / f"a/sa_000000/sa_100.{s}" for s in ("jpg", "json"))
    whole = image.read_bytes(), notes.read_text()
    for path, content, message in [
        (image, b"", r"cannot be decoded \(no picture\)"),
        (image, whole[0][:300], "header cannot be read|cannot be decoded"),
        (notes, b"{", "is not JSON"),
        (notes, b"[]", 'expected {"image"'),
        (
            notes,
            whole[1].replace('"size": [60', '"size": [61').encode(),
            r"annotation 0: its mask is \[61, 80\], its image",
        ),
        (notes, json.dumps({"annotations": []}).encode(), "no mask covers min_area_share"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            source.clip(0)
        assert "sa_100" in str(caught.value)
        image.write_bytes(whole[0])
        notes.write_text(whole[1])
    assert source.clip(0).size == (128, 128)


def test_cut_videos_and_foreign_masks_are_named(tmp_path: Path):
    short = trees.sav(tmp_path / "short", mp4=True, annotated=3)
    notes = short / "sav_000/sav_000001_manual.json"
    content = json.loads(notes.read_text())
    notes.write_text(json.dumps({**content, "masklet": content["masklet"] * 3}))
    source = opened("sav", short, clip={"frames": 9})  # the whole video, whatever the position
    with pytest.raises(DataError, match="ends after 9 frames, its annotations go on to frame 32"):
        source.clip(0)
    notes.write_text(json.dumps({**content, "masklet": [[None, None]] * 3}))
    with pytest.raises(DataError, match="no frame has all its objects annotated"):
        opened("sav", short).clip(0)
    vos = trees.davis(tmp_path / "vos", frames=3)
    trees.write_image(vos / "Annotations/vid/00008.png", trees.picture(trees.square_at(3)))
    with pytest.raises(
        DataError, match=r"00008\.png: expected a palette or grey PNG.*found one of colours"
    ):
        opened("vos", vos).clip(0)


def test_file_names_do_not_lead_out(tmp_path: Path):
    trees.coco(tmp_path)
    notes = tmp_path / "annotations/instances_train2017.json"
    notes.write_text(notes.read_text().replace("000000000000.jpg", "../../secret.jpg"))
    with pytest.raises(DataError, match="leads out of"):
        opened("coco", tmp_path)


def test_huge_pictures_are_not_decoded(tmp_path: Path):
    source = opened("sa1b", trees.sa1b(tmp_path, images=1))
    small = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()  # whole, so no cut one
    claimed = small[:16] + (100_000).to_bytes(4, "big") * 2 + small[24:]
    (tmp_path / "sa_000000/sa_100.jpg").write_bytes(claimed)
    with pytest.raises(DataError, match="claims 100000×100000 pixels"):
        source.clip(0)


def test_what_a_coco_file_leaves_out_is_said(tmp_path: Path) -> None:
    """Case 15: an object with a box only stops nothing, and is in the record of the run."""
    folder = trees.coco(tmp_path)
    (notes,) = (folder / "annotations").glob("*.json")
    content = json.loads(notes.read_text())
    image = content["annotations"][0]["image_id"]
    content["annotations"].append({"id": 900, "image_id": image, "bbox": [0, 0, 5, 5]})
    notes.write_text(json.dumps(content))
    source = opened("coco", folder)
    for position in range(len(source)):
        source.clip(position)
    assert "1 × object with a box and no mask (first: annotation 900)" in str(source.left_out)
    mixture = Mixture([source], [1], 1)
    assert mixture.left_out() == [f"coco: left out {source.left_out}"]
    assert mixture.record()[0]["left_out"] == str(source.left_out)


def test_what_the_other_sources_leave_out_is_said_too(tmp_path: Path) -> None:
    """What has no counterpart, and what no reader knows by its name: counted, with the first."""
    sa1b = trees.sa1b(tmp_path / "sa1b")
    (sa1b / "sa_000001/sa_103.jpg").unlink()
    (sa1b / "sa_000000/sa_100.jpeg").write_bytes(b"x")
    (sa1b / "sa_000000/.DS_Store").write_bytes(b"x")
    source = opened("sa1b", sa1b)
    assert len(source) == 3
    assert str(source.left_out) == (
        "1 × file whose name is not SA-1B's (first: sa_000000/sa_100.jpeg);"
        " 1 × annotations without a picture (first: sa_000001/sa_103.json)"
    )
    sav = trees.sav(tmp_path / "sav", mp4=True)
    (sav / "sav_000/sav_000009.mp4").write_bytes(b"x")
    assert str(opened("sav", sav).left_out) == (
        "1 × video without its _manual.json (first: sav_000/sav_000009.mp4)"
    )
    vos = trees.davis(tmp_path / "vos")
    trees.davis(tmp_path / "two")
    (tmp_path / "two/JPEGImages/vid").rename(vos / "JPEGImages/bare")
    (tmp_path / "two/Annotations/vid").rename(vos / "Annotations/blind")
    (vos / "JPEGImages/vid/00007.jpg").unlink()
    (vos / "JPEGImages/vid/cover.png").write_bytes(b"x")
    (vos / "Annotations/vid/notes.txt").write_bytes(b"x")
    source = opened("vos", vos)
    assert len(source) == 1 and len(source.videos[0].frames) == 4
    assert str(source.left_out) == (
        "1 × video without a folder of masks (first: bare);"
        " 1 × folder of masks without a video (first: blind);"
        " 1 × file whose name is no mask's (first: vid/notes.txt);"
        " 1 × picture whose name is no frame's number (first: vid/cover.png);"
        " 1 × mask without its picture (first: vid/00007.png)"
    )
    vos360 = trees.vos360(tmp_path / "vos360")
    (vos360 / "0002/mask").rename(vos360 / "0002/masks")
    assert str(opened("vos", vos360).left_out) == (
        "1 × folder without image/ and mask/ (first: 0002)"
    )


def test_frames_are_read_whatever_their_suffix(tmp_path: Path) -> None:
    """A video of .jpeg frames was no video at all."""
    vos = trees.davis(tmp_path)
    for path in (vos / "JPEGImages/vid").iterdir():
        path.rename(path.with_suffix(".JPEG" if path.stem.endswith("8") else ".jpeg"))
    source = opened("vos", vos)
    assert len(source.videos[0].frames) == 5 and not source.left_out
    assert source.clip(0).size == (128, 128)


def test_a_playlist_in_a_videos_place_opens_no_other_file(tmp_path: Path) -> None:
    """FFmpeg follows what such a script names: other files, and addresses."""
    sav = trees.sav(tmp_path / "sav", mp4=True)
    video = sav / "sav_000/sav_000001.mp4"
    secret = video.rename(tmp_path / "secret.mp4")
    for text in (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:1,\n{secret}\n"):
        video.write_text(text)
        with pytest.raises(DataError, match=r"sav_000001\.mp4 cannot be opened as a video"):
            opened("sav", sav).clip(0)
