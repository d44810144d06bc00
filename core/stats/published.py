"""What other datasets publish of theirs, beside this one."""

from panoforge.core.numbers import counted
from panoforge.core.report.page import (
    Table,
)
from panoforge.core.stats.model import DatasetStats

# What others publish of theirs, with where it is written.
PUBLISHED: tuple[tuple[str, str, str, str, str, str, str], ...] = (
    (
        "SAP",
        "183,440 panoramas",
        "6.4 M masks",
        "4096×2048",
        "instances",
        "Infinigen, rendered",
        "arXiv 2603.12759, abstract; masks: AIWalker's summary of it",
    ),
    (
        "Leader360V",
        "over 10,000 videos",
        "–",
        "–",
        "198 categories",
        "real, labelled by models and people",
        "Leader360V's paper and class list",
    ),
    (
        "PanoVOS",
        "150 videos, about 14 K frames",
        "over 19 K masks",
        "–",
        "35 categories",
        "real",
        "arXiv 2604.07901 (PanoSAM2), §4.1",
    ),
    (
        "360VOTS (segmentation)",
        "290 sequences, about 242 K frames",
        "one target each",
        "3840×1920",
        "62 categories",
        "real",
        "arXiv 2604.07901 (PanoSAM2), §4.1; resolution: toolkit",
    ),
    ("PAVS10K", "67 videos, 10,465 frames", "–", "4K", "salient objects", "real", "its README"),
)


def published_table(stats: DatasetStats) -> Table:
    """This dataset's numbers above those that others publish."""
    index = stats.index
    ours = [
        "this dataset",
        counted(index.panoramas, "panorama"),
        counted(index.instances, "mask"),
        ", ".join(index.image_sizes),
        counted(len(index.categories), "category", "categories"),
        ", ".join(index.sources),
        "this page",
    ]
    return Table(
        ["dataset", "size", "masks", "resolution", "labels", "made from", "source"],
        [ours, *PUBLISHED],
        strong=[0],
    )
