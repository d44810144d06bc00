"""Fill the cache of generated scenes, for `pano generate`. Imports no bpy."""

from dataclasses import dataclass
from pathlib import Path

from panoforge.core.storage.location import expanded
from panoforge.datagen.config.render import RenderConfig, SceneJob, plan_scene, source_of
from panoforge.datagen.infinigen1.command import hexadecimal_seed
from panoforge.datagen.infinigen1.scenes import FACTS, SceneOrder, generated_scene, is_cached
from panoforge.datagen.scene.scene import SceneFailed
from panoforge.datagen.source_settings import AnySource, Infinigen1Indoors, Infinigen1Nature


@dataclass(frozen=True)
class FilledScene:
    """One scene of a run: it was in the cache, it is now, or why no seed of it made one."""

    key: str
    was_cached: bool = False
    failure: str = ""


def has_cache(source: AnySource) -> bool:
    """Whether what the source generates is kept."""
    return isinstance(source, Infinigen1Indoors | Infinigen1Nature) and source.cache is not None


def orders(config: RenderConfig, job: SceneJob) -> list[SceneOrder]:
    """What a render of `job` will ask for: one order per seed, in the order of trying."""
    source = source_of(config, job)
    if not isinstance(source, Infinigen1Indoors | Infinigen1Nature):
        return []
    is_zip = config.antlandscape not in ("installed", "online")
    zips = (Path(config.antlandscape),) if is_zip else ()
    return [SceneOrder(source, job.variant, seed, zips) for seed in job.seeds]


def cached_scenes(config: RenderConfig, entry: int) -> int:
    """How many scenes of a run and of its source `entry` lie in that source's cache already."""
    source = config.sources[entry]
    if not isinstance(source, Infinigen1Indoors | Infinigen1Nature) or source.cache is None:
        return 0
    kept = {
        tuple(path.parent.name.split("-")[:2]) for path in expanded(source.cache).glob(f"*/{FACTS}")
    }
    found = 0
    for index in range(config.scenes if kept else 0):
        job = plan_scene(config, index)
        if job.entry == entry:
            likely = any((job.variant, hexadecimal_seed(seed)) in kept for seed in job.seeds)
            found += likely and any(is_cached(order) for order in orders(config, job))
    return found


def fill(config: RenderConfig, job: SceneJob) -> FilledScene:
    """Have one scene of a run in the cache: the first of its seeds that makes one."""
    failure = ""
    for order in orders(config, job):
        if is_cached(order):
            return FilledScene(job.key, was_cached=True)
        try:
            with generated_scene(order, lambda line: None):
                return FilledScene(job.key)
        except SceneFailed as failed:
            failure = str(failed)
    return FilledScene(job.key, failure=failure)
