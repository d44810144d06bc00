"""What an evaluation is: methods, prompts, predictor, which instances count.

No torch here, so that `pano config` is quick.

`EvalConfig` holds everything that `panoforge.eval.run` needs but the two folders. The part of
it that defines *what is measured* (`protocol`) is hashed into a protocol id: two results are
comparable only if their ids are equal. What is measured *on* (dataset, weights) and *with* (device,
time budget of the report) is recorded beside it, not in it.
"""

import hashlib
import json
from collections.abc import Iterator
from math import radians, tan
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from panoforge.core.config.needed import Needed
from panoforge.core.foreign.files import read_bytes
from panoforge.core.geometry.scan import Trajectory
from panoforge.core.models import FrozenModel, Positive
from panoforge.core.storage.location import LocalPath
from panoforge.eval.dense_config import DenseConfig
from panoforge.train.settings.sam2 import Sam2Settings

PROTOCOL_VERSION = 4

MethodName = Literal[
    "direct",
    "direct_pad",
    "erp_patches",
    "cubemap",
    "scan",
    "scan_no_overlap",
    "scan_least_overlap",
    "scan_bidirectional",
    "scan_zoom",
    "scan_row_first",
    "scan_spiral",
    "scan_random",
]
BenchmarkName = Literal[
    "folder",
    "held_out_video",
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
PredictorName = Literal["sam2", "ground_truth", "empty", "file"]
MergeRule = Literal["mean", "max"]


class ScanConfig(FrozenModel):
    """The virtual camera.

    `size_px` is the size of the square views, or null for the model's own input size.
    """

    fov_deg: Annotated[
        float, Field(ge=20, le=120, description="Field of view of the square views.")
    ] = 90.0
    overlap: Annotated[
        float, Field(ge=0, le=0.9, description="Least share of a view that the next one shows too.")
    ] = 0.5
    size_px: Annotated[
        Positive | None, Field(description="Size of the views; null is the model's input size.")
    ] = None
    yaw0_deg: Annotated[float, Field(description="Yaw of the first column.")] = 0.0
    trajectory: Annotated[Trajectory, Field(description="The order of the views.")] = "column_first"
    cycles: Annotated[
        Literal[1, 2],
        Field(
            description="How often a video of views is run; the last run's masks count (SAP: 2)."
        ),
    ] = 1
    reach_deg: Annotated[
        Annotated[float, Field(ge=0, le=180)] | None,
        Field(
            description="Views further than this from an instance's prompts are not asked about it,"
            " which saves most of the time; null asks all (SAP)."
        ),
    ] = None


class ZoomConfig(FrozenModel):
    """`scan_zoom`'s second look.

    Instances whose BFoV is wider than `max_fov_deg` stay as the scan left them. `margin` is the
    view's width over the BFoV's, `trim` the share of a mask's solid angle that may stick out on
    each side. The view's sides differ at most by `max_aspect`; a longer one is squeezed into the
    model's square. An instance that the scan lost is looked for in `lost_fov_deg` around its first
    click. The BFoV is that of the pieces above `reach_logit` that hold some of the mask, or of the
    mask alone where those are too wide. At most `more_looks` follow, one from another; what is
    `thin` to more than that share is looked at in tiles, `tile_fov_deg` wide. `prompt`: what a look
    is told of the answer so far and of the prompt.
    """

    max_fov_deg: Annotated[
        float,
        Field(
            gt=0,
            le=90,
            description="Instances with a wider bounding field of view stay as the scan left them.",
        ),
    ] = 75.0
    min_fov_deg: Annotated[
        float, Field(gt=0, le=90, description="The narrowest view of a second look.")
    ] = 4.0
    lost_fov_deg: Annotated[
        float,
        Field(
            gt=0,
            le=90,
            description="View around the first click of an instance that the scan lost.",
        ),
    ] = 16.0
    margin: Annotated[
        float,
        Field(ge=1, le=4, description="Width of the view over that of the bounding field of view."),
    ] = 1.25
    max_aspect: Annotated[
        float, Field(ge=1, le=8, description="How far the sides of a view may differ.")
    ] = 2.0
    trim: Annotated[
        float,
        Field(
            ge=0,
            lt=0.5,
            description="Share of a mask's solid angle that may stick out on each side.",
        ),
    ] = 0.002
    reach_logit: Annotated[
        float,
        Field(lt=0, description="Logit above which pieces around the mask are looked at too."),
    ] = -8.0
    more_looks: Annotated[
        int, Field(ge=0, le=8, description="Looks that may follow the first.")
    ] = 4
    thin: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of thin parts above which an instance is looked at in tiles.",
        ),
    ] = 0.25
    tile_fov_deg: Annotated[float, Field(gt=0, le=90, description="Width of such a tile.")] = 16.0
    prompt: Annotated[
        tuple[Literal["mask", "box", "click"], ...],
        Field(
            min_length=1, description="What a look is told of the answer so far and of the prompt."
        ),
    ] = (
        "mask",
        "click",
    )


