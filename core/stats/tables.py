"""Statistics from the index: Arrow columns in, `IndexStats` out. No sample is opened.

Everything is vectorised over the instance table, whose rows for 10,000 panoramas (half a million)
take well under a second; see bench/RESULTS.md.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from panoforge.core.shards.read import Dataset
from panoforge.core.stats.model import (
    CategoryCounts,
    CoOccurrence,
    Distribution,
    Histogram,
    IndexStats,
    SplitCounts,
    Summary,
)
from panoforge.core.types import Ints

CO_OCCURRENCE_CATEGORIES = 14


def summarise(values: ArrayLike) -> Summary:
    """Order statistics of a non-empty array."""
    array = np.asarray(values, np.float64)
    p05, median, p95 = np.quantile(array, (0.05, 0.5, 0.95))
    return Summary(
        n=array.size,
        min=float(array.min()),
        p05=float(p05),
        median=float(median),
        mean=float(array.mean()),
        p95=float(p95),
        max=float(array.max()),
    )


def distribution(
    values: ArrayLike, unit: str, *, log: bool = False, bins: int = 24, least: int | None = None
) -> Distribution:
    """Summary and histogram of values.

    `log` spaces the bins by eighths of a decade (values must be positive then). Whole numbers get
    bins of a whole width, centred on them, none of them below `least`.
    """
    array = np.asarray(values)
    low, high = float(array.min()), float(array.max())
    if log:
        first, last = np.floor(8 * np.log10(low) + 1e-9), np.floor(8 * np.log10(high) + 1e-9) + 1
        edges = 10.0 ** (np.arange(first, last + 1) / 8)
        edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    elif np.issubdtype(array.dtype, np.integer):
        step = max(1, int(np.ceil((high - low + 1) / bins)))
        spare = (
            max(0, 11 - int(high - low)) // 2
        )  # a few values get room around them: one bar over all says nothing
        first = low - spare if least is None else max(low - spare, least)
        edges = np.arange(first, high + spare + step + 1, step) - 0.5
    else:
        spread = 0.0 if high > low else 0.1 * abs(high) + 0.01
        edges = np.linspace(low - spread, high + spread, bins + 1)
    counts, _ = np.histogram(array, edges)
    return Distribution(
        summary=summarise(array),
        histogram=Histogram(
            edges=tuple(edges.tolist()), counts=tuple(counts.astype(float).tolist()), unit=unit
        ),
    )


def index_statistics(dataset: Dataset) -> IndexStats:
    """Everything that the index of a dataset tells."""
    samples, instances = dataset.samples, dataset.instances()
    of_sample = np.asarray(pc.index_in(instances["key"], value_set=samples["key"].combine_chunks()))
    flags = instances["flags"].combine_chunks()
    flagged = {
        str(name): _has_flag(flags, str(name))
        for name in pc.unique(pc.list_flatten(flags)).to_pylist()
    }
    none = np.zeros(instances.num_rows, bool)
    is_object = ~flagged.get("structure", none)
    pixels, area_sr = np.asarray(instances["pixels"]), np.asarray(instances["area_sr"])
    codes, names = _codes(instances["category"])
    position = np.asarray(samples["position_m"].combine_chunks().flatten()).reshape(-1, 3)
    clearances = samples["clearance_m"].drop_null()
    sizes = Counter(
        f"{w}×{h}"
        for w, h in zip(samples["width"].to_pylist(), samples["height"].to_pylist(), strict=True)
    )
    return IndexStats(
        panoramas=samples.num_rows,
        scenes=pc.count_distinct(samples["scene"]).as_py(),
        instances=instances.num_rows,
        objects=int(is_object.sum()),
        shards=len(dataset.manifest.shards),
        bytes=sum(shard.bytes for shard in dataset.manifest.shards),
        splits=_splits(samples),
        sources=_value_counts(samples["source"]),
        image_sizes=dict(sizes.most_common()),
        notes=_value_counts(pc.list_flatten(samples["notes"])),
        config_sha256=_value_counts(samples["config_sha256"]),
        instances_per_panorama=distribution(
            np.bincount(of_sample, minlength=samples.num_rows), "instances"
        ),
        objects_per_panorama=distribution(
            np.bincount(of_sample[is_object], minlength=samples.num_rows), "objects"
        ),
        area_px=distribution(pixels, "px", log=True),
        area_sr=distribution(area_sr, "sr", log=True),
        categories=_categories(codes, names, of_sample, area_sr, is_object, samples.num_rows),
        co_occurrence=_co_occurrence(codes, names, of_sample, is_object, samples.num_rows),
        flags={name: int(has.sum()) for name, has in sorted(flagged.items())},
        seam_panoramas=np.unique(of_sample[flagged.get("seam", none) & is_object]).size,
        pole_panoramas=np.unique(of_sample[flagged.get("pole", none) & is_object]).size,
        camera_height_m=distribution(position[:, 2], "m"),
        clearance_m=distribution(np.asarray(clearances), "m") if len(clearances) else None,
    )


def _codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def _has_flag(flags: pa.ListArray, name: str) -> NDArray[np.bool_]:
    """Which rows' lists hold `name`."""
    has = np.zeros(len(flags), bool)
    hits = np.asarray(pc.equal(pc.list_flatten(flags), name).to_numpy(zero_copy_only=False))
    has[np.asarray(pc.list_parent_indices(flags))[hits]] = True
    return has


