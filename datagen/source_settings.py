"""The `sources:` part of a render config: what each scene source can be asked for. Imports no bpy.

Every source has one model here and one module beside it. `variants` are the kinds of scene that a
source makes, taken in turn; `slug` is what the keys of its scenes begin with.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import FilePathText, PathText

Room = Literal["livingroom", "bedroom", "bathroom", "diningroom", "kitchen"]
ROOMS: tuple[Room, ...] = get_args(Room)
Biome = Literal["plain", "hills", "landscape"]
Clutter = Annotated[
    Literal["primitives", "none", "infinigen1"],
    Field(description="Small things: primitive bodies, none, or Infinigen 1's assets."),
]
LibraryFolder = Annotated[
    FilePathText | None,
    Field(description="Folder of infinigen1-assets, where asked for; null is the user's cache."),
]
Infinigen1Profile = Literal["fast", "documented", "full"]
Infinigen1Biome = Literal[
    "simple", "plain", "forest", "mountain", "cave",
    "arctic", "canyon", "cliff", "coast", "desert", "river",
]  # fmt: skip


class _Infinigen2Settings(FrozenModel):
    """What every source of Infinigen 2 can be asked for."""

    subdivision: Annotated[
        int,
        Field(
            ge=0,
            le=6,
            description="Most levels of its subdivision for renders, of coarse meshes; 0: none.",
        ),
    ] = 2


class RoomsSource(_Infinigen2Settings):
    """Single furnished rooms of Infinigen 2, taken in turn.

    Its small things are primitive bodies (cones, tori, monkeys), about half of all instances.
    `clutter: none` leaves them out, and `clutter: infinigen1` puts books, cups and plants of a
    library in their places.
    """

    source: Annotated[Literal["infinigen2.rooms"], Field(description="The kind of source.")]
    rooms: Annotated[
        tuple[Room, ...], Field(min_length=1, description="Kinds of room, taken in turn.")
    ] = ROOMS
    clutter: Clutter = "primitives"
    library: LibraryFolder = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the kinds of scene that this source makes."""
        return tuple(self.rooms)

    def slug(self, variant: str) -> str:
        """What the keys of this source's scenes begin with."""
        return f"rooms-{variant}"


class HouseSource(_Infinigen2Settings):
    """Infinigen 2's furnished houses: several rooms behind open doors.

    `room_count` None: drawn from 3 to 9.
    """

    source: Annotated[Literal["infinigen2.house"], Field(description="The kind of source.")]
    room_count: Annotated[
        Annotated[int, Field(ge=1, le=20)] | None,
        Field(description="Rooms of a house; null draws 3 to 9."),
    ] = None
    clutter: Clutter = "primitives"
    library: LibraryFolder = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of scenes that it makes: one."""
        return ("house",)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant."""
        return "house"


class FloatingSource(_Infinigen2Settings):
    """Infinigen 2 objects floating in the open, with hard occlusions.

    `volume_density` is the share of the 5 m cube that is asked to be filled; Infinigen's own is
    0.125, which leaves mostly sky.
    """

    source: Annotated[Literal["infinigen2.floating"], Field(description="The kind of source.")]
    volume_density: Annotated[
        float, Field(gt=0, le=2, description="Share of the 5 m cube that is asked to be filled.")
    ] = 0.3

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of scenes that it makes: one."""
        return ("floating",)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant."""
        return "floating"


class OutdoorSource(_Infinigen2Settings):
    """Open ground under a sky, with rocks and plants.

    `plain` and `hills` are grounds made here; `landscape` is one of Infinigen 2's landscapes, which
    need Blender's extension A.N.T. Landscape (see `antlandscape` of the render config). So do
    Infinigen's boulders: where the extension is missing, rocks made here take their place, and that
    is noted.
    """

    source: Annotated[Literal["infinigen2.outdoor"], Field(description="The kind of source.")]
    biomes: Annotated[
        tuple[Biome, ...], Field(min_length=1, description="Grounds, taken in turn.")
    ] = ("plain", "hills")
    plants: Annotated[int, Field(ge=0, le=500, description="Plants on the ground.")] = 60
    rocks: Annotated[int, Field(ge=0, le=500, description="Rocks on the ground.")] = 24

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of scenes that it makes: its biomes."""
        return tuple(self.biomes)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant."""
        return f"outdoor-{variant}"


