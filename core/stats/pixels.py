"""Statistics from the pixels of one panorama, and their sums over many.

`look_at(sample)` decodes a panorama's label map, depth and (at reduced size) picture, and keeps a
few kilobytes: occupancy from runs of equal labels, solid-angle-weighted histograms, a difference
hash. `PixelTotals` add up in any grouping; the caller adds them in key order, so that sums do not
depend on the number of threads.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.image_header import image_size
from panoforge.core.names import frame_of
from panoforge.core.numbers import counted
from panoforge.core.report.pictures import (
    colour_ids,
    jpeg_uri,
    overlay_ids,
    png_uri,
    shrink_ids,
    shrink_rgb,
)
from panoforge.core.report.viewer import Sphere, id_layer
from panoforge.core.sample.array_codec import MAX_PIXELS
from panoforge.core.sample.label_maps import label_runs
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX
from panoforge.core.shards.read import Sample
from panoforge.core.stats.model import Duplicates, Histogram, Latitude, PixelStats
from panoforge.core.types import Floats

GRID_ROWS, GRID_COLUMNS = 64, 128
LATITUDE_BANDS = 36
DEPTH_EDGES_M = np.geomspace(0.05, 200, 73)
HASH_DISTANCE = 4
# luma and depth are measured on about this many columns: thousands of points per bin remain
_LOOK_WIDTH = 512
_THUMBNAIL_WIDTH = 640
_SPHERE_WIDTH, _SPHERE_IDS_WIDTH, _SPHERE_QUALITY = (
    1600,
    1024,
    78,
)  # of the view that a thumbnail opens: about 200 kB
IDS_LAYER = "instances"


@dataclass(frozen=True)
class PixelTotals:
    """Sums over panoramas. Areas in steradians."""

    panoramas: int
    cell_objects: Floats  # (GRID_ROWS, GRID_COLUMNS) pixels of objects
    cell_pixels: Floats  # the same, all pixels
    band_objects_sr: Floats  # (LATITUDE_BANDS,) from the north down
    band_structure_sr: Floats
    band_sr: Floats
    depth_panoramas: int
    depth_sr: Floats  # (len(DEPTH_EDGES_M) - 1,)
    sky_sr: float
    luma_sr: Floats  # (256,)

    def __add__(self, other: "PixelTotals") -> "PixelTotals":
        return PixelTotals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Thumbnails:
    """Data URIs of one gallery entry, and the panorama to look around in that they open."""

    key: str
    note: str
    rgb: str
    ids: str
    overlay: str
    sphere: Sphere


@dataclass(frozen=True)
class SampleView:
    """What is kept of one panorama."""

    key: str
    totals: PixelTotals
    look: bytes  # 128-bit difference hash
    core_s: dict[str, float]
    gpu_s: float
    peak_memory_mb: float | None
    versions: dict[str, str]
    hardware: dict[str, str]
    thumbnails: Thumbnails | None


def look_at(sample: Sample, *, with_thumbnails: bool = False) -> SampleView:
    """Measure one panorama. DataError if a member does not decode."""
    labels = sample.read("instance")
    structure = np.zeros(65536, bool)
    structure[[row.id for row in sample.meta.instances if "structure" in row.flags]] = True
    luma = _luma(sample)
    has_depth = any(PRODUCT_OF_SUFFIX.get(suffix) == "depth" for suffix in sample.members)
    depth_sr, sky_sr = (
        _depth_histogram(sample.read("depth"))
        if has_depth
        else (np.zeros(len(DEPTH_EDGES_M) - 1), 0.0)
    )
    luma_weight = np.repeat(row_area_sr(luma.shape[1], luma.shape[0]), luma.shape[1])
    totals = PixelTotals(
        1,
        *_occupancy(labels, structure),
        int(has_depth),
        depth_sr,
        sky_sr,
        np.bincount(luma.ravel(), luma_weight, minlength=256),
    )
    meta = sample.meta
    thumbnails = _thumbnails(sample, labels) if with_thumbnails else None
    return SampleView(
        sample.key,
        totals,
        difference_hash(luma),
        dict(meta.cpu_s),
        gpu_seconds(meta),
        meta.peak_memory_mb,
        meta.versions,
        meta.hardware,
        thumbnails,
    )


def gpu_seconds(meta: SampleMeta) -> float:
    """Seconds for which the panorama held a GPU: a worker has it from start to end."""
    return 0.0 if meta.hardware.get("device", "cpu") == "cpu" else sum(meta.timings_s.values())


def _occupancy(
    labels: NDArray[np.uint16], structure: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The first five arrays of PixelTotals, from runs.

    A run adds one at its first column and takes it away after its last. The running sum along a row
    of cells is then the number of objects there.
    """
    height, width = labels.shape
    runs = label_runs(labels)
    is_object = ~structure[runs.id]
    column_cell = np.arange(width) * GRID_COLUMNS // width
    row_cell = np.arange(height) * GRID_ROWS // height
    line = row_cell[runs.row[is_object]] * (width + 1) + runs.start[is_object]
    steps = np.bincount(line, minlength=GRID_ROWS * (width + 1))
    steps -= np.bincount(line + runs.length[is_object], minlength=GRID_ROWS * (width + 1))
    covered = np.cumsum(steps.reshape(GRID_ROWS, width + 1), axis=1)[:, :width]
    cells = np.zeros((GRID_ROWS, GRID_COLUMNS))
    np.add.at(cells.T, column_cell, covered.T)
    seen = np.outer(
        np.bincount(row_cell, minlength=GRID_ROWS), np.bincount(column_cell, minlength=GRID_COLUMNS)
    )
    area = row_area_sr(width, height)
    band = np.arange(height) * LATITUDE_BANDS // height
    run_band, run_sr = band[runs.row], runs.length * area[runs.row]
    objects = np.bincount(run_band[is_object], run_sr[is_object], minlength=LATITUDE_BANDS)
    walls = np.bincount(run_band[~is_object], run_sr[~is_object], minlength=LATITUDE_BANDS)
    return (
        cells,
        seen.astype(np.float64),
        objects,
        walls,
        np.bincount(band, area * width, minlength=LATITUDE_BANDS),
    )