class PromptConfig(FrozenModel):
    """How every instance is prompted (`panoforge.eval.segmentation.prompts`).

    One click is SAP's protocol. `file` takes prompts and instances from a prompts.json instead
    (`panoforge.eval.segmentation.promptfile`).
    """

    kind: Annotated[PromptKind, Field(description="What every instance is prompted with.")] = (
        "click"
    )
    clicks: Annotated[
        Literal[1, 3, 5], Field(description="How many clicks; one is SAP's protocol.")
    ] = 1
    corrected: Annotated[
        tuple[Annotated[int, Field(ge=2, le=10)], ...],
        Field(description="Scores at so many clicks too, the later ones where it is most wrong."),
    ] = ()
    file: Annotated[
        LocalPath | None,
        Field(description="A prompts.json to take prompts and instances from instead."),
    ] = None

    @model_validator(mode="after")
    def _corrects_one_click(self) -> Self:
        if self.corrected and (self.kind != "click" or self.clicks != 1 or self.file is not None):
            raise ValueError(
                f"prompts.corrected {list(self.corrected)} adds clicks to a first one: it needs"
                " kind: click, clicks: 1 and no file"
            )
        if list(self.corrected) != sorted(set(self.corrected)):
            raise ValueError(
                f"prompts.corrected {list(self.corrected)} must ascend: each is a column of its own"
            )
        return self

    def protocol(self) -> dict[str, object]:
        """What the scores depend on: the rule, or the file's content."""
        if self.file is None:
            further = {"corrected": self.corrected} if self.corrected else {}
            clicks = self.clicks if self.kind == "click" else None
            return {"kind": self.kind, "clicks": clicks, **further}
        return {"kind": "file", "sha256": hashlib.sha256(read_bytes(self.file)).hexdigest()}


class InstanceConfig(FrozenModel):
    """Which instances are scored.

    `max_per_panorama` draws that many (seeded) to keep within a time budget; null takes all.
    """

    min_pixels: Annotated[Positive, Field(description="Smaller instances are not scored.")] = 64
    min_area_sr: Annotated[
        float, Field(ge=0, description="Instances of a smaller solid angle are not scored.")
    ] = 0.0
    skip_flags: Annotated[
        tuple[str, ...], Field(description="Instances with one of these flags are not scored.")
    ] = ()
    max_per_panorama: Annotated[
        Positive | None,
        Field(description="Draw at most this many of a panorama, by the seed; null scores all."),
    ] = None


class ModelConfig(Sam2Settings):
    """Which SAM2.

    `checkpoint` is an official SAM2.1 file or one of ours, or `random`: weights drawn from `seed`,
    to try the path without a model (a file of that name is ./random).
    """

    checkpoint: Annotated[
        Literal["random"] | LocalPath | None,
        Field(
            union_mode="left_to_right",
            description="The weights: a file, official or of pano train, or the word random.",
        ),
    ] = None

    @field_serializer("checkpoint", when_used="json")
    def _file_or_word(self, checkpoint: str | Path | None) -> str | None:
        """A file called random is recorded as ./random, as it is written."""
        if isinstance(checkpoint, Path):
            return "./random" if str(checkpoint) == "random" else str(checkpoint)
        return checkpoint

    @property
    def checkpoint_file(self) -> Path | None:
        """The file of the weights; None where they are random."""
        return self.checkpoint if isinstance(self.checkpoint, Path) else None


class MergeConfig(FrozenModel):
    """How frames that see the same pixel are made one.

    `mean`: by the mean of their logits, weighted by nearness to the frame's centre. `max`: by the
    largest logit, SAP's per-pixel maximum of masks. Logits are clamped to ±`clamp` first: SAM2 says
    −1024 where it believes an object absent, and in a mean one such frame would outvote all others.
    """

    rule: Annotated[
        MergeRule, Field(description="Mean of the frames' logits, or their maximum (SAP).")
    ] = "mean"
    clamp: Annotated[
        float, Field(gt=0, description="Logits are clamped to ± this before they are merged.")
    ] = 10.0


