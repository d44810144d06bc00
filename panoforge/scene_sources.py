"""What each scene source needs and whether this machine has it: for `pano sources`, `pano plan` and
`pano doctor`.

What is missing is said before a run starts. Nothing here imports bpy: Blender is asked in a child
process, and only where a source depends on the answer. A node may have what this machine lacks, so
a plan warns and does not refuse.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from panoforge.datagen.config import RenderConfig
from panoforge.datagen.source_settings import (
    AnySource,
    BlendSource,
    Infinigen1Source,
    OutdoorSource,
)

_PROBE = """
import json, os, bpy
from panoforge.datagen.extension import antlandscape_available
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
    elsewhere = "key python: the interpreter of an environment with Infinigen 1.x"
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
            "infinigen1.indoors", "rooms of Infinigen 1.x, by its own command", no_bpy or elsewhere
        ),
        SourceState(
            "infinigen1.nature",
            "landscapes of Infinigen 1.x, by its own command",
            no_bpy or elsewhere,
        ),
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
    if isinstance(source, Infinigen1Source) and shutil.which(source.python) is None:
        return [f"{source.source}: python={source.python} is no executable on this machine"]
    if isinstance(source, BlendSource):
        return [
            f"{source.source}: no such file: {path}"
            for path in source.paths
            if not Path(path).is_file()
        ]
    return []
