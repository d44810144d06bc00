"""What an evaluation is: methods, prompts, predictor, which instances count. No torch here, so that
`pano config` is quick.

`EvalConfig` holds everything that `panoforge.eval.run` needs but the two folders. The part of
it that defines *what is measured* (`protocol`) is hashed into a protocol id: two results are
comparable only if their ids are equal. What is measured *on* (dataset, weights) and *with* (device,
time budget of the report) is recorded beside it, not in it.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from panoforge.core.geometry.scan import Trajectory
from panoforge.core.models import FrozenModel
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.location import LocalPath

PROTOCOL_VERSION = 3

MethodName = Literal[
    "direct",
    "direct_pad",
    "erp_patches",
    "cubemap",
    "scan",
    "scan_no_overlap",
    "scan_bidirectional",
    "scan_zoom",
    "scan_row_first",
    "scan_spiral",
    "scan_random",
]
BenchmarkName = Literal[
    "folder",
    "hunyuanworld",
    "leader360v",
    "panovos",
    "pavsod",
    "pavsodr",
    "stanford2d3d",
    "structured3d",
    "360vos",
    "360vot",
]
PromptKind = Literal["click", "box", "mask"]
PredictorName = Literal["sam2", "ground_truth", "empty"]
Positive = Annotated[int, Field(gt=0)]


class ScanConfig(FrozenModel):
    """The virtual camera. `size_px` is the size of the square views, or null for the model's own
    input size.
    """

    fov_deg: Annotated[float, Field(ge=20, le=120)] = 90.0
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    size_px: Positive | None = None
    yaw0_deg: float = 0.0
    trajectory: Trajectory = "column_first"


class ZoomConfig(FrozenModel):
    """`scan_zoom`'s second look. Instances whose BFoV is wider than `max_fov_deg` stay as the scan
    left them. `margin` is the view's width over the BFoV's, `trim` the share of a mask's solid
    angle that may stick out on each side; the view's sides differ at most by `max_aspect` (a longer
    one is squeezed into the model's square). An instance that the scan lost is looked for in
    `lost_fov_deg` around its first click. The BFoV is that of the pieces above `reach_logit` that
    hold some of the mask, or of the mask alone where those are too wide. At most `more_looks`
    follow, one from another; what is `thin` to more than that share is looked at in tiles,
    `tile_fov_deg` wide. `prompt`: what a look is told of the answer so far and of the prompt.
    """

    max_fov_deg: Annotated[float, Field(gt=0, le=90)] = 75.0
    min_fov_deg: Annotated[float, Field(gt=0, le=90)] = 4.0
    lost_fov_deg: Annotated[float, Field(gt=0, le=90)] = 16.0
    margin: Annotated[float, Field(ge=1, le=4)] = 1.25
    max_aspect: Annotated[float, Field(ge=1, le=8)] = 2.0
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.002
    reach_logit: Annotated[float, Field(lt=0)] = -8.0
    more_looks: Annotated[int, Field(ge=0, le=8)] = 4
    thin: Annotated[float, Field(ge=0, le=1)] = 0.25
    tile_fov_deg: Annotated[float, Field(gt=0, le=90)] = 16.0
    prompt: Annotated[tuple[Literal["mask", "box", "click"], ...], Field(min_length=1)] = (
        "mask",
        "click",
    )


class PromptConfig(FrozenModel):
    """How every instance is prompted (`panoforge.eval.segmentation.prompts`). One click is SAP's
    protocol. `file` takes prompts and instances from a prompts.json instead
    (`panoforge.eval.segmentation.promptfile`).
    """

    kind: PromptKind = "click"
    clicks: Literal[1, 3, 5] = 1
    file: LocalPath | None = None

    def protocol(self) -> dict[str, object]:
        """What the scores depend on: the rule, or the file's content."""
        if self.file is None:
            return {"kind": self.kind, "clicks": self.clicks if self.kind == "click" else None}
        with storage_errors(self.file):
            return {"kind": "file", "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest()}


class InstanceConfig(FrozenModel):
    """Which instances are scored. `max_per_panorama` draws that many (seeded) to keep within a time
    budget; null takes all.
    """

    min_pixels: Positive = 64
    min_area_sr: Annotated[float, Field(ge=0)] = 0.0
    skip_flags: tuple[str, ...] = ()
    max_per_panorama: Positive | None = None


class ModelConfig(FrozenModel):
    """Which SAM2. `checkpoint` is an official SAM2.1 file or one of ours, or `random`: weights
    drawn from `seed`, to try the path without a model (a file of that name is ./random).
    """

    size: Literal["micro", "tiny", "small", "base_plus", "large"] = "large"
    image_size: Annotated[int, Field(ge=64, multiple_of=32)] = 1024
    checkpoint: Annotated[
        Literal["random"] | LocalPath | None, Field(union_mode="left_to_right")
    ] = None

    @property
    def checkpoint_file(self) -> Path | None:
        """The file of the weights; None where they are random."""
        return self.checkpoint if isinstance(self.checkpoint, Path) else None


class MergeConfig(FrozenModel):
    """Logits are clamped to ±`clamp` before the weighted mean: SAM2 says −1024 where it believes an
    object absent, and one such frame would outvote all others.
    """

    clamp: Annotated[float, Field(gt=0)] = 10.0


class EvalConfig(FrozenModel):
    """One evaluation; which dataset and where the results go is said beside it
    (`panoforge.eval.run.run_evaluation`). `benchmark` and `root` take somebody else's data
    instead of the dataset (`panoforge.eval.benchmarks`).
    """

    methods: Annotated[tuple[MethodName, ...], Field(min_length=1)] = ("direct", "scan")
    predictor: PredictorName = "sam2"
    scan: ScanConfig = ScanConfig()
    zoom: ZoomConfig = ZoomConfig()
    prompts: PromptConfig = PromptConfig()
    instances: InstanceConfig = InstanceConfig()
    model: ModelConfig = ModelConfig()
    merge: MergeConfig = MergeConfig()
    benchmark: BenchmarkName | None = None
    root: LocalPath | None = None
    split: str | None = None
    max_panoramas: Positive | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    report_panoramas: Annotated[int, Field(ge=0)] = 24

    @property
    def view_size_px(self) -> int:
        """Size of the scan's views in pixels."""
        return self.scan.size_px or self.model.image_size

    def protocol(self) -> dict[str, object]:
        """What is measured, independent of data and weights: the input of the protocol id."""
        return {
            "version": PROTOCOL_VERSION,
            "prompts": self.prompts.protocol(),
            "instances": self.instances.model_dump(mode="json"),
            "instance_draw_seed": self.seed if self.instances.max_per_panorama else None,
            "scan": {**self.scan.model_dump(mode="json"), "size_px": self.view_size_px},
            "zoom": self.zoom.model_dump(mode="json"),
            "image_size": self.model.image_size,
            "merge": self.merge.model_dump(mode="json"),
            "average": "IoU per instance on the panorama; mean over instances; both empty = 1",
        }

    def protocol_id(self) -> str:
        """Short name of the protocol: two results may be compared only if theirs are equal."""
        digest = hashlib.sha256(json.dumps(self.protocol(), sort_keys=True).encode()).hexdigest()
        view = f"fov{self.scan.fov_deg:g}-overlap{self.scan.overlap:g}-view{self.view_size_px}"
        rule = f"click{self.prompts.clicks}" if self.prompts.kind == "click" else self.prompts.kind
        prompts = "file" if self.prompts.file else rule
        return f"{prompts}-{view}-model{self.model.image_size}-{digest[:10]}"
