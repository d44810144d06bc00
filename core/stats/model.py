"""What report.json holds: `DatasetStats` and its parts. Only data here; units are in the names.

"Share of the sphere" is of solid angle, averaged over panoramas, so that the stretched rows near
the poles count for what they are. An *object* is an instance without the flag `structure` (walls,
floor, ceiling carry it).
"""

from typing import Literal

from panoforge.core.models import FrozenModel


class Histogram(FrozenModel):
    """`counts[i]` items (or steradians) in [edges[i], edges[i+1]); the last bin is closed."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    unit: str


class Summary(FrozenModel):
    """Order statistics of one quantity."""

    n: int
    min: float
    p05: float
    median: float
    mean: float
    p95: float
    max: float


class Distribution(FrozenModel):
    """A quantity: its summary and its histogram."""

    summary: Summary
    histogram: Histogram


class SplitCounts(FrozenModel):
    """What one split holds."""

    panoramas: int
    scenes: int
    instances: int
    bytes: int


class CategoryCounts(FrozenModel):
    """One category: how often, how large. `share` is of the whole sphere, over all panoramas."""

    name: str
    instances: int
    panoramas: int
    median_sr: float
    share: float
    structure: bool


class CoOccurrence(FrozenModel):
    """Which categories are seen together.

    `panoramas[i][j]`: in how many panoramas categories i and j are both seen; the diagonal is
    category i alone.
    """

    categories: tuple[str, ...]
    panoramas: tuple[tuple[int, ...], ...]


class IndexStats(FrozenModel):
    """What the index alone tells."""

    panoramas: int
    scenes: int
    instances: int
    objects: int
    shards: int
    bytes: int
    splits: dict[str, SplitCounts]
    sources: dict[str, int]  # panoramas per scene source
    image_sizes: dict[str, int]  # panoramas per W×H
    notes: dict[str, int]
    config_sha256: dict[str, int]
    instances_per_panorama: Distribution
    objects_per_panorama: Distribution
    area_px: Distribution
    area_sr: Distribution
    categories: tuple[CategoryCounts, ...]  # most frequent first
    co_occurrence: CoOccurrence
    flags: dict[str, int]  # instances per flag
    seam_panoramas: int  # panoramas in which an object crosses the seam
    pole_panoramas: int  # … or touches a pole row
    camera_height_m: Distribution
    clearance_m: Distribution | None


class Latitude(FrozenModel):
    """Per band of latitude, the share of its solid angle that objects and structure cover."""

    edges_deg: tuple[float, ...]
    objects: tuple[float, ...]
    structure: tuple[float, ...]


class PixelStats(FrozenModel):
    """What the pixels tell.

    `object_share[r][c]`: how often an object is there; rows from +90° down, columns from −180°.
    """

    object_share: tuple[tuple[float, ...], ...]
    latitude: Latitude
    objects: float  # share of the sphere
    structure: float
    nothing: float
    depth_m: (
        Histogram | None
    )  # steradians per panorama; values beyond the edges count into the end bins
    depth_median_m: float | None
    sky: float | None  # share of the sphere at infinite depth
    luma: Histogram  # share of the sphere per 8-bit level of Rec. 601 luma
    luma_mean: float
    dark: float  # share below 8
    clipped: float  # share above 250


class StageTime(FrozenModel):
    """Core-seconds per panorama that one stage took."""

    name: str
    mean_s: float
    median_s: float
    p95_s: float


class Cost(FrozenModel):
    """What a panorama costs.

    Core-seconds over all stages, as the workers measured them, seconds for which it held a GPU, and
    money at prices per hour.
    """

    stages: tuple[StageTime, ...]
    core_seconds_per_panorama: float
    gpu_seconds_per_panorama: float
    price_per_core_hour: float
    price_per_gpu_hour: float
    price_per_1000: float
    peak_memory_mb: float | None


class Duplicates(FrozenModel):
    """Pairs of panoramas that look alike.

    Their difference hashes of 128 bits differ in at most `max_distance` bits.
    """

    max_distance: int
    pairs: int
    panoramas: int
    examples: tuple[tuple[str, str], ...]


class RunFacts(FrozenModel):
    """What the run recorded of its scenes: how they ended and why."""

    scenes: dict[str, int]
    reasons: dict[str, int]


class IdSeen(FrozenModel):
    """An id of a video, and when it is seen: frames from `seen[i][0]` to before `seen[i][1]`."""

    id: int
    name: str
    moves: bool
    seen: tuple[tuple[int, int], ...]


class TimeLine(FrozenModel):
    """When the ids of one video are seen; `rows` are some of its `ids` ids."""

    video: str
    frames: int
    fps: float
    ids: int
    rows: tuple[IdSeen, ...]


class Absences(FrozenModel):
    """How often ids are gone and come back; of all videos together.

    An absence is a stretch of frames in which no pixel shows an id that is seen before and after.
    """

    ids: int
    always_seen: int
    with_absence: int
    late: int  # not in the first frame of their video
    lost: int  # not in the last one
    frames: Distribution | None  # of each absence
    seconds: Distribution | None


class VideoStats(FrozenModel):
    """What the videos of a dataset are.

    Motion is from a frame to the next. That of things is across the panorama, so that of the camera
    is in it. It is the angle between the directions of the middle of a moving thing, where both
    frames show it.
    """

    videos: int
    frames: Distribution  # of a video
    seconds: Distribution
    fps: dict[str, int]  # videos per rate
    ids: int  # of all videos together
    moving: int  # of them: those that are not still
    deforming: int  # of those: those that change their shape
    moving_per_video: Distribution
    camera_turn_deg: Distribution | None
    camera_step_m: Distribution | None
    thing_deg: Distribution | None
    absences: Absences
    timelines: tuple[TimeLine, ...]


class DatasetStats(FrozenModel):
    """All of report.json, in which `videos` is left out where there are none."""

    schema_version: Literal[1] = 1
    dataset: str
    index_sha256: str  # of the sample index: which state of the dataset this describes
    index: IndexStats
    pixels: PixelStats
    cost: Cost | None
    duplicates: Duplicates
    run: RunFacts | None
    versions: dict[str, dict[str, int]]  # package → version → panoramas
    hardware: dict[str, dict[str, int]]
    videos: VideoStats | None = None
