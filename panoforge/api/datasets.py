"""Datasets: open one."""

from panoforge.core.shards.read import Dataset
from panoforge.core.storage.store import StoreLike


def open_dataset(location: StoreLike, split: str | None = None) -> Dataset:
    """Open a published dataset, or one split of it.

    Args:
        location: A folder, or a URL such as `s3://bucket/dataset`.
        split: `train`, `val`, …; all samples without.

    Returns:
        The dataset. Its manifest and index are checked; samples are read when asked for.

    Raises:
        StorageError: No dataset is there.
        DataError: Its manifest or index is damaged.
        UsageError: It has no such split; the message names those it has.

    Example:
        >>> import panoforge
        >>> dataset = panoforge.open_dataset("runs/demo/dataset")
        >>> len(dataset)
        8
        >>> dataset[0].read("rgb").shape
        (128, 256, 3)
    """
    return Dataset.open(location, split)
