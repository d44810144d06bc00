"""What a render process and its parent say to each other: a job file and a result file.

Imports no bpy, so that a parent can read and write both.
"""

import json
from pathlib import Path
from typing import Literal

from panoforge.core.models import FrozenModel
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.datagen.config.render import RenderConfig, SceneJob


class SceneRequest(FrozenModel):
    """What the parent asks for: the scene, the resolved config, and where results go."""

    scene: SceneJob
    render: RenderConfig
    staged: Path
    result: Path
    config_sha256: str


class StagedPanorama(FrozenModel):
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
    """What became of the scene.

    `timings_s` sums the phases over everything tried, rejected panoramas included.
    """

    key: str
    outcome: Literal["done", "rejected", "failed"]
    panoramas: tuple[StagedPanorama, ...] = ()
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


def read_request(path: Path) -> SceneRequest:
    """Parse a job file; pydantic's ValidationError if it is not one."""
    return SceneRequest.model_validate_json(path.read_bytes())


def write_result(path: Path, result: SceneResult) -> None:
    """Commit the result file."""
    write_bytes_atomic(path, json.dumps(result.model_dump(mode="json"), indent=1).encode() + b"\n")
