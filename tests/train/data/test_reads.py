"""Which settings each source reads: the table against what each source does, key by key."""

from pathlib import Path

import numpy as np
import pytest
import source_trees as trees
import videos
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.mixture import open_own
from panoforge.train.data.sources import Source, open_source
from panoforge.train.settings.clips import ClipSettings, PromptSettings, SourceSettings
from panoforge.train.settings.reads import HOLDS, READ_BY_KINDS, READS, SHOWN, UNDONE, row_of

ROWS = tuple(READS)
KIND = {"views": "shards", "panorama": "shards", "patches": "shards", "panoramas": "vos"}
PLAIN = {
    **{"frames": 3, "flip": 0.0, "colour_jitter": 0.0, "grayscale": 0.0},
    **{"max_objects": 1, "min_area_sr": 0.01},
}
# Another value of each key of `clip`, far enough from PLAIN to be seen in a few clips.
OTHER: dict[str, object] = {
    "frames": 2,
    "turn_deg": 40.0,
    "fov_deg": 60.0,
    "overlap": 0.2,
    "trajectory": "random",
    "fov_jitter_deg": 20.0,
    "tilt_jitter_deg": 40.0,
    "affine_deg": 30.0,
    "shear_deg": 20.0,
    "reverse": 1.0,
    "flip": 1.0,
    "colour_jitter": 1.0,
    "grayscale": 1.0,
    "max_objects": 2,
    "min_area_sr": 0.4,
    "area_power": 4.0,
    "clips_per_panorama": 3,
}
NOT_WALKED = {"frames_are"}  # it chooses the row


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trees of the other datasets, of things of unlike sizes."""
    root, square_at = tmp_path_factory.mktemp("sources"), trees.square_at

    def smaller(left: int, top: int = 10, side: int = 24) -> np.ndarray:
        return square_at(left, top, 10 if top == 30 or 14 <= left < 20 else side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "square_at", smaller)
        return {
            "sa1b": trees.sa1b(root / "sa1b"),
            "coco": trees.coco(root / "coco"),
            "sav": trees.sav(root / "sav", mp4=False),
            "vos": trees.davis(root / "vos"),
            "panoramas": trees.panovos(root / "panoramas"),
        }


@pytest.fixture(scope="module")
def own_videos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("videos")
    return Dataset.open(videos.dataset_of_videos(folder, scenes=4, frames=6), "train")


def opened(
    row: str, folders: dict[str, Path], dataset: Dataset, prompt: dict | None = None, **clip: object
) -> Source:
    """The source of a row; its settings are not looked at by the config."""
    frames_are = row if row in ("views", "panorama", "patches") else "views"
    settings = ClipSettings(**PLAIN, frames_are=frames_are).model_copy(update=clip)
    config = small_config().model_copy(
        update={"clip": settings, "prompt": PromptSettings(**(prompt or {}))}
    )
    kind = KIND.get(row, row)
    entry = SourceSettings(
        kind=kind,
        weight=1,
        folder=folders.get(row),
        panoramas=True if row == "panoramas" else None,
    )
    return open_own("it", entry, config, dataset) or open_source("it", entry, config)


def told(source: Source) -> list[object]:
    """All that a trainer gets of a source's first clips."""
    said: list[object] = [len(source)]
    for position in range(4):
        for frame in source.clip(position).frames:
            said.append(frame.data.numpy().tobytes())
            for o in frame.objects:
                click = getattr(o, "click", None)
                said.append((o.object_id, np.packbits(o.segment.numpy()).tobytes(), click))
    return said


@pytest.mark.parametrize("row", ROWS)
def test_each_key_changes_the_clips_of_the_sources_that_read_it(
    row: str, folders: dict[str, Path], caps: Dataset, own_videos: Dataset
) -> None:
    """Each key of `clip`, one at a time: what is shown changes where the table says so alone."""
    dataset = own_videos if row in ("video", "scan_of_video") else caps
    before = told(opened(row, folders, dataset))
    found = {
        f"clip.{key}"
        for key, value in OTHER.items()
        if told(opened(row, folders, dataset, **{key: value})) != before
    }
    if row == "patches":  # they move where its loop begins, which is drawn over the scan's views
        found -= {"clip.fov_deg", "clip.overlap"}
    assert found == {k for k in READS[row] if k.startswith("clip.")} - {"clip.frames_are"}


@pytest.mark.parametrize("row", ROWS)
def test_sphere_clicks_are_drawn_where_the_table_says(
    row: str, folders: dict[str, Path], caps: Dataset, own_videos: Dataset
) -> None:
    dataset = own_videos if row in ("video", "scan_of_video") else caps
    plain, clicked = (
        told(opened(row, folders, dataset, {"sphere_click": share})) for share in (0.0, 1.0)
    )
    assert (plain != clicked) == ("prompt.sphere_click" in READS[row])