class _Infinigen1Settings(FrozenModel):
    """What both sources of Infinigen 1 can be asked for."""

    python: Annotated[
        PathText | None,
        Field(description="Interpreter of your own Infinigen 1.x; null is the overlay's."),
    ] = None
    overlay: Annotated[
        FilePathText | None,
        Field(description="Folder of pano sources install infinigen1; null is the user's cache."),
    ] = None
    cache: Annotated[
        FilePathText | None,
        Field(description="Folder of generated scenes, which runs share; null keeps none."),
    ] = None
    addons: Annotated[
        tuple[FilePathText, ...],
        Field(description="Zips of Blender extensions for its process: Extra Mesh Objects."),
    ] = ()
    configs: Annotated[
        tuple[str, ...], Field(description="Gin files (-g) instead of those that are ours.")
    ] = ()
    overrides: Annotated[
        tuple[str, ...], Field(description="Gin bindings (-p) after those that are ours.")
    ] = ()
    timeout_s: Annotated[
        float,
        Field(gt=0, description="Seconds after which a generator is ended, of each seed tried."),
    ] = 1500.0


class Infinigen1Indoors(_Infinigen1Settings):
    """Furnished rooms of Infinigen 1.x, made by its own command.

    One furnished room each in a whole flat, taken in turn. `rooms: all` furnishes every room. pano
    sources install infinigen1 brings what it needs.
    """

    source: Annotated[Literal["infinigen1.indoors"], Field(description="The kind of source.")]
    rooms: Annotated[
        Literal["all"] | Annotated[tuple[Room, ...], Field(min_length=1)],
        Field(description="Kinds of room that are furnished, taken in turn; all: every room."),
    ] = ("diningroom", "livingroom", "bedroom", "kitchen", "bathroom")
    profile: Annotated[
        Infinigen1Profile,
        Field(description="How long it solves: fast, documented (its fast_solve) or full."),
    ] = "fast"
    dressed: Annotated[
        bool,
        Field(description="Small things of infinigen1-assets on its furniture, by rays."),
    ] = False
    library: LibraryFolder = None
    lamps: Annotated[
        bool,
        Field(description="Lamps are on in every scene; false: it leaves a fifth dark."),
    ] = True

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of rooms that it makes; `home` is all of one home."""
        return ("home",) if self.rooms == "all" else tuple(self.rooms)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant."""
        return f"infinigen1-{variant}"


class Infinigen1Nature(_Infinigen1Settings):
    """Landscapes of Infinigen 1.x, made by its own command.

    `simple` is its own default mixture. Rocks are left out, because they need an add-on from the
    network. arctic, canyon, cliff, coast, desert and river need Blender's extension A.N.T.
    Landscape (`antlandscape` of the config).
    """

    source: Annotated[Literal["infinigen1.nature"], Field(description="The kind of source.")]
    biomes: Annotated[
        tuple[Infinigen1Biome, ...],
        Field(min_length=1, description="Kinds of landscape, taken in turn."),
    ] = ("simple",)

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of scenes that it makes: its biomes."""
        return tuple(self.biomes)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant."""
        return f"infinigen1-nature-{variant}"


Infinigen1Source = Infinigen1Indoors | Infinigen1Nature


class BlendSource(FrozenModel):
    """Somebody's .blend files, opened with their scripts off.

    `paths` must exist where the worker runs.
    """

    source: Annotated[Literal["blend"], Field(description="The kind of source.")]
    paths: Annotated[
        tuple[FilePathText, ...],
        Field(min_length=1, description="The .blend files, as the workers see them."),
    ]

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds of scenes that it makes: one a file."""
        return tuple(self.paths)

    def slug(self, variant: str) -> str:
        """The part of a scene's key that names the variant; files are not named in keys."""
        return "blend"


AnySource = (
    RoomsSource
    | HouseSource
    | FloatingSource
    | OutdoorSource
    | Infinigen1Indoors
    | Infinigen1Nature
    | BlendSource
)
SceneSourceSettings = Annotated[AnySource, Field(discriminator="source")]
