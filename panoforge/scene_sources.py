"""What each scene source needs and whether this machine has it.

`pano sources`, `pano plan` and `pano doctor` say it.

What is missing is said before a run starts. Nothing here imports bpy: Blender is asked in a child
process, and only where a source depends on the answer. A node may have what this machine lacks, so
a plan warns and does not refuse.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from panoforge.core.errors import UserError
from panoforge.core.numbers import count, number
from panoforge.core.storage.location import expanded
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.infinigen1.asset_library import default_library, library_file, make_library
from panoforge.datagen.infinigen1.command import (
    NATURE_CORE_S,
    NATURE_MEMORY_GB,
    PROFILES,
    check_gin_files,
    find_generator,
    needs_antlandscape,
)
from panoforge.datagen.infinigen1.fill import cached_scenes
from panoforge.datagen.infinigen1.overlay import default_folder, fault_of, install, overlay
from panoforge.datagen.infinigen1.process import check_floor_plan
from panoforge.datagen.source_settings import (
    AnySource,
    BlendSource,
    HouseSource,
    Infinigen1Indoors,
    Infinigen1Nature,
    OutdoorSource,
    RoomsSource,
)

_PROBE = """
import json, os, bpy
from panoforge.datagen.extensions.extension import antlandscape_available
print(json.dumps(antlandscape_available()), flush=True)
os._exit(0)
"""
PROBE_TIMEOUT_S = 120


@dataclass(frozen=True)
class SourceState:
    """One source: what it makes, and what is missing here (empty: it works)."""

    name: str
    makes: str
    missing: str = ""


@lru_cache(maxsize=1)
def antlandscape_installed() -> bool:
    """Whether this machine's Blender has the extension A.N.T. Landscape installed."""
    if find_spec("bpy") is None:
        return False
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
        return bool(json.loads(done.stdout.strip().splitlines()[-1]))
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError):
        return False


def known_sources() -> list[SourceState]:
    """Every source that a config can name."""
    no_bpy = "" if find_spec("bpy") else "bpy is not installed (pip install 'panoforge[datagen]')"
    no_infinigen = no_bpy or (
        ""
        if find_spec("infinigen2")
        else "Infinigen 2 is not installed (pip install 'panoforge[datagen]')"
    )
    landscape = (
        ""
        if no_infinigen or antlandscape_installed()
        else (
            "biome landscape and Infinigen's boulders: set antlandscape to a zip of Blender's"
            " extension A.N.T. Landscape, or to online; biomes plain and hills work"
        )
    )
    infinigen1 = no_bpy or fault_of(default_folder())
    return [
        SourceState(
            "infinigen2.rooms",
            "one furnished room: livingroom, bedroom, bathroom, diningroom or kitchen",
            no_infinigen,
        ),
        SourceState("infinigen2.house", "a furnished house, cameras in its rooms", no_infinigen),
        SourceState(
            "infinigen2.floating", "objects floating under a sky, hard occlusions", no_infinigen
        ),
        SourceState(
            "infinigen2.outdoor",
            "ground with rocks and plants: plain, hills or landscape",
            no_infinigen or landscape,
        ),
        SourceState(
            "infinigen1.indoors",
            "a furnished room in a flat, or a whole home, of Infinigen 1",
            infinigen1,
        ),
        SourceState("infinigen1.nature", "landscapes of Infinigen 1", infinigen1),
        SourceState(
            "blend", "your .blend files, with their scripts off", no_bpy or "key paths: the files"
        ),
    ]


def missing_here(config: RenderConfig) -> list[str]:
    """What the config's sources need and this machine does not have, as sentences."""
    found = []
    if (
        config.antlandscape not in ("installed", "online")
        and not Path(config.antlandscape).is_file()
    ):
        found.append(f"antlandscape: no such file: {config.antlandscape}")
    for source in config.sources:
        found += _missing(source, config.antlandscape)
    return found