def _value_counts(column: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    counted = [(entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()]
    return dict(sorted(counted, key=lambda entry: (-entry[1], entry[0])))


def _splits(samples: pa.Table) -> dict[str, SplitCounts]:
    table = samples.group_by("split").aggregate(
        [("key", "count"), ("scene", "count_distinct"), ("n_instances", "sum"), ("length", "sum")]
    )
    return {
        row["split"]: SplitCounts(
            panoramas=row["key_count"],
            scenes=row["scene_count_distinct"],
            instances=row["n_instances_sum"],
            bytes=row["length_sum"],
        )
        for row in sorted(table.to_pylist(), key=lambda row: -row["key_count"])
    }


def _categories(
    codes: Ints,
    names: list[str],
    of_sample: Ints,
    area_sr: NDArray[np.float64],
    is_object: NDArray[np.bool_],
    panoramas: int,
) -> tuple[CategoryCounts, ...]:
    count = np.bincount(codes, minlength=len(names))
    total_sr = np.bincount(codes, area_sr, minlength=len(names))
    objects = np.bincount(codes[is_object], minlength=len(names))
    seen_in = np.bincount(
        np.unique(codes * panoramas + of_sample) // panoramas, minlength=len(names)
    )
    by_category = np.split(area_sr[np.argsort(codes, kind="stable")], np.cumsum(count)[:-1])
    rows = [
        CategoryCounts(
            name=name,
            instances=int(count[k]),
            panoramas=int(seen_in[k]),
            median_sr=float(np.median(by_category[k])),
            share=float(total_sr[k] / (4 * np.pi * panoramas)),
            structure=bool(2 * objects[k] < count[k]),
        )
        for k, name in enumerate(names)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.instances, row.name)))


def _co_occurrence(
    codes: Ints, names: list[str], of_sample: Ints, is_object: NDArray[np.bool_], panoramas: int
) -> CoOccurrence:
    """Of the object categories that are seen in most panoramas."""
    seen = np.zeros((len(names), panoramas), bool)
    seen[codes[is_object], of_sample[is_object]] = True
    order = sorted(range(len(names)), key=lambda k: (-seen[k].sum(), names[k]))
    kept = [k for k in order if seen[k].any()][:CO_OCCURRENCE_CATEGORIES]
    matrix = seen[kept].astype(np.float64)
    together = (matrix @ matrix.T).astype(int)
    return CoOccurrence(
        categories=tuple(names[k] for k in kept), panoramas=tuple(map(tuple, together.tolist()))
    )
