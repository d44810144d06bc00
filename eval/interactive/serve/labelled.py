"""What `pano annotate` has written, as the page opens it.

Its videos and pictures begin with the labels that were found, to be looked at, under the ids that
they were written with. `revise.json` says what a person should look at, the worst first; what comes
of an entry is written into the journal of its picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.names import scene_of_file
from panoforge.core.numbers import counted
from panoforge.core.run_layout import DATASET
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.sample.revisions import MAX_BYTES, REVISE_FILE, Revision, decode_revisions
from panoforge.core.sample.video import InstanceTrack
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.core.types import Labels
from panoforge.eval.interactive.dataset_frames import DatasetFrames
from panoforge.eval.interactive.serve.document import Delta
from panoforge.eval.interactive.serve.objects import FrameLook, PageObject, colour_of
from panoforge.eval.interactive.serve.packed import PackedMask

ORIGIN = "pano annotate"


@dataclass(frozen=True)
class LabelledItem:
    """A picture or video of the dataset, named by its own key.

    `keys` are those of its samples. `entries` are what is to be looked at on it, by their digests.
    """

    dataset: Dataset
    key: str
    keys: tuple[str, ...]
    is_video: bool
    entries: Mapping[str, Revision]

    def frames(self) -> DatasetFrames:
        """Its frames; a picture has one."""
        fps = self.dataset.video(self.key).meta.fps if self.is_video else 0.0
        return DatasetFrames(self.dataset, self.keys, fps)

    def first_change(self) -> Delta:
        """All labels that were found, as one change; of a video that takes a while."""
        frames = self.frames()
        objects = {
            one.id: PageObject(
                id=one.id,
                name=one.name[:120],
                category=one.category[:120],
                colour=colour_of(one.id),
                review="proposed",
                origin=ORIGIN,
            )
            for one in self._names()
        }
        looks: list[FrameLook] = []
        masks: dict[str, PackedMask] = {}
        for number, key in enumerate(self.keys):
            for id_, packed in _packed(frames.labels(number)):
                if id_ not in objects:
                    raise DataError(f"{key}: nothing is said about its instance {id_}")
                masks[packed.digest] = packed
                if self.is_video:
                    looks.append(FrameLook(object=id_, frame=number, mask=packed.digest))
                else:
                    objects[id_] = objects[id_].model_copy(update={"mask": packed.digest})
        what = f"labels of {ORIGIN}"
        return Delta(what, (*objects.values(),), looks=(*looks,), masks=(*masks.values(),))

    def _names(self) -> Sequence[InstanceMeta | InstanceTrack]:
        if self.is_video:
            return self.dataset.video(self.key).meta.instances
        return self.dataset.by_key(self.key, ()).meta.instances


@dataclass(frozen=True)
class LabelledPlace:
    """The folder that `pano annotate` writes: its items in the order of their keys.

    `left_out` says what of `revise.json` is of none of them.
    """

    items: tuple[LabelledItem, ...]
    left_out: str = ""

    @staticmethod
    def is_one(place: Path) -> bool:
        """Whether a folder is one."""
        return (place / REVISE_FILE).is_file() and (place / DATASET / MANIFEST_NAME).is_file()

    @classmethod
    def open(cls, place: Path) -> "LabelledPlace":
        """Open the dataset and the list.

        Raises:
            DataError: one of them is damaged.
        """
        dataset = Dataset.open(place / DATASET)
        listed = decode_revisions(read_bytes(place / REVISE_FILE, MAX_BYTES)).entries
        of: dict[str, dict[str, Revision]] = {}
        for entry in listed:
            of.setdefault(scene_of_file(entry.item), {})[entry.digest] = entry
        videos = [dataset.video(key) for key in dataset.videos["video"].to_pylist()]
        inside = {key for one in videos for key in one.frame_keys}
        samples: dict[str, tuple[str, ...]] = {
            key: (key,) for key in dataset.keys if key not in inside
        }
        samples |= {one.key: one.frame_keys for one in videos}
        items = []
        for key, keys in sorted(samples.items()):
            own = of.get(key.rpartition("-")[0], {})  # a key is its scene's, and -c0 or -v0
            entries = {digest: one for digest, one in own.items() if one.frame < len(keys)}
            items.append(LabelledItem(dataset, key, keys, keys != (key,), entries))
        lost = len({one.digest for one in listed}) - sum(len(one.entries) for one in items)
        words = f"{counted(lost, 'entry', 'entries')} of {REVISE_FILE} of other files or frames"
        return cls((*items,), words if lost else "")


def _packed(labels: Labels) -> Iterator[tuple[int, PackedMask]]:
    """The masks of an id map by id."""
    for id_ in np.flatnonzero(np.bincount(labels.ravel())).tolist():
        if id_:
            yield id_, PackedMask.of(labels == id_)