class VideoConfig(FrozenModel):
    """How videos are followed (benchmarks of videos only)."""

    search: Annotated[
        Literal["whole", "bfov", "scan"],
        Field(
            description="What is shown: the whole panorama, of each object a view fitted to its"
            " last mask, or the views of a scan of every frame."
        ),
    ] = "whole"
    margin: Annotated[
        float,
        Field(ge=1, le=8, description="bfov: width of the view over that of the mask's BFoV."),
    ] = 2.0
    share: Annotated[
        float,
        Field(
            ge=1,
            le=8,
            description="bfov: objects close together share a view at most so many times as wide as"
            " their own; 1: each has its own.",
        ),
    ] = 1.0
    memory: Annotated[
        Literal["sam2", "panosam2", "distractor_aware"] | None,
        Field(description="What objects remember; null is what the weights were trained with."),
    ] = None
    offload: Annotated[
        bool, Field(description="Memories wait in the host's memory: less of the GPU's, slower.")
    ] = False

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        for key in ("margin", "share"):
            value = getattr(self, key)
            if self.search != "bfov" and value != type(self).model_fields[key].default:
                raise ValueError(
                    f"video.{key} is {value}, and search: {self.search} does not read it: set"
                    f" search to bfov, or leave {key} out"
                )
        return self

    def protocol(self, scan: ScanConfig, merge: MergeConfig) -> dict[str, object]:
        """What the scores depend on; empty for SAM2's own way, so that its ids stay.

        `scan` and `merge` are of it where frames are scanned.
        """
        found = self.model_dump(mode="json", exclude={"offload"}, exclude_defaults=True)
        if self.search == "scan":
            found |= {"scan": scan.model_dump(mode="json"), "merge": merge.model_dump(mode="json")}
        return {"video": found} if found else {}


_OF_MASKS = (
    "methods",
    "predictor",
    "predictions",
    "scan",
    "zoom",
    "prompts",
    "instances",
    "model",
    "merge",
    "video",
)  # keys of task: masks


