"""What a render worker is asked, and what it answers: the two files between it and its parent.

The parent writes a `SceneRequest` and reads a `SceneResult`. Importing this module loads no bpy.
"""

from pathlib import Path
from typing import Literal

from panoforge.core.models import FrozenModel
from panoforge.datagen.config import RenderConfig, SceneJob


class SceneRequest(FrozenModel):
    """What the parent asks for: the scene, the resolved config, and where results go."""

    scene: SceneJob
    render: RenderConfig
    staged: Path
    result: Path
    config_sha256: str


class Panorama(FrozenModel):
    """A staged panorama: paths and digests, never pixels."""

    key: str
    sha256: dict[str, str]  # product suffix → hex digest
    instances: int
    timings_s: dict[str, float]


class Rejection(FrozenModel):
    """A pose or a whole seed that was refused, and why."""

    seed: int
    pose: int | None
    reason: str
    detail: str


class SceneResult(FrozenModel):
    """What became of the scene. `timings_s` sums the phases over everything tried, rejected
    panoramas included.
    """

    key: str
    outcome: Literal["done", "rejected", "failed"]
    panoramas: tuple[Panorama, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    error: str | None = None  # for `failed`: one line; the traceback is in the log
    timings_s: dict[str, float] = {}
    cpu_s: float = (
        0.0  # core-seconds of this process, imports included: what a panorama really costs
    )
    cpu_by_phase_s: dict[str, float] = {}
    peak_memory_mb: float = 0.0
    device: str = ""
    notes: tuple[str, ...] = ()
