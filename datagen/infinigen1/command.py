"""What Infinigen 1 is asked: its command lines, from the settings of a source. Imports no bpy.

The commands are those of its documentation (docs/HelloRoom.md, docs/HelloWorld.md): indoors one
task, nature a coarse and a fine one. Each leaves `scene.blend` in its output folder. Its seeds are
parsed as hexadecimal and must stay below 2³². Cameras are chosen here and not by it, except where
nature details only what its own camera sees.
"""

from dataclasses import dataclass
from pathlib import Path

from panoforge.core.errors import ConfigError, nearest
from panoforge.core.storage.location import expanded
from panoforge.datagen.infinigen1.overlay import Infinigen1, overlay, own_environment
from panoforge.datagen.source_settings import (
    Infinigen1Indoors,
    Infinigen1Nature,
    Infinigen1Profile,
    Infinigen1Source,
)

LAUNCHER = str(Path(__file__).with_name("run_generator.py"))
ROOM_TAGS: dict[str, str] = {  # ours → its room semantics
    "diningroom": "DiningRoom",
    "livingroom": "LivingRoom",
    "bedroom": "Bedroom",
    "kitchen": "Kitchen",
    "bathroom": "Bathroom",
}


@dataclass(frozen=True)
class ProfileSettings:
    """How well a room is furnished.

    Gin files, gin bindings, and the core-seconds that a room took here (bench/RESULTS.md).
    """

    configs: tuple[str, ...]
    bindings: tuple[str, ...]
    core_s: float


PROFILES: dict[Infinigen1Profile, ProfileSettings] = {
    "fast": ProfileSettings(
        ("fast_solve.gin",),
        (
            "compose_indoors.solve_steps_large=25",
            "compose_indoors.solve_steps_medium=12",
            "compose_indoors.solve_steps_small=3",
            "restrict_solving.solve_max_parent_obj=4",
        ),
        210,  # the mean of ten rooms, 73 to 380
    ),
    "documented": ProfileSettings(("fast_solve.gin",), (), 960),
    "full": ProfileSettings((), (), 3000),  # three times the documented steps; not measured
}
NATURE_CORE_S, NATURE_MEMORY_GB = 980, 10  # the one landscape that was made (bench/RESULTS.md)
INDOORS = ("compose_indoors.terrain_enabled=False", "compose_indoors.pose_cameras_enabled=False")
UNFURNISHED = tuple(
    f"compose_indoors.solve_{size}_enabled=False" for size in ("large", "medium", "small")
)
NEED_ANTLANDSCAPE = ("arctic", "canyon", "cliff", "coast", "desert", "river")  # their land tiles
NATURE_CONFIGS = ("simple.gin", "no_rocks.gin")  # rocks need an add-on from the network


@dataclass(frozen=True)
class GeneratorStep:
    """One command, without the interpreter, and the folder that its scene.blend appears in."""

    arguments: tuple[str, ...]
    output: Path


def find_generator(source: Infinigen1Source) -> Infinigen1:
    """The Infinigen 1 that a source names: the user's own, or the overlay.

    Infinigen1Missing with the way out if it is not there or not whole.
    """
    if source.python is not None:
        return own_environment(source.python)
    return overlay(expanded(source.overlay).absolute() if source.overlay else None)


def hexadecimal_seed(seed: int) -> str:
    """A seed as its command reads one: hexadecimal, below 2³²."""
    return f"{seed % 2**32:x}"


def steps(source: Infinigen1Source, variant: str, seed: int, folder: Path) -> list[GeneratorStep]:
    """The commands to run in order."""
    indoors = isinstance(source, Infinigen1Indoors)
    configs = gin_files(source, variant)
    bindings = (*gin_bindings(source, variant), *source.overrides)
    rest = (*(("-g", *configs) if configs else ()), *(("-p", *bindings) if bindings else ()))
    kind = "indoors" if indoors else "nature"
    start = (LAUNCHER, f"infinigen_examples.generate_{kind}", "--seed", hexadecimal_seed(seed))
    coarse, fine = folder / "coarse", folder / "fine"
    found = [
        GeneratorStep((*start, "--task", "coarse", "--output_folder", str(coarse), *rest), coarse)
    ]
    if not indoors:
        folders = ("--input_folder", str(coarse), "--output_folder", str(fine))
        found.append(
            GeneratorStep((*start, "--task", "populate", "fine_terrain", *folders, *rest), fine)
        )
    return found


def gin_files(source: Infinigen1Source, variant: str) -> tuple[str, ...]:
    """The gin files (-g) of a scene: those of the config, or what the settings come to."""
    if source.configs:
        return source.configs
    if isinstance(source, Infinigen1Nature):
        return (*(() if variant == "simple" else (f"{variant}.gin",)), *NATURE_CONFIGS)
    one_room = () if source.rooms == "all" else ("singleroom.gin",)
    return (*PROFILES[source.profile].configs, *one_room)


def gin_bindings(source: Infinigen1Source, variant: str) -> tuple[str, ...]:
    """The gin bindings (-p) that the settings come to; the config's own come after them."""
    if isinstance(source, Infinigen1Nature):
        return ()
    found = [*INDOORS, *PROFILES[source.profile].bindings]
    if source.rooms != "all":
        found.append(f'restrict_solving.restrict_parent_rooms=["{ROOM_TAGS[variant]}"]')
    if source.lamps:
        found.append("compose_indoors.lights_off_chance=0")
    return tuple(found)


def needs_antlandscape(source: Infinigen1Source, variant: str) -> bool:
    """Whether a scene fails without Blender's extension A.N.T. Landscape."""
    return (
        isinstance(source, Infinigen1Nature)
        and variant in NEED_ANTLANDSCAPE
        and not any("landscape" in Path(addon).stem.lower() for addon in source.addons)
    )


def floor_plan_step(folder: Path) -> GeneratorStep:
    """A floor plan without furniture: the smallest thing that Infinigen 1 makes, for a try."""
    arguments = (LAUNCHER, "infinigen_examples.generate_indoors", "--seed", "0", "--task", "coarse")
    bindings = ("-g", "fast_solve.gin", "singleroom.gin", "-p", *INDOORS, *UNFURNISHED)
    return GeneratorStep((*arguments, "--output_folder", str(folder), *bindings), folder)


def check_gin_files(source: Infinigen1Source, generator: Infinigen1) -> None:
    """ConfigError for a gin file that this Infinigen does not have: every scene would fail."""
    known = {path.stem for path in (generator.folder / "infinigen_examples").rglob("*.gin")}
    for variant in source.variants:
        for name in gin_files(source, variant):
            if Path(name).stem not in known:
                raise ConfigError(
                    f"{source.source}: Infinigen {generator.version} has no gin file {name!r} in"
                    f" its configs_indoor and configs_nature.{nearest(Path(name).stem, known)}"
                )
