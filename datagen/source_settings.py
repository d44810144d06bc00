"""The `sources:` part of a render config: what each scene source can be asked for. Imports no bpy.

Every source has one model here and one module beside it. `variants` are the kinds of scene that a
source makes, taken in turn; `slug` is what the keys of its scenes begin with.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import PathText

Room = Literal["livingroom", "bedroom", "bathroom", "diningroom", "kitchen"]
ROOMS: tuple[Room, ...] = get_args(Room)
Biome = Literal["plain", "hills", "landscape"]


class RoomsSource(FrozenModel):
    """Single furnished rooms of Infinigen 2, taken in turn."""

    source: Annotated[Literal["infinigen2.rooms"], Field(description="The kind of source.")]
    rooms: Annotated[
        tuple[Room, ...], Field(min_length=1, description="Kinds of room, taken in turn.")
    ] = ROOMS

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the kinds of scene that this source makes."""
        return tuple(self.rooms)

    def slug(self, variant: str) -> str:
        """What the keys of this source's scenes begin with."""
        return f"rooms-{variant}"


class HouseSource(FrozenModel):
    """Infinigen 2's furnished houses: several rooms behind open doors. `room_count` None: drawn
    from 3 to 9.
    """

    source: Annotated[Literal["infinigen2.house"], Field(description="The kind of source.")]
    room_count: Annotated[
        Annotated[int, Field(ge=1, le=20)] | None,
        Field(description="Rooms of a house; null draws 3 to 9."),
    ] = None

    @property
    def variants(self) -> tuple[str, ...]:
        return ("house",)

    def slug(self, variant: str) -> str:
        return "house"


class FloatingSource(FrozenModel):
    """Infinigen 2 objects floating in the open, with hard occlusions. `volume_density` is the share
    of the 5 m cube that is asked to be filled; Infinigen's own is 0.125, which leaves mostly sky.
    """

    source: Annotated[Literal["infinigen2.floating"], Field(description="The kind of source.")]
    volume_density: Annotated[
        float, Field(gt=0, le=2, description="Share of the 5 m cube that is asked to be filled.")
    ] = 0.3

    @property
    def variants(self) -> tuple[str, ...]:
        return ("floating",)

    def slug(self, variant: str) -> str:
        return "floating"


class OutdoorSource(FrozenModel):
    """Open ground under a sky, with rocks and plants. `plain` and `hills` are grounds made here;
    `landscape` is one of Infinigen 2's landscapes, which need Blender's extension A.N.T. Landscape
    (see `antlandscape` of the render config). So do Infinigen's boulders: where the extension is
    missing, rocks made here take their place, and that is noted.
    """

    source: Annotated[Literal["infinigen2.outdoor"], Field(description="The kind of source.")]
    biomes: Annotated[
        tuple[Biome, ...], Field(min_length=1, description="Grounds, taken in turn.")
    ] = ("plain", "hills")
    plants: Annotated[int, Field(ge=0, le=500, description="Plants on the ground.")] = 60
    rocks: Annotated[int, Field(ge=0, le=500, description="Rocks on the ground.")] = 24

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.biomes)

    def slug(self, variant: str) -> str:
        return f"outdoor-{variant}"


class Infinigen1Source(FrozenModel):
    """Scenes of Infinigen 1.x, made by its own command in its own environment, because its pins
    differ from ours. `python` is that environment's interpreter on the render nodes. The .blend
    that it saves is rendered like any other; `overrides` are gin bindings (`-p`), `configs` gin
    files (`-g`), `timeout_s` ends a hanging generator.
    """

    source: Annotated[
        Literal["infinigen1.indoors", "infinigen1.nature"], Field(description="The kind of source.")
    ]
    python: Annotated[
        PathText,
        Field(
            description="The interpreter of an environment with Infinigen 1.x, on the render nodes."
        ),
    ]
    configs: Annotated[tuple[str, ...], Field(description="Gin files (-g).")] = ()
    overrides: Annotated[tuple[str, ...], Field(description="Gin bindings (-p).")] = ()
    timeout_s: Annotated[
        float, Field(gt=0, description="Seconds after which a hanging generator is ended.")
    ] = 7200.0

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.source.split(".")[1],)

    def slug(self, variant: str) -> str:
        return f"infinigen1-{variant}"


class BlendSource(FrozenModel):
    """Somebody's .blend files, opened with their scripts off. `paths` must exist where the worker
    runs.
    """

    source: Annotated[Literal["blend"], Field(description="The kind of source.")]
    paths: Annotated[
        tuple[PathText, ...],
        Field(min_length=1, description="The .blend files, as the workers see them."),
    ]

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def slug(self, variant: str) -> str:
        return "blend"


AnySource = (
    RoomsSource | HouseSource | FloatingSource | OutdoorSource | Infinigen1Source | BlendSource
)
SourceSettings = Annotated[AnySource, Field(discriminator="source")]
