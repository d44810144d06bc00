"""Which settings each training source reads; a setting that nothing reads is refused.

`READS` is the one table, by what a source shows. Whether it is right is tested by changing each key
for each source and looking whether its clips change (tests/train/data/test_reads.py). A key that is
not in a source's row is one of two kinds:

- it cannot mean anything there (the overlap of a scan's views to a photo): refused where no source
  of the run reads it;
- it could (`UNDONE`: a lean of a closer look), and the source would be shown otherwise than the
  run says: refused wherever that source is mixed in.

A value that is true of a source whatever is set (`HOLDS`: one frame of a photo) is no mistake.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

SPLITS = ("vos", "coco")
PICTURES = ("sa1b", "sav", "vos", "coco")
# Keys of an entry of `mixture`, by the kinds that read them.
READ_BY_KINDS: dict[str, tuple[str, ...]] = {
    "split": SPLITS,
    "annotations": ("sav",),
    "frame_step": ("vos", "video", "scan_of_video"),
    "min_area_share": PICTURES,
    "panoramas": ("vos",),
}

_ALL = frozenset({"clip.flip", "clip.colour_jitter", "clip.grayscale", "clip.area_power"})
_PROMPTS = frozenset(
    f"prompt.{key}"
    for key in (
        "points",
        "box",
        "max_prompted_frames",
        "max_corrected_frames",
        "corrections",
        "from_truth",
    )
)
_TRACKED = _ALL | _PROMPTS | {"clip.max_objects"}
_IN_TIME = frozenset({"clip.frames", "clip.reverse"})
_OWN = frozenset({"clip.min_area_sr", "clip.clips_per_panorama"})
_VIEWS = frozenset({"clip.fov_deg", "clip.overlap", "clip.fov_jitter_deg"})
_PLANE = frozenset({"clip.affine_deg", "clip.shear_deg"})
_LEAN = frozenset({"clip.tilt_jitter_deg"})
_SHARDS = _TRACKED | _IN_TIME | _OWN | {"clip.frames_are", "prompt.sphere_click"}
_SCAN = _VIEWS | _PLANE | _LEAN | {"clip.trajectory"}

READS: dict[str, frozenset[str]] = {
    "views": _SHARDS | _SCAN,
    "panorama": _SHARDS | _LEAN | {"clip.turn_deg"},
    "patches": _SHARDS,
    "looks": _ALL | _OWN | _VIEWS,
    "video": _TRACKED | _IN_TIME | _OWN | _LEAN | {"clip.frames_are"},
    "scan_of_video": _TRACKED | _IN_TIME | _OWN | _SCAN | {"clip.frames_are"},
    "sa1b": _TRACKED | _PLANE,
    "coco": _TRACKED | _PLANE,
    "sav": _TRACKED | _IN_TIME | _PLANE,
    "vos": _TRACKED | _IN_TIME | _PLANE,
    "panoramas": _TRACKED | _IN_TIME | _LEAN,  # vos, whose frames are whole panoramas
}
UNDONE: dict[str, frozenset[str]] = {
    "panorama": _PLANE,
    "patches": _PLANE | _LEAN,
    "looks": _PLANE | _LEAN,
    "video": _PLANE,
    "panoramas": _PLANE,
}
HOLDS: dict[str, dict[str, object]] = {
    "looks": {"clip.frames": 2, "clip.max_objects": 1},
    "video": {"clip.turn_deg": 0.0},
    "sa1b": {"clip.frames": 1},
    "coco": {"clip.frames": 1},
    "panoramas": {"clip.frames_are": "panorama", "clip.turn_deg": 0.0},
}
SHOWN: dict[str, str] = {
    "views": "shows views of a scan, which turn from view to view by its overlap",
    "panorama": "shows the whole sphere, which is turned and leant, never warped in its plane",
    "patches": "shows windows of the panorama as it is",
    "looks": "shows one object twice: in a plain view of the scan, and closer",
    "video": "shows whole panoramas of a video, turned to one yaw",
    "scan_of_video": "shows views of a scan over a video's frames",
    "sa1b": "shows perspective pictures, one frame each",
    "coco": "shows perspective pictures, one frame each",
    "sav": "shows perspective videos",
    "vos": "shows its frames as they are",
    "panoramas": "shows whole panoramas of a video, turned to one yaw",
}


class MixedSource(NamedTuple):
    """One source of a run: its name in `mixture`, its kind, and its row of `READS`."""

    name: str
    kind: str
    row: str

    def __str__(self) -> str:
        return f"mixture.{self.name} (kind {self.kind})" if self.name else "the run's dataset"


def row_of(kind: str, frames_are: str, panoramas: bool | None) -> str:
    """A source's row of `READS`."""
    if kind == "shards":
        return frames_are
    return "panoramas" if kind == "vos" and panoramas else kind


def readers_of(key: str) -> str:
    """Where a key is read, in words for an error."""
    kinds = {
        row if row not in ("views", "panorama", "patches") else f"shards with frames_are: {row}"
        for row, keys in READS.items()
        if key in keys
    }
    named = {"panoramas": "vos with panoramas: true"}
    return ", ".join(sorted(named.get(kind, kind) for kind in kinds))


def unread(said: Mapping[str, object], sources: Iterable[MixedSource]) -> str | None:
    """What is wrong with the keys that a run sets, in one line; None where all are read.

    Args:
        said: the keys of `clip` and `prompt` that differ from their defaults, dotted.
        sources: of the run; none are the run's panoramas alone.
    """
    shown = list(sources)
    for key, value in said.items():
        for source in shown:
            if key in UNDONE.get(source.row, ()):
                return (
                    f"{key} is {value}, and {source} does not read it: it {SHOWN[source.row]}."
                    f" Leave {key} out, or that entry ({readers_of(key)} read it)"
                )
        if any(key in READS[s.row] or HOLDS.get(s.row, {}).get(key) == value for s in shown):
            continue
        who = ", ".join(str(source) for source in shown)
        return (
            f"{key} is {value}, and {who} does not read it: it {SHOWN[shown[0].row]}. Leave {key}"
            f" out, or add a source that reads it ({readers_of(key)})"
        )
    return None