def test_every_key_and_kind_is_in_the_table() -> None:
    assert set(OTHER) | NOT_WALKED == set(ClipSettings.model_fields)
    known = {f"clip.{key}" for key in ClipSettings.model_fields}
    known |= {f"prompt.{key}" for key in PromptSettings.model_fields}
    assert set().union(*READS.values()) == known
    kinds = SourceSettings.model_fields["kind"].annotation.__args__
    rows = {
        row_of(k, f, p)
        for k in kinds
        for f in ("views", "panorama", "patches")
        for p in (None, True)
    }
    assert rows == set(READS) == set(SHOWN) and UNDONE.keys() | HOLDS.keys() <= rows
    assert not any(READS[row] & keys for row, keys in UNDONE.items())
    keys = set(SourceSettings.model_fields) - {"kind", "weight", "folder"}
    assert keys == set(READ_BY_KINDS)


def mixed(*rows: str, **clip: object) -> TrainConfig:
    """A run that mixes the sources of these rows."""
    entries = {}
    for row in rows:
        kind = KIND.get(row, row)
        entry = {"kind": kind, "weight": 1}
        if kind in ("sa1b", "coco", "sav", "vos"):
            entry["folder"] = "somewhere"
        if kind == "vos":
            entry["panoramas"] = row == "panoramas"
        entries[f"a_{row}"] = entry
    shows = [row for row in rows if row in ("views", "panorama", "patches")]
    shows += ["panorama"] if "video" in rows else []
    frames_are = {"frames_are": shows[0]} if shows and shows[0] != "views" else {}
    settings = {"clip": {**frames_are, **clip}, "mixture": entries, "prompt": {"corrections": 1}}
    return TrainConfig.model_validate(settings)


@pytest.mark.parametrize("row", [row for row in ROWS if row != "scan_of_video"])
def test_what_a_source_alone_does_not_read_is_refused_in_a_line(row: str) -> None:
    for key, value in OTHER.items():
        if key == "frames" and row == "looks":
            continue  # two frames are what it shows
        if f"clip.{key}" in READS[row] or HOLDS.get(row, {}).get(f"clip.{key}") == value:
            if row != "looks":
                mixed(row, **{key: value})
            continue
        with pytest.raises(ValidationError) as caught:
            mixed(row, **{key: value})
        (error,) = caught.value.errors()
        told_of = (
            rf"clip.{key} is {value}, and mixture.a_{row} (kind {KIND.get(row, row)}) does not"
        )
        assert told_of in error["msg"] and f"Leave clip.{key} out" in error["msg"], error["msg"]
        assert "\n" not in error["msg"]


@pytest.mark.parametrize(
    ("rows", "clip", "said"),
    [
        (("views", "looks"), {"tilt_jitter_deg": 9.0}, "a_looks (kind looks) does not read it: it"),
        (("panorama", "sa1b"), {"affine_deg": 9.0}, "a_panorama (kind shards) does not read it"),
        (("video", "panoramas"), {"shear_deg": 9.0}, "a_video (kind video) does not read it"),
        (
            ("panoramas",),
            {"frames_are": "patches"},
            "frames_are is patches, and mixture.a_pan",
        ),
        (("sav", "coco"), {"fov_deg": 70.0}, "a_sav (kind sav), mixture.a_coco (kind coco) does"),
    ],
)
def test_what_one_source_would_show_otherwise_is_refused(
    rows: tuple[str, ...], clip: dict, said: str
) -> None:
    with pytest.raises(ValidationError, match=r"Leave clip\.") as caught:
        mixed(*rows, **clip)
    assert said in caught.value.errors()[0]["msg"]


def test_what_one_source_reads_and_another_cannot_is_no_mistake() -> None:
    """SAP mixes scans with pictures, which have no field of view to be told of."""
    mixed("views", "sa1b", "sav", fov_deg=70.0, tilt_jitter_deg=9.0, affine_deg=9.0, frames=4)
    mixed("views", "looks", trajectory="spiral", reverse=0.5)
    mixed("video", "panoramas", tilt_jitter_deg=20.0)
    mixed("sa1b", "coco", frames=1)


def test_a_video_source_says_whether_it_leans() -> None:
    entry = {"kind": "vos", "weight": 1, "folder": "somewhere"}
    clip = {"frames_are": "panorama", "tilt_jitter_deg": 9.0}
    mixture = {"own": {"kind": "video", "weight": 1}, "real": entry}
    with pytest.raises(ValidationError, match=r"does not say .* set mixture\.real\.panoramas to"):
        TrainConfig.model_validate({"clip": clip, "mixture": mixture})
    for says in (True, False):
        mixture["real"] = {**entry, "panoramas": says}
        TrainConfig.model_validate({"clip": clip, "mixture": mixture})


def test_runs_begun_before_the_key_go_on() -> None:
    entry = {"kind": "vos", "weight": 1, "folder": "somewhere"}
    numbers = TrainConfig.model_validate({"mixture": {"real": entry}}).numbers()
    assert "panoramas" not in numbers["mixture"]["real"]
    said = TrainConfig.model_validate({"mixture": {"real": {**entry, "panoramas": True}}})
    assert said.numbers()["mixture"]["real"]["panoramas"] is True
