"""Where Infinigen 1 is installed: an overlay folder that our own interpreter runs.

Infinigen 1 pins the bpy and the numpy that panoforge[datagen] has, so it needs no Blender and no
environment of its own. The overlay is a folder of wheels, locked in requirements.txt, without those
two. First on the import path, it shadows our Infinigen 2 for one process. An overlay is put
together beside its place and renamed into it when a floor plan has come out of it: what is there is
whole. Imports no bpy.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from panoforge.core.errors import DataError, UserError
from panoforge.core.foreign.files import read_json
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.lease import held
from panoforge.core.storage.location import expanded

VERSION = "1.15.5"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALL = "pano sources install infinigen1"
SIZE = "0.8 GB"
_NEEDS_BYTES = 2_000_000_000  # wheels and what they unpack to
_SITE, _PARTIAL, _MARK = "site", "site.partial", "panoforge.json"
_PROBE = """
import importlib.metadata, importlib.util, json, os
spec = importlib.util.find_spec("infinigen_examples")
if spec is None:
    raise SystemExit("no package infinigen_examples")
folder = os.path.dirname(list(spec.submodule_search_locations)[0])
print(json.dumps([importlib.metadata.version("infinigen"), folder]))
"""


class Infinigen1Missing(UserError):
    """Infinigen 1 is not where the config says, not whole, or another version."""


@dataclass(frozen=True)
class Infinigen1:
    """An Infinigen 1 that can be run.

    The interpreter, the folder that holds `infinigen_examples` (its gin files include each other
    from there), and what its process's environment differs in.
    """

    python: str
    folder: Path
    version: str
    environment: Mapping[str, str]


def default_folder() -> Path:
    """Where the overlay is installed if nobody says otherwise: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(cache) / "panoforge" / f"infinigen1-{VERSION}"


def fault_of(folder: Path) -> str:
    """What is wrong with the overlay in `folder` and what to do, one line; empty: it is whole."""
    site, again = folder / _SITE, f"run {INSTALL}{_to(folder)} again"
    if not site.is_dir():
        if (folder / _PARTIAL).exists():
            return f"{folder} is half-installed (an installation was interrupted): {again}"
        return f"Infinigen 1 is not installed in {folder}: {INSTALL}{_to(folder)} (about {SIZE})"
    try:
        mark = dict(read_json(site / _MARK))
    except (DataError, OSError, TypeError, ValueError):
        return f"{site} is no overlay that {INSTALL} made: name another folder with --to"
    if mark.get("requirements") != _requirements_digest():
        return f"{folder} was made from other pins than this panoforge's: {again}"
    lacking = [name for name in mark.get("packages", ()) if not (site / name).exists()]
    if lacking or not (site / "infinigen_examples").is_dir():
        return (
            f"{folder} lacks {(lacking or ['infinigen_examples'])[0]}, files were removed: {again}"
        )
    return ""


def overlay(folder: Path | None = None) -> Infinigen1:
    """The installed overlay. Infinigen1Missing, with the way out, unless it is whole."""
    folder = folder or default_folder()
    if fault := fault_of(folder):
        raise Infinigen1Missing(fault)
    return _in_folder(folder / _SITE)


def own_environment(python: str) -> Infinigen1:
    """An environment of the user's, by its interpreter.

    Infinigen1Missing unless that imports Infinigen 1.
    """
    if shutil.which(python) is None:
        raise Infinigen1Missing(
            f"python={python} is no executable on this machine: name the interpreter of an"
            f" environment with Infinigen 1.x, or leave python out and run {INSTALL}"
        )
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False
        )
        version, folder = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Infinigen1Missing(f"python={python} does not run: {error}") from None
    except ValueError:
        version, folder = (done.stderr.strip().splitlines() or ["nothing"])[-1], ""
    if not folder or not version.startswith("1."):
        raise Infinigen1Missing(
            f"python={python}: expected Infinigen 1.x with its package infinigen_examples, got:"
            f" {version}. Leave python out and run {INSTALL}, which needs no environment"
        )
    return Infinigen1(python, Path(folder), version, {})


def install(
    folder: Path, check: Callable[[Infinigen1], None], say: Callable[[str], None]
) -> Infinigen1:
    """Install the overlay into `folder`, unless it is there already.

    Args:
        folder: Made if it does not exist; all that it holds afterwards is the overlay.
        check: Tries the new overlay before it counts as installed; raises if it does not work.
        say: Takes a line on what goes on.

    Raises:
        Infinigen1Missing: pip or the check failed, or another's files are in the way.
        InUse: Another process installs there.
    """
    with storage_errors(folder), held(folder, INSTALL):
        site, partial = folder / _SITE, folder / _PARTIAL
        if not fault_of(folder):
            say(f"Infinigen {VERSION} is installed in {folder}")
            return _in_folder(site)
        if site.exists() and not (site / _MARK).is_file():
            raise Infinigen1Missing(fault_of(folder))
        if find_spec("bpy") is None:
            raise Infinigen1Missing("bpy is not installed: pip install 'panoforge[datagen]' first")
        if (free := shutil.disk_usage(folder).free) < _NEEDS_BYTES:
            raise Infinigen1Missing(
                f"{folder} has {free / 1e9:.1f} GB free, {_NEEDS_BYTES / 1e9:.0f} GB are needed:"
                " free some, or name another folder with --to"
            )
        shutil.rmtree(partial, ignore_errors=True)
        say(f"installing Infinigen {VERSION} into {folder}: about {SIZE} of locked wheels")
        _pip(partial)
        say("trying it: a floor plan, about 20 core-seconds")
        check(_in_folder(partial))
        packages = sorted(path.name for path in partial.glob("*.dist-info"))
        mark = {"requirements": _requirements_digest(), "packages": packages, "version": VERSION}
        (partial / _MARK).write_text(json.dumps(mark, indent=1))
        if site.exists():  # made from other pins, or incomplete
            shutil.rmtree(site)
        partial.rename(site)
    return _in_folder(site)


def _in_folder(site: Path) -> Infinigen1:
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(site), *([inherited] if inherited else [])])
    return Infinigen1(sys.executable, site, VERSION, {"PYTHONPATH": path})


def _pip(target: Path) -> None:
    """Put the locked wheels into `target`. Infinigen1Missing with the installer's own words."""
    if find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
        command += ["--no-input", "--no-compile"]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise Infinigen1Missing(
            f"this environment has no pip and there is no uv: {sys.executable} -m ensurepip"
        )
    command += ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run(
        [*command, "--target", str(target), "-r", str(REQUIREMENTS)],
        env={**os.environ, "PIP_USER": "0"},  # a user's pip.conf may say otherwise
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["no words"]
        said = next((line for line in words if "ERROR" in line), words[-1])
        raise Infinigen1Missing(
            f"the wheels of Infinigen 1 could not be installed: {said.strip()[:300]}. They are on"
            " the package index that pip uses, for Linux and macOS"
        )


def _requirements_digest() -> str:
    return sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]


def _to(folder: Path) -> str:
    return "" if folder == default_folder() else f" --to {folder}"
