"""From a command's words to a running server.

The place, the predictor, the work folder and its lease.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from panoforge.core.errors import UsageError
from panoforge.core.room import ROOM
from panoforge.core.storage.lease import held
from panoforge.core.types import Labels, Rgb
from panoforge.eval.interactive.edges import EdgeFollower
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.following.edges import EdgeFollowing
from panoforge.eval.interactive.following.truth import TruthFollowing
from panoforge.eval.interactive.serve.library import Library
from panoforge.eval.interactive.serve.predictors import (
    Answering,
    Predictors,
    Steps,
    edges_build,
    sample_build,
)
from panoforge.eval.interactive.serve.server import PanoServer
from panoforge.eval.interactive.serve.studio import Studio
from panoforge.eval.interactive.true_ids import TrueIds

if TYPE_CHECKING:
    from panoforge.eval.interactive.segment_image import Loaded

NEAR = "near"  # the page's own method
PAGE_PREDICTORS = ("sam2", "demo", "truth", "edges")
SAMPLE = "sample"  # what answers where nothing was asked for: no word of a command
DEMO_CHECKPOINT = Path("runs/demo/checkpoints/model.pt")
DEMO_MODEL = ("model.size=tiny", "model.image_size=256")


@dataclass(frozen=True)
class Asked:
    """What is served. `predictor` None takes SAM2 where there is a checkpoint, else edges.

    `method` None is one view near the clicks for SAM2, and a scan for ground truth.
    Without a place it is pictures that are dropped; `with_sample` adds the sample room.
    """

    place: Path | None = None
    work: Path | None = None
    predictor: str | None = None
    checkpoint: Path | None = None
    model: str | None = None
    method: str | None = None
    overrides: tuple[str, ...] = ()
    labels: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    max_upload_bytes: int = 64 * 10**6
    video: bool = False

    @property
    def work_folder(self) -> Path:
        """Where the work goes: beside the place, never in it."""
        if self.work is not None:
            return self.work
        if self.place is None:
            return Path("pano-annotations")
        place = self.place.absolute()
        name = place.stem if place.is_file() else place.name
        return place.with_name(f"{name}.annotations")


Others = Mapping[str, Callable[[Asked], Predictors]]
NONE: Others = {}


def with_sample(asked: Asked) -> Asked:
    """The sample room of the package where no place is named; its own ids answer clicks."""
    if asked.place is not None or asked.video or asked.labels is not None:
        return asked
    plain = not (asked.predictor or asked.checkpoint or asked.model or asked.overrides)
    predictor = SAMPLE if plain else asked.predictor
    return replace(asked, place=ROOM, work=asked.work_folder, predictor=predictor)


def predictors_of(asked: Asked, others: Others = NONE) -> Predictors:
    """What answers clicks; `others` are predictors that this package does not know, by name.

    Raises:
        UsageError: there is no such predictor, or something is missing for it.
    """
    name = asked.predictor or ("sam2" if asked.checkpoint else "edges")
    if name == SAMPLE and asked.place == ROOM:
        return Predictors(sample_build, TrueIds.words, EdgeFollowing())
    if name in others:
        return others[name](asked)
    if name not in PAGE_PREDICTORS:
        known = ", ".join((*PAGE_PREDICTORS, *others))
        raise UsageError(f"--predictor {name}: expected one of {known}")
    if name == "edges":
        _refuse_unused(asked)
        return Predictors(edges_build, EdgeFollower.words, EdgeFollowing())
    checkpoint, words, size = asked.checkpoint, asked.overrides, asked.model
    if name == "demo":
        checkpoint = checkpoint or DEMO_CHECKPOINT
        if not checkpoint.exists():
            raise UsageError(f"{checkpoint} does not exist: run `pano demo` first")
        name, words = "sam2", (*DEMO_MODEL, *words)
    from panoforge.eval.interactive.segment_image import load_predictor
    from panoforge.eval.interactive.segmenter import PanoramaSegmenter

    near = name == "sam2" and asked.method in (None, NEAR)
    loaded = load_predictor(
        name, checkpoint, "scan" if near else asked.method or "scan", words, size
    )
    if near:
        return _near(loaded)

    def build(rgb: Rgb, labels: Labels | None, steps: Steps) -> Answering:
        segmenter = PanoramaSegmenter(rgb, loaded.config, loaded.predictor, labels, steps)
        segmenter.warm()
        return segmenter

    return Predictors(build, loaded.words, _following(loaded), loaded.config.methods[0])


def _near(loaded: "Loaded") -> Predictors:
    """SAM2 on one view near the clicks."""
    from panoforge.eval.interactive.near import FOV_DEG, NearSegmenter
    from panoforge.eval.interactive.segmenter import KeptFeatures

    sam2 = loaded.predictor
    assert isinstance(sam2, KeptFeatures)
    size_px = int(sam2.model.image_size)

    def build(rgb: Rgb, labels: Labels | None, steps: Steps) -> Answering:
        return NearSegmenter(rgb, sam2, size_px)

    words = f"{loaded.words}, one view of {FOV_DEG:.0f}° around the clicks"
    return Predictors(build, words, _following(loaded), NEAR)


def _following(loaded: "Loaded") -> Following:
    """What carries masks through videos with a predictor's weights."""
    from panoforge.eval.interactive.segmenter import KeptFeatures

    if not isinstance(loaded.predictor, KeptFeatures):
        return TruthFollowing()
    from panoforge.eval.interactive.following.model import ModelFollowing
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2

    model = loaded.predictor.model
    one_by_one = BatchedSam2(model, encode_batch=1)  # the view turns between two frames
    return ModelFollowing(one_by_one, int(model.image_size), loaded.words)


def _refuse_unused(asked: Asked) -> None:
    """UsageError for what following edges has no use for."""
    given = {"--checkpoint": asked.checkpoint, "--model": asked.model, "--labels": asked.labels}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} {value} means nothing to --predictor edges: leave it out")
    if asked.overrides:
        raise UsageError(f"{asked.overrides[0]} means nothing to --predictor edges: leave it out")


def _labels(path: Path) -> Labels:
    from panoforge.eval.interactive.segment_image import read_labels

    return read_labels(path)


@contextlib.contextmanager
def opened(asked: Asked, others: Others = NONE) -> Iterator[PanoServer]:
    """A server that is ready to serve. The work folder is held for as long.

    Raises:
        InUse: another server works in that folder.
        UsageError: the words are wrong.
        DataError: the place holds no pictures.
    """
    labels = _labels(asked.labels) if asked.labels else None
    if labels is not None and not (asked.place and asked.place.is_file()):
        raise UsageError("--labels are of one picture: give that picture, not a folder")
    predictors = predictors_of(asked, others)
    with held(asked.work_folder, "pano serve"):
        library = Library(asked.place, asked.work_folder, labels, video=asked.video)
        with (
            Studio(library, predictors) as studio,
            PanoServer(studio, asked.host, asked.port, asked.max_upload_bytes) as server,
        ):
            yield server