def _depth_histogram(depth: NDArray) -> tuple[Floats, float]:
    """Steradians per bin of DEPTH_EDGES_M and at infinity.

    What is beyond the edges is in the end bins. Scaled up from a regular subset of the pixels to
    the whole sphere.
    """
    step = max(1, depth.shape[1] // _LOOK_WIDTH)
    rows = row_area_sr(depth.shape[1], depth.shape[0])[step // 2 :: step]
    depth = depth[step // 2 :: step, step // 2 :: step].astype(np.float64)
    weight = np.broadcast_to(
        rows[:, None] * (4 * np.pi / (rows.sum() * depth.shape[1])), depth.shape
    )
    sky = np.isinf(depth)
    bins = np.clip(
        np.searchsorted(DEPTH_EDGES_M, depth[~sky], side="right") - 1, 0, len(DEPTH_EDGES_M) - 2
    )
    return np.bincount(bins, weight[~sky], minlength=len(DEPTH_EDGES_M) - 1), float(
        weight[sky].sum()
    )


def _luma(sample: Sample) -> NDArray[np.uint8]:
    """The picture's Rec.

    601 luma at about _LOOK_WIDTH columns; JPEGs are decoded at reduced size.
    """
    suffix = sample.suffix("rgb")
    data = sample.members[suffix]
    width, height = image_size(data)
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{sample.key}.{suffix}: image of {width}×{height} is over the cap of {MAX_PIXELS}"
            " pixels"
        )
    flags = {
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    }
    flag = next(
        (flag for factor, flag in flags.items() if width // factor >= _LOOK_WIDTH),
        cv2.IMREAD_GRAYSCALE,
    )
    luma = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if luma is None:
        raise DataError(f"{sample.key}.{suffix}: OpenCV cannot decode these {len(data)} bytes")
    return luma


def difference_hash(luma: NDArray[np.uint8]) -> bytes:
    """128 bits: whether each cell of a 16×8 grid is darker than its right neighbour (columns wrap).

    Small changes of exposure, noise and compression leave it as it is.
    """
    cells = cv2.resize(luma.astype(np.float32), (16, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(cells < np.roll(cells, -1, axis=1)).tobytes()


def _thumbnails(sample: Sample, labels: NDArray[np.uint16]) -> Thumbnails:
    large = shrink_rgb(sample.read("rgb"), _SPHERE_WIDTH)
    rgb, ids = shrink_rgb(large, _THUMBNAIL_WIDTH), shrink_ids(labels, _THUMBNAIL_WIDTH)
    names = {
        row.id: f"{row.name} ({row.category.replace('_', ' ')})" for row in sample.meta.instances
    }
    return Thumbnails(
        key=sample.key,
        note=f"{sample.meta.source}, {counted(len(sample.meta.instances), 'instance')}",
        rgb=jpeg_uri(rgb),
        ids=png_uri(colour_ids(ids)),
        overlay=jpeg_uri(overlay_ids(rgb, ids)),
        sphere=Sphere(
            jpeg_uri(large, _SPHERE_QUALITY),
            (id_layer(IDS_LAYER, shrink_ids(labels, _SPHERE_IDS_WIDTH), names),),
        ),
    )


def pixel_statistics(totals: PixelTotals) -> PixelStats:
    """Sums → shares."""
    sphere = 4 * np.pi * totals.panoramas
    objects, structure = (
        totals.band_objects_sr.sum() / sphere,
        totals.band_structure_sr.sum() / sphere,
    )
    depth_sphere = 4 * np.pi * totals.depth_panoramas
    luma = totals.luma_sr / totals.luma_sr.sum()
    share = totals.cell_objects / np.maximum(totals.cell_pixels, 1)
    band_sr = np.maximum(totals.band_sr, 1e-12)
    return PixelStats(
        object_share=tuple(tuple(round(value, 5) for value in row) for row in share.tolist()),
        latitude=Latitude(
            edges_deg=tuple(np.linspace(90, -90, LATITUDE_BANDS + 1).tolist()),
            objects=tuple((totals.band_objects_sr / band_sr).tolist()),
            structure=tuple((totals.band_structure_sr / band_sr).tolist()),
        ),
        objects=float(objects),
        structure=float(structure),
        nothing=float(max(0.0, 1 - objects - structure)),
        depth_m=(
            Histogram(
                edges=tuple(DEPTH_EDGES_M.tolist()),
                unit="sr per panorama",
                counts=tuple((totals.depth_sr / totals.depth_panoramas).tolist()),
            )
            if depth_sphere
            else None
        ),
        depth_median_m=_histogram_median(DEPTH_EDGES_M, totals.depth_sr),
        sky=float(totals.sky_sr / depth_sphere) if depth_sphere else None,
        luma=Histogram(
            edges=tuple(range(257)), counts=tuple(luma.tolist()), unit="share of the sphere"
        ),
        luma_mean=float((luma * np.arange(256)).sum()),
        dark=float(luma[:8].sum()),
        clipped=float(luma[251:].sum()),
    )


def _histogram_median(edges: Floats, counts: Floats) -> float | None:
    """The median of binned positive values, interpolated in log within its bin."""
    total = np.cumsum(counts)
    if not total[-1]:
        return None
    index = int(np.searchsorted(total, total[-1] / 2))
    before = total[index - 1] if index else 0.0
    fraction = (total[-1] / 2 - before) / counts[index]
    return float(edges[index] * (edges[index + 1] / edges[index]) ** fraction)


def find_duplicates(
    keys: list[str], looks: list[bytes], max_distance: int = HASH_DISTANCE
) -> Duplicates:
    """Pairs whose hashes differ in at most `max_distance` (≤ 7) bits.

    Of 8 parts of 16 bits at least one is equal then, so only panoramas that share a part are
    compared: near-linear in their number. Frames of one video are expected to look alike.
    """
    hashes = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), 16)
    found: set[tuple[int, int]] = set()
    video_of = [place[0] if (place := frame_of(key)) else None for key in keys]
    for part in range(8):
        value = hashes[:, 2 * part].astype(np.int64) * 256 + hashes[:, 2 * part + 1]
        order = np.argsort(value, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(value[order])) + 1):
            for position, first in enumerate(group[:-1]):
                others = group[position + 1 :]
                distance = np.unpackbits(hashes[others] ^ hashes[first], axis=1).sum(axis=1)
                found |= {
                    (int(first), int(other))
                    for other in others[distance <= max_distance]
                    if video_of[first] is None or video_of[first] != video_of[other]
                }
    pairs = sorted(found)
    return Duplicates(
        max_distance=max_distance,
        pairs=len(pairs),
        panoramas=len({i for pair in pairs for i in pair}),
        examples=tuple((keys[a], keys[b]) for a, b in pairs[:20]),
    )
