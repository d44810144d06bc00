"""A batch with some of its objects at a time, where all at once take too much memory."""

from collections.abc import Iterator
from typing import Any


def object_groups(batch: Any, size: int) -> Iterator[Any]:
    """The batch with `size` of its objects at a time; the whole batch for 0."""
    total = batch.masks.shape[1]
    if not size or size >= total:
        yield batch
        return
    for start in range(0, total, size):
        part = slice(start, start + size)
        metadata = batch.metadata.apply(
            lambda tensor, part=part: tensor[:, part]
        )  # each of its tensors is T×O×…
        yield type(batch)(
            img_batch=batch.img_batch,
            obj_to_frame_idx=batch.obj_to_frame_idx[:, part],
            masks=batch.masks[:, part],
            metadata=metadata,
            dict_key=batch.dict_key,
            batch_size=batch.batch_size,
        )
