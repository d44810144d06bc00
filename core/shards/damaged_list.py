"""`quarantine/damaged.json`: the list of what `pano repair` took out of a dataset."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel
from panoforge.core.names import RelativeName, SampleKey, SceneName, ShardName
from panoforge.core.storage.store import Store

QUARANTINE = "quarantine"
REPLACED = f"{QUARANTINE}/replaced"
DAMAGED_LIST = f"{QUARANTINE}/damaged.json"
MAX_LIST_BYTES = 256 << 20


class DamagedEntry(FrozenModel):
    """One damaged part of a shard.

    `kept` is where its bytes are; facts of the index are there where an index knew the sample.
    """

    key: SampleKey | None
    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]
    faults: tuple[str, ...]
    scene: SceneName | None = None
    source: str | None = None
    seed: int | None = None
    camera: int | None = None
    shard: ShardName
    kept: RelativeName | None


class DamagedList(FrozenModel):
    """`quarantine/damaged.json`."""

    schema_version: Literal[1] = 1
    format: Literal["panoforge-quarantine"] = "panoforge-quarantine"
    scenes: tuple[SceneName, ...]
    damaged: tuple[DamagedEntry, ...]


def read_damaged(store: Store) -> tuple[DamagedEntry, ...]:
    """What earlier repairs listed. DataError for a list that no repair wrote."""
    try:
        data = store.get(DAMAGED_LIST, MAX_LIST_BYTES)
        return DamagedList.model_validate_json(data).damaged if data else ()
    except (ValidationError, DataError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(
            f"{store}/{DAMAGED_LIST} is not a list that `pano repair` wrote ({why}): move it away,"
            " then repair again"
        ) from None
