"""When a scene is given up, and what one costs."""

from typing import Annotated

from pydantic import Field

from panoforge.core.models import FrozenModel


class LimitsConfig(FrozenModel):
    """When a scene's worker process is given up, and how much disk must stay free for another."""

    scene_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds after which a scene's process is given up.")
    ] = 3600.0
    no_progress_s: Annotated[
        float,
        Field(gt=0, description="Seconds without a line of output after which it is given up."),
    ] = 1800.0
    memory_gb: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="Memory at which it is given up; null takes ray.memory_per_scene_gb."),
    ] = None
    log_mb: Annotated[
        float, Field(gt=0, description="Size of its log at which it is given up.")
    ] = 64.0
    min_free_gb: Annotated[
        float, Field(ge=0, description="Disk that must be free for another scene to start.")
    ] = 1.0
    disk_wait_s: Annotated[
        float,
        Field(ge=0, description="For how long a full disk is waited for before the run stops."),
    ] = 3600.0


class AssumedConfig(FrozenModel):
    """What a panorama takes, until scenes of the run say it: from another machine or room."""

    core_s: Annotated[float, Field(ge=0, description="Core-seconds of a panorama.")]
    gpu_s: Annotated[float, Field(ge=0, description="GPU-seconds of a panorama.")] = 0.0
    staged_mb: Annotated[float, Field(ge=0, description="Megabytes of a staged panorama.")]
    memory_mb: Annotated[float, Field(ge=0, description="Memory of a scene at most.")]
    source: Annotated[str, Field(min_length=1, description="Where the figures were measured.")]


class CostConfig(FrozenModel):
    """Prices, for `pano status` and `pano plan`, and what a panorama is assumed to cost.

    The assumption serves `pano plan` before any was made. Money is left out while both prices are
    0.
    """

    usd_per_cpu_hour: Annotated[
        float,
        Field(
            ge=0,
            description="Price of a core's hour, in pano status and pano plan; 0 leaves money out.",
        ),
    ] = 0.0
    usd_per_gpu_hour: Annotated[
        float, Field(ge=0, description="Price of a GPU's hour; 0 leaves it out.")
    ] = 0.0
    assumed: Annotated[
        AssumedConfig | None,
        Field(description="What pano plan reckons with where no scene was made yet."),
    ] = None
