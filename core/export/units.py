"""What an export writes at a time: one sample, or all frames of a video.

Formats of pictures take sample by sample, frames of videos too. Formats of videos take a video of
the dataset whole, and a panorama that is none as the scan of itself.
"""

from dataclasses import dataclass

from panoforge.core.names import frame_of
from panoforge.core.shards.read import Dataset


@dataclass(frozen=True)
class Unit:
    """What belongs together in an export.

    Attributes:
        key: the sample's, or the video's.
        first: the place of its first sample in the dataset.
        samples: how many there are, one after the other.
        split: theirs.
        fps: frames a second of a video; None for one panorama.
    """

    key: str
    first: int
    samples: int
    split: str
    fps: float | None = None


def units_of(dataset: Dataset, *, videos: bool) -> list[Unit]:
    """All units of a dataset, in its order; with `videos` its videos are whole."""
    keys, splits = dataset.keys, dataset.samples["split"].to_pylist()
    if not videos:
        return [Unit(key, place, 1, splits[place]) for place, key in enumerate(keys)]
    table = dataset.videos
    lengths = dict(zip(table["video"].to_pylist(), table["frames"].to_pylist(), strict=True))
    rates = dict(zip(table["video"].to_pylist(), table["fps"].to_pylist(), strict=True))
    found, place = [], 0
    while place < len(keys):
        frame = frame_of(keys[place])
        if frame is None or frame[0] not in lengths:
            found.append(Unit(keys[place], place, 1, splits[place]))
        else:
            video = frame[0]
            found.append(Unit(video, place, lengths[video], splits[place], rates[video]))
        place += found[-1].samples
    return found
