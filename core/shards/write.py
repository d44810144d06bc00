"""Pack staged panoramas into a dataset: all at once (`pack`), or as they are rendered (`publish`).

Both take one or more places of staged panoramas and a dataset, each a path or an fsspec URL.
Several runs merge: a key that two of them hold with the same content is packed once, with other
content it is refused. They plan (`panoforge.core.shards.plan`), build what is missing
(`panoforge.core.shards.build`, by whatever `build` says: here, or as tasks of a cluster) and
commit. The same staged set gives the same bytes, whoever packs it, with how many workers, and
however often it was interrupted or published in between:

    publish(run / "staged", dataset, options, before="rooms-kitchen-00000042")  # while rendering
    pack(run / "staged", dataset, options)                                    # at the end

`publish` is for the time in which scenes are still being made. `before` is the first scene of the
job list that is *not* settled (not yet made, rejected or given up): nothing at or behind it is
looked at. Of what stands before it, the shards that are full are published, and only they. A shard
that more panoramas could still join stays out, so what is published is what `pack` will publish.
Nothing that is published is taken away by it. A call reads the names of the staged folders, the
sizes of those that are not published yet, and the index; what is published already is not read
again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from panoforge.core.errors import DataError, UsageError
from panoforge.core.names import check_key, check_split, frame_key
from panoforge.core.sample.metadata import META_SUFFIX
from panoforge.core.shards.build import BuildTask, BuiltShard, build_shard, commit
from panoforge.core.shards.index import read_index, read_instances, read_videos
from panoforge.core.shards.layout import (
    DEFAULT_SPLITS,
    INDEX,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    SHARDS,
    Manifest,
    read_manifest,
    split_of,
)
from panoforge.core.shards.plan import Candidate, ShardPlan, pack_order, plan_shards, scene_of
from panoforge.core.shards.tar import TRAILER, sample_length
from panoforge.core.shards.videos import by_video, cut_fault
from panoforge.core.storage.lease import Lease, held
from panoforge.core.storage.staged import differences, list_staged, read_staged_meta, staged_sizes
from panoforge.core.storage.store import Store, StoreLike

DEFAULT_SHARD_BYTES = 512_000_000

OnSample: TypeAlias = Callable[[str], None]
Builder: TypeAlias = Callable[[Sequence[BuildTask], OnSample], Iterable[BuiltShard]]
"""Builds shards, in any order; `on_sample(key)` is called as samples are done."""


@dataclass(frozen=True)
class StagedSource:
    """Where panoramas are staged, and what is put before their names.

    In the dataset their keys and scenes begin with it, e.g. `night-`.
    """

    staged: Store
    prefix: str = ""


Sources: TypeAlias = StoreLike | StagedSource | Sequence[StoreLike | StagedSource]


@dataclass(frozen=True)
class PackOptions:
    """How panoramas become shards.

    `shard_bytes` is the target size of a shard; `splits` maps names to shares, `salt` moves scenes
    between them.
    """

    shard_bytes: int = DEFAULT_SHARD_BYTES
    splits: tuple[tuple[str, float], ...] = tuple(DEFAULT_SPLITS.items())
    salt: str = ""

    def __post_init__(self) -> None:
        for name, _ in self.splits:
            check_split(name)


def build_here(tasks: Sequence[BuildTask], on_sample: OnSample) -> Iterable[BuiltShard]:
    """The builder that needs nothing: one shard after the other in this process."""
    return (build_shard(task, on_sample) for task in tasks)


def pack(
    staged: Sources,
    dataset: StoreLike,
    options: PackOptions = PackOptions(),
    *,
    build: Builder = build_here,
    on_sample: OnSample = lambda key: None,
) -> Manifest:
    """Pack every staged panorama and publish the dataset.

    `on_sample(key)` is called after each, for progress. Raises DataError for a damaged staged
    panorama (naming it), StorageError for a full disk and the like, InUse if another process writes
    there. The dataset that was there before still stands then.
    """
    sources, store = _sources(staged), Store.at(dataset)
    samples = _candidates([(source, list_staged(source.staged)) for source in sources], {}, options)
    if not samples:
        raise DataError(
            f"{', '.join(source.staged.url for source in sources)}: no staged panoramas, nothing to"
            " pack. Render some first (pano render CONFIG)"
        )
    with held(store, "pano pack") as lease:
        built = _built(store, plan_shards(samples, options.shard_bytes), build, on_sample)
        lease.check()
        return commit(store, built)


def publish(
    staged: Sources,
    dataset: StoreLike,
    options: PackOptions = PackOptions(),
    *,
    before: str | None = None,
    final: bool = False,
    build: Builder = build_here,
    on_sample: OnSample = lambda key: None,
) -> Manifest | None:
    """Publish what is full of the scenes in front of `before` (None: of all).

    See above; with `final` everything, which is `pack`. Gives the manifest that holds now, None if
    nothing is published yet. Errors as in `pack`.
    """
    if final:
        return pack(staged, dataset, options, build=build, on_sample=on_sample)
    store = Store.at(dataset)
    with held(store, "pano pack") as lease:
        return _publish(_sources(staged), store, options, before, build, on_sample, lease)


def _publish(
    sources: list[StagedSource],
    store: Store,
    options: PackOptions,
    before: str | None,
    build: Builder,
    on_sample: OnSample,
    lease: Lease,
) -> Manifest | None:
    published = _Published.read(store)
    limit = pack_order(before) if before is not None else None
    found = [
        (
            source,
            [
                key
                for key in _names(source.staged)
                if limit is None or pack_order(source.prefix + key) < limit
            ],
        )
        for source in sources
    ]
    lengths = published.lengths() if published else {}
    plans = plan_shards(_candidates(found, lengths, options), options.shard_bytes, final=False)
    kept = published.kept(plans) if published else {}
    new = [plan for plan in plans if plan.stem not in kept]
    if not new or set(lengths) - {key for plan in plans for key in plan.keys}:
        return published.manifest if published else None
    built = _built(store, new, build, on_sample)
    lease.check()
    return commit(store, [*kept.values(), *built])


def _sources(staged: Sources) -> list[StagedSource]:
    places = [staged] if isinstance(staged, (str, Path, Store, StagedSource)) else staged
    return [
        place if isinstance(place, StagedSource) else StagedSource(Store.at(place))
        for place in places
    ]


def _names(staged: Store) -> list[str]:
    """Keys that are staged; none before the first scene has made the folder."""
    return [] if staged.local is not None and not staged.local.exists() else list_staged(staged)


def _candidates(
    found: Sequence[tuple[StagedSource, list[str]]], lengths: dict[str, int], options: PackOptions
) -> list[Candidate]:
    """What is to be packed.

    `lengths` are known from an earlier publication, the others are looked up.
    """
    splits = dict(options.splits)
    samples: dict[str, Candidate] = {}
    for source, keys in found:
        staged, prefix = source.staged, source.prefix
        new = [key for key in keys if prefix + key not in lengths]
        sizes = staged_sizes(staged, new)
        _refuse_cut(staged, new)
        for key in keys:
            name = prefix + key
            if name in samples:
                if name not in lengths:  # what is published was compared then
                    _refuse_another(key, samples[name], source)
                continue
            _check_name(name, prefix)
            # Without the prefix: runs with other cameras or light in the same scenes name them so,
            # and near-duplicates must not part.
            scene = scene_of(key) or read_staged_meta(staged, key).scene
            if name not in lengths and prefix and META_SUFFIX in sizes[key]:
                sizes[key][META_SUFFIX] += 2 * len(prefix)  # the metadata names sample and scene
            length = lengths[name] if name in lengths else sample_length(sizes[key])
            samples[name] = Candidate(
                name, split_of(scene, splits, options.salt), length, staged.absolute, prefix
            )
    return list(samples.values())


def _refuse_cut(staged: Store, keys: Sequence[str]) -> None:
    """DataError where frames of a video are staged and not all of them."""
    for video, frames in by_video(keys).items():
        meta = read_staged_meta(staged, frame_key(video, frames[0]))
        assert meta.video is not None  # the metadata of a frame say so
        if fault := cut_fault(video, sorted(frames), meta.video.frames):
            raise DataError(
                f"{staged}: {fault}. Videos are packed whole: render the scene again, or remove"
                " what is left of it"
            )


def _check_name(name: str, prefix: str) -> None:
    try:
        check_key(name)
    except DataError as error:
        why = f". It begins with {prefix!r}, from the name of its run" if prefix else ""
        raise UsageError(f"{error}{why}") from None


def _refuse_another(key: str, first: Candidate, source: StagedSource) -> None:
    """DataError unless the panorama is the one of that name which an earlier source holds."""
    differ = (
        differences(key, first.staged, source.staged)
        if first.prefix == source.prefix
        else ["their names before the prefix"]
    )
    if differ:
        raise DataError(
            f"{first.key} is staged in {first.staged} and in {source.staged} with different content"
            f" ({', '.join(differ[:5])}): keys are unique in a dataset. Give each run's samples a"
            " name of their own (pano pack --prefix), or remove one of the two"
        )


def _built(
    store: Store, plans: Sequence[ShardPlan], build: Builder, on_sample: OnSample
) -> list[BuiltShard]:
    """Build the planned shards, but for those that an interrupted packer left whole."""
    for folder in ("", SHARDS, INDEX):
        store.sweep(folder)
    there = store.sizes(SHARDS)
    by_stem: dict[str, list[str]] = {}
    for name in there:
        by_stem.setdefault(name.removeprefix(f"{SHARDS}/").rpartition("-")[0], []).append(name)
    tasks = []
    for plan in plans:
        whole = tuple(
            name for name in by_stem.get(plan.stem, ()) if there[name] == plan.length + len(TRAILER)
        )
        tasks.append(BuildTask(plan, store.absolute, whole))
    built = list(build(tasks, on_sample))
    store.sweep(SHARDS)  # of workers that were killed; those who made their shards again are done
    return built


@dataclass(frozen=True)
class _Published:
    """What the dataset holds now."""

    manifest: Manifest
    samples: pa.Table
    instances: pa.Table
    videos: pa.Table

    @classmethod
    def read(cls, store: Store) -> "_Published | None":
        if store.get(MANIFEST_NAME) is None:
            return None
        manifest = read_manifest(store)
        return cls(
            manifest,
            read_index(store, manifest.sample_index, SAMPLE_SCHEMA),
            read_instances(store, manifest),
            read_videos(store, manifest),
        )

    def lengths(self) -> dict[str, int]:
        return dict(
            zip(self.samples["key"].to_pylist(), self.samples["length"].to_pylist(), strict=True)
        )

    def kept(self, plans: Sequence[ShardPlan]) -> dict[str, BuiltShard]:
        """The published shards that hold just what is planned, by stem.

        Index rows lie in the order of the shards.
        """
        planned = {plan.stem: plan.keys for plan in plans}
        keys = self.samples["key"].to_pylist()
        instances_to = np.concatenate([[0], np.cumsum(self.samples["n_instances"].to_numpy())])
        kept: dict[str, BuiltShard] = {}
        begin = 0
        for entry in self.manifest.shards:
            end = begin + entry.samples
            stem = entry.name.removeprefix(f"{SHARDS}/").rpartition("-")[0]
            if planned.get(stem) == tuple(keys[begin:end]):
                first, last = instances_to[begin], instances_to[end]
                kept[stem] = BuiltShard(
                    entry,
                    self.samples.slice(begin, entry.samples),
                    self.instances.slice(first, last - first),
                    self.videos.filter(pc.equal(self.videos["shard"], entry.name)),
                )
            begin = end
        return kept