class EvalConfig(FrozenModel):
    """One evaluation.

    Which dataset and where the results go is said beside it (`panoforge.eval.run.run_evaluation`).
    `benchmark` and `root` take somebody else's data instead of the dataset
    (`panoforge.eval.benchmarks`).
    """

    task: Annotated[
        Literal["masks", "dense"],
        Field(description="Masks of prompted objects, or maps of every pixel (section dense)."),
    ] = "masks"
    dense: Annotated[
        DenseConfig, Field(description="What task: dense scores, and who predicts it.")
    ] = DenseConfig()
    methods: Annotated[
        tuple[MethodName, ...],
        Field(
            min_length=1,
            description="Ways to show a panorama to the model, each a row of the table.",
        ),
    ] = ("direct", "scan")
    predictor: Annotated[
        PredictorName,
        Field(
            description="What is scored: SAM2, the ground truth, no masks at all, or another tool's"
            " masks (predictions)."
        ),
    ] = "sam2"
    predictions: Annotated[
        LocalPath | None,
        Field(
            description="Of predictor file: its masks, a JSON list in the form of COCO's results,"
            " by the keys and ids of prompts.json."
        ),
    ] = None
    scan: Annotated[ScanConfig, Field(description="The virtual camera that scans the sphere.")] = (
        ScanConfig()
    )
    zoom: Annotated[ZoomConfig, Field(description="The second look of scan_zoom.")] = ZoomConfig()
    prompts: Annotated[PromptConfig, Field(description="How instances are prompted.")] = (
        PromptConfig()
    )
    instances: Annotated[InstanceConfig, Field(description="Which instances are scored.")] = (
        InstanceConfig()
    )
    model: Annotated[ModelConfig, Field(description="Which SAM2, with which weights.")] = (
        ModelConfig()
    )
    merge: Annotated[MergeConfig, Field(description="How views are merged.")] = MergeConfig()
    video: Annotated[VideoConfig, Field(description="How videos are followed.")] = VideoConfig()
    benchmark: Annotated[
        BenchmarkName | None,
        Field(description="Somebody else's data, found at root, instead of the dataset."),
    ] = None
    root: Annotated[LocalPath | None, Field(description="The folder of the benchmark.")] = None
    split: Annotated[str | None, Field(description="The split to score; null is all.")] = None
    max_panoramas: Annotated[
        Positive | None, Field(description="Score the first so many; null is all.")
    ] = None
    seed: Annotated[
        int, Field(description="Decides random weights and which instances are drawn.")
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Where the model runs.")
    ] = "auto"
    report_panoramas: Annotated[
        int, Field(ge=0, description="Panoramas with pictures in the report.")
    ] = 24

    def needed(self) -> Iterator[Needed]:
        """What must be there before anything is loaded."""
        if self.task == "dense":
            if self.dense.predictor == "model":
                yield Needed("dense.checkpoint", self.dense.checkpoint)
            yield Needed("dense.predictions", self.dense.predictions, "a folder of predictions")
            return
        yield Needed("prompts.file", self.prompts.file, "a prompts.json")
        if self.predictor == "sam2":
            yield Needed("model.checkpoint", self.model.checkpoint_file)
        yield Needed("predictions", self.predictions, "a file of masks (JSON)")

    @model_validator(mode="after")
    def _masks_of_a_file_are_whole(self) -> Self:
        if (self.predictor == "file") != (self.predictions is not None):
            raise ValueError(
                "predictor: file and predictions go together: predictor=file predictions=FILE, the"
                " masks that another tool has given for prompts.json"
            )
        if self.predictor != "file":
            return self
        for key, value, wanted in (
            ("methods", [*self.methods], ["direct"]),
            ("prompts.corrected", [*self.prompts.corrected], []),
            ("model.checkpoint", self.model.checkpoint, None),
        ):
            if value != wanted:
                raise ValueError(
                    f"{key} is {value}, and predictor: file scores masks of whole panoramas as they"
                    f" are, of one answer each: set {key} to {'null' if wanted is None else wanted}"
                )
        return self

    @model_validator(mode="after")
    def _task_reads_its_own(self) -> Self:
        fresh = type(self).model_fields
        own = ("dense",) if self.task == "dense" else _OF_MASKS
        foreign = _OF_MASKS if self.task == "dense" else ("dense",)
        changed = [key for key in foreign if getattr(self, key) != fresh[key].default]
        if changed:
            raise ValueError(
                f"{changed[0]} is set, and task: {self.task} does not read it:"
                f" leave it out ({', '.join(own)} are read), or set task to"
                f" {'masks' if self.task == 'dense' else 'dense'}"
            )
        return self

    @model_validator(mode="after")
    def _reach_is_read(self) -> Self:
        others = [m for m in self.methods if not m.startswith(("scan", "direct"))]
        if self.scan.reach_deg is not None and (others or not self._scans()):
            named = others[0] if others else self.methods[0]
            raise ValueError(
                f"scan.reach_deg is {self.scan.reach_deg}, and {named} does not read it: only the"
                " views of a scan can be left out. Leave it out, or score that method in a run of"
                " its own"
            )
        return self

    def _scans(self) -> bool:
        return any(method.startswith("scan") for method in self.methods)

    @property
    def view_size_px(self) -> int:
        """Size of the scan's views in pixels."""
        return self.scan.size_px or self.model.image_size

    @property
    def view_px_per_radian(self) -> float:
        """Pixels of a scan's view to the radian at its middle: its focal length."""
        return self.view_size_px / 2 / tan(radians(self.scan.fov_deg) / 2)

    def protocol(self) -> dict[str, object]:
        """What is measured, independent of data and weights: the input of the protocol id."""
        return {
            "version": PROTOCOL_VERSION,
            "prompts": self.prompts.protocol(),
            "instances": self.instances.model_dump(mode="json"),
            "instance_draw_seed": self.seed if self.instances.max_per_panorama else None,
            "scan": self._scan_protocol(),
            "zoom": self.zoom.model_dump(mode="json"),
            "image_size": self.model.image_size,
            "merge": self.merge.model_dump(mode="json"),
            "average": "IoU per instance on the panorama; mean over instances; both empty = 1",
        }

    def _scan_protocol(self) -> dict[str, object]:
        """The scan; `reach_deg` where it is set, so that ids from before there was one stay."""
        scan = {**self.scan.model_dump(mode="json"), "size_px": self.view_size_px}
        if self.scan.reach_deg is None:
            del scan["reach_deg"]
        return scan

    def protocol_id(self) -> str:
        """Short name of the protocol: two results may be compared only if theirs are equal."""
        digest = hashlib.sha256(json.dumps(self.protocol(), sort_keys=True).encode()).hexdigest()
        view = f"fov{self.scan.fov_deg:g}-overlap{self.scan.overlap:g}-view{self.view_size_px}"
        rule = f"click{self.prompts.clicks}" if self.prompts.kind == "click" else self.prompts.kind
        prompts = "file" if self.prompts.file else rule
        return f"{prompts}-{view}-model{self.model.image_size}-{digest[:10]}"
