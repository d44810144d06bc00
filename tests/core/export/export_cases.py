"""Datasets and truths that the tests of exports share."""

from pathlib import Path

import numpy as np

from panoforge.core.export import ExportOptions
from panoforge.core.export.frames import Frame, panorama_frame, scan_frames
from panoforge.core.geometry.scan import ScanSpec
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import pack
from panoforge.core.storage.staged import write_staged

SCAN = ScanSpec(size_px=64)
SMALL_SCAN = ExportOptions(perspective=SCAN)


def busy_dataset(
    folder: Path, count: int, structure: frozenset[int] | set[int] = frozenset()
) -> Dataset:
    """One panorama of 96×48 in `count` upright stripes and blocks of falling size; ids in
    `structure` are walls.
    """
    order = np.repeat(
        np.arange(1, count + 1),
        np.maximum(1, 3 * (48 * 96 // count - np.arange(count) * 48 * 96 // count**2) // 2),
    )
    labels = np.resize(order, 96 * 48).reshape(96, 48).T.astype(np.uint16)
    names = {i: "wall" if i in structure else "a" for i in range(1, count + 1)}
    return labelled_dataset(folder, labels, names, structure)


def labelled_dataset(
    folder: Path,
    labels: np.ndarray,
    categories: dict[int, str],
    structure: frozenset[int] | set[int] = frozenset(),
) -> Dataset:
    """A dataset of one black panorama with these labels, uint16 H×W, and categories by id."""
    height, width = labels.shape
    names = {
        id_: InstanceLabel(f"n{id_}", category, "o", ("structure",) * (id_ in structure))
        for id_, category in categories.items()
    }
    meta = SampleMeta(
        key="busy",
        width=width,
        height=height,
        source="test",
        scene="busy",
        seed=0,
        camera=0,
        products=("instance.zst", "rgb.png"),
        pose=Pose(
            position_m=(0.0, 0.0, 1.0),
            yaw_deg=0.0,
            world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ),
        instances=instance_table(labels, names),
        config_sha256="0" * 64,
        versions={},
    )
    rgb = np.zeros((height, width, 3), np.uint8)
    write_staged(folder / "staged", meta, {"instance.zst": labels, "rgb.png": rgb})
    pack(folder / "staged", folder / "dataset")
    return Dataset.open(folder / "dataset")


def clip_of(dataset: Dataset, key: str) -> list[Frame]:
    return scan_frames(dataset.by_key(key), SCAN)


def pictures_of(dataset: Dataset, options: ExportOptions) -> dict[str, Frame]:
    """All frames of an image export, by name."""
    samples = [dataset[i] for i in range(len(dataset))]
    return {
        frame.name: frame
        for sample in samples
        for frame in (
            scan_frames(sample, options.perspective)
            if options.perspective
            else [panorama_frame(sample)]
        )
    }
