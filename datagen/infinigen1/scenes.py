"""The scenes of Infinigen 1: out of a cache of generated ones, or generated now. Imports no bpy.

A scene costs minutes and a camera seconds, so runs share what was generated. An entry of the cache
is a folder. Its name is the kind of scene, its seed, and a digest of all that the generator was
asked. It holds the .blend as zstd, which Blender opens as it is, and what the solver said. It is
put in place by one rename, and its bytes are checked whenever it is read.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

import zstandard

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_json
from panoforge.core.storage.atomic import storage_errors, temporary_beside
from panoforge.core.storage.location import expanded
from panoforge.datagen.infinigen1.command import (
    LAUNCHER,
    check_gin_files,
    find_generator,
    hexadecimal_seed,
    steps,
)
from panoforge.datagen.infinigen1.process import SCENE, STATE, extension_environment, run_step
from panoforge.datagen.infinigen1.solved import SolvedRoom, furnished, read_rooms
from panoforge.datagen.source_settings import Infinigen1Indoors, Infinigen1Source

FACTS = "scene.json"
_LEVEL = 3


@dataclass(frozen=True)
class GeneratedScene:
    """A scene on disk.

    Its .blend, the rooms that are furnished (none outdoors), and the version of Infinigen that made
    it.
    """

    blend: Path
    rooms: tuple[SolvedRoom, ...]
    version: str


@dataclass(frozen=True)
class SceneOrder:
    """Which scene is wanted: of which source, of which kind, with which seed.

    `zips` and `given` are Blender extensions for the generator, see
    `process.extension_environment`.
    """

    source: Infinigen1Source
    variant: str
    seed: int
    zips: tuple[Path, ...] = ()
    given: Path | None = None

    def key(self, extensions: Iterable[str]) -> str:
        """The name of its entry: equal for all that the generator cannot tell apart."""
        # Where our launcher is installed tells nothing: it stands for Python's -m.
        asked = [
            ["-m" if word == LAUNCHER else word for word in step.arguments]
            for step in steps(self.source, self.variant, self.seed, Path("/"))
        ]
        digest = sha256(json.dumps([asked, sorted(extensions)]).encode()).hexdigest()[:12]
        return f"{self.variant}-{hexadecimal_seed(self.seed)}-{digest}"


@contextmanager
def generated_scene(order: SceneOrder, on_line: Callable[[str], None]) -> Iterator[GeneratedScene]:
    """The scene, from the source's cache or generated (and then cached, if there is a cache).

    Args:
        order: Which scene.
        on_line: Takes every line that the generator writes.

    Yields:
        The scene; its files may be gone afterwards.

    Raises:
        SceneFailed: This seed makes none.
        Infinigen1Missing: The generator is needed and not there.
        DataError: The cache holds a damaged entry.
    """
    with tempfile.TemporaryDirectory(prefix="infinigen1-") as name:
        folder = Path(name)
        extra = extension_environment(
            (*map(Path, order.source.addons), *order.zips), order.given, folder / "extensions"
        )
        entry = _entry(order, folder / "extensions" / "blender_org")
        if entry is None:
            yield _generate(order, folder, extra, on_line)
            return
        if not entry.is_dir():
            _store(_generate(order, folder, extra, on_line), entry)
        yield read_entry(entry)


def is_cached(order: SceneOrder) -> bool:
    """Whether the source's cache has the scene."""
    with tempfile.TemporaryDirectory(prefix="infinigen1-") as name:
        extension_environment((*map(Path, order.source.addons), *order.zips), None, Path(name))
        entry = _entry(order, Path(name) / "blender_org")
    return entry is not None and entry.is_dir()


def _entry(order: SceneOrder, repository: Path) -> Path | None:
    """Where the scene lies in the cache; None without a cache."""
    if order.source.cache is None:
        return None
    extensions = [path.name for path in repository.iterdir()] if repository.is_dir() else []
    return expanded(order.source.cache).absolute() / order.key(extensions)


def _generate(
    order: SceneOrder, folder: Path, extra: dict[str, str], on_line: Callable[[str], None]
) -> GeneratedScene:
    generator = find_generator(order.source)
    check_gin_files(order.source, generator)
    for step in steps(order.source, order.variant, order.seed, folder):
        run_step(generator, step, order.source.timeout_s, extra, on_line)
    rooms: tuple[SolvedRoom, ...] = ()
    if isinstance(order.source, Infinigen1Indoors):
        rooms = furnished(read_rooms(step.output / STATE))
    return GeneratedScene(step.output / SCENE, rooms, generator.version)


def _store(scene: GeneratedScene, entry: Path) -> None:
    """Put a scene into the cache. Another process may have been quicker: then its entry stays."""
    temporary = temporary_beside(entry)
    with storage_errors(entry):
        try:
            temporary.mkdir(parents=True)
            with open(scene.blend, "rb") as plain, open(temporary / SCENE, "wb") as packed:
                zstandard.ZstdCompressor(level=_LEVEL).copy_stream(plain, packed)
            facts = {
                "version": scene.version,
                "rooms": [[room.name, room.assets] for room in scene.rooms],
                "sha256": _digest(temporary / SCENE),
            }
            (temporary / FACTS).write_text(json.dumps(facts, indent=1))
            if not entry.exists():
                temporary.rename(entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_entry(entry: Path) -> GeneratedScene:
    """An entry of the cache. DataError if its files are not those that were put there."""
    try:
        facts = read_json(entry / FACTS)
        rooms = tuple(SolvedRoom(str(name), int(assets)) for name, assets in facts["rooms"])
        whole = facts["sha256"] == _digest(entry / SCENE)
        version = str(facts["version"])
    except (DataError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{entry}: {error}: remove this folder, and it is made again") from None
    if not whole:
        raise DataError(
            f"{entry}: {SCENE} is not what was put there: remove this folder, and it is made again"
        )
    return GeneratedScene(entry / SCENE, rooms, version)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()
