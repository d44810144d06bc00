"""What shapes a dataset's bytes, and who packs it when."""

from typing import Annotated

from pydantic import Field

from panoforge.cluster.config.ray import RayConfig
from panoforge.core.models import FrozenModel
from panoforge.core.shards.layout import DEFAULT_SPLITS
from panoforge.core.shards.write import DEFAULT_SHARD_BYTES, PackOptions


class ShardConfig(FrozenModel):
    """What shapes a dataset's bytes: shard size, and the shares of the splits.

    A scene's split is chosen by a stable hash of `salt` and its name.
    """

    shard_bytes: Annotated[int, Field(ge=1024, description="Size at which a shard is full.")] = (
        DEFAULT_SHARD_BYTES
    )
    splits: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1)]],
        Field(description="Shares of the splits; a scene is in one split, by a hash of its name."),
    ] = DEFAULT_SPLITS
    salt: Annotated[str, Field(description="Changes which scenes are in which split.")] = ""

    def options(self) -> PackOptions:
        """The same as the writer of shards takes it."""
        return PackOptions(self.shard_bytes, tuple(self.splits.items()), self.salt)


class PackConfig(ShardConfig):
    """`pano pack`: the shards, and how many Ray tasks build them at once (1: no Ray).

    The bytes do not depend on `workers`.
    """

    workers: Annotated[
        int,
        Field(
            ge=1,
            description="Ray tasks that build shards at once; 1 needs no Ray. Same bytes for any.",
        ),
    ] = 1
    ray: Annotated[RayConfig, Field(description="How Ray is reached.")] = RayConfig()


class PackingConfig(ShardConfig):
    """Packing beside rendering (`pano render`); the shards are those of `pano pack`.

    The packer looks again after `every_scenes`, and after a hundredth of the settled scenes at
    least.
    """

    while_rendering: Annotated[
        bool, Field(description="Publish shards as they fill, while the run renders.")
    ] = False
    every_scenes: Annotated[
        int,
        Field(
            ge=1, description="After how many more settled scenes in a row the packer looks again."
        ),
    ] = 100
    max_behind_scenes: Annotated[
        int,
        Field(
            ge=1, description="By how many scenes it may fall behind before no new scene starts."
        ),
    ] = 2000