def _missing(source: AnySource, antlandscape: str) -> Sequence[str]:
    wants_extension = (
        isinstance(source, OutdoorSource)
        and "landscape" in source.biomes
        and antlandscape == "installed"
    )
    if wants_extension and not antlandscape_installed():
        return [
            f"{source.source}: biome landscape needs Blender's extension A.N.T. Landscape, which is"
            " not installed: set antlandscape to a zip file of it, or to online, or leave"
            " landscape out of biomes"
        ]
    if isinstance(source, Infinigen1Indoors | Infinigen1Nature):
        return _missing_of_infinigen1(source, antlandscape)
    if isinstance(source, RoomsSource | HouseSource) and source.clutter == "infinigen1":
        return _missing_library(source)
    if isinstance(source, BlendSource):
        return [
            f"{source.source}: no such file: {path}"
            for path in source.paths
            if not Path(path).is_file()
        ]
    return []


def _missing_library(source: RoomsSource | HouseSource | Infinigen1Indoors) -> list[str]:
    try:
        library_file(expanded(source.library) if source.library else None)
    except UserError as error:
        return [f"{source.source}: {error}"]
    return []


def _missing_of_infinigen1(
    source: Infinigen1Indoors | Infinigen1Nature, antlandscape: str
) -> list[str]:
    found = [
        f"{source.source}: addons: no such file: {path}"
        for path in source.addons
        if not Path(path).is_file()
    ]
    try:
        check_gin_files(source, find_generator(source))
    except UserError as error:
        found.append(f"{source.source}: {error}")
    if isinstance(source, Infinigen1Indoors) and source.dressed:
        found += _missing_library(source)
    lacking = [variant for variant in source.variants if needs_antlandscape(source, variant)]
    if lacking and antlandscape == "installed" and not antlandscape_installed():
        found.append(
            f"{source.source}: {', '.join(lacking)} need Blender's extension A.N.T. Landscape,"
            " which is not installed: set antlandscape to a zip file of it, or leave them out of"
            " biomes"
        )
    return found


def install_infinigen1(folder: Path | None, say: Callable[[str], None]) -> Path:
    """Install Infinigen 1's overlay (None: into the user's cache), tried by a floor plan.

    Gives where it is. Infinigen1Missing says why it is not there.
    """
    place = (folder or default_folder()).absolute()
    install(place, check_floor_plan, say)
    return place


def install_assets(folder: Path | None, say: Callable[[str], None]) -> Path:
    """Make the library of Infinigen 1's small things with the installed Infinigen 1.

    `folder` None: in the user's cache. Gives where it is. Infinigen1Missing says why it is not
    there.
    """
    place = (folder or default_library()).absolute()
    make_library(overlay(), place, say)
    return place


def _of_which_cached(config: RenderConfig, entry: int) -> str:
    there = cached_scenes(config, entry)
    return f", {count(there)} of them in the cache and free" if there else ""


def _of_one_scene(source: AnySource) -> tuple[float, str] | None:
    """Core-seconds of generating one scene, and what it is; None where nothing was measured."""
    if isinstance(source, Infinigen1Nature):
        return NATURE_CORE_S, f"and {NATURE_MEMORY_GB} GB of memory to generate a landscape"
    if isinstance(source, Infinigen1Indoors) and source.rooms != "all":
        return PROFILES[source.profile].core_s, f"to generate a room, profile {source.profile}"
    return None


def generation_costs(config: RenderConfig) -> list[str]:
    """What generating the scenes of Infinigen 1 will cost, a sentence per source."""
    period = sum(len(source.variants) for source in config.sources)
    found, first = [], 0
    for entry, source in enumerate(config.sources):
        last = first + len(source.variants)
        cost = _of_one_scene(source)
        if isinstance(source, Infinigen1Indoors | Infinigen1Nature) and cost is not None:
            core_s, what = cost
            rounds, rest = divmod(config.scenes, period)
            scenes = rounds * len(source.variants) + len(range(first, min(last, rest)))
            again = (
                "; more runs of the same scenes (camera.draw=1, redraw.materials=1, …) cost none of"
                f" it: {source.cache}"
                if source.cache
                else "; with cache=FOLDER on the source, runs share what was generated"
            )
            found.append(
                f"{source.source}: about {number(core_s)} core-seconds {what},"
                f" {number(scenes * core_s / 3600)} core-hours for"
                f" {count(scenes)}{_of_which_cached(config, entry)},"
                f" {number(core_s / config.panoramas_per_scene)} core-seconds a panorama{again}"
            )
        first = last
    return found
