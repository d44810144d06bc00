"""One panorama, one method, one predictor → masks.

Sample the frames, project the prompts, predict, merge.

This is the whole path that a score goes through; `panoforge.eval.evaluate` calls it for every row
of the table and `pano segment` can call it on a single picture. Frames of one video are predicted
together, the frames of a method that is no video one by one, with those objects only that are
prompted in the frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.views import wrap_panorama
from panoforge.eval.config import MergeConfig
from panoforge.eval.masks import Masks
from panoforge.eval.predictors import FrameInput, ObjectPrompt, Predictor
from panoforge.eval.segmentation.prompts import InstancePrompt, project_prompts
from panoforge.eval.segmentation.reach import within_reach
from panoforge.eval.segmentation.zoom import second_looks
from panoforge.eval.views.merge import FrameLogits, merge_masks
from panoforge.eval.views.methods.base import Plan


@dataclass(frozen=True)
class PanoramaInput:
    """What is segmented: `rgb` uint8 H×W×3 and the true `labels` uint16 H×W."""

    key: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]

    @property
    def width(self) -> int:
        """Columns of the panorama."""
        return self.labels.shape[1]

    @property
    def height(self) -> int:
        """Rows of the panorama."""
        return self.labels.shape[0]


def frame_inputs(panorama: PanoramaInput, plan: Plan) -> list[FrameInput]:
    """The frames of a plan: colour interpolated, labels not."""
    rgb, labels = wrap_panorama(panorama.rgb), wrap_panorama(panorama.labels)
    return [FrameInput(p.sample(rgb), p.sample(labels, labels=True)) for p in plan.projections]


def segment(
    panorama: PanoramaInput,
    plan: Plan,
    inputs: Sequence[FrameInput],
    prompts: Sequence[InstancePrompt],
    predictor: Predictor,
    merge: MergeConfig,
) -> Masks:
    """The masks of the prompted instances, in the order of `prompts`."""
    objects = project_prompts(prompts, plan.projections)
    if plan.video and plan.reach_deg is not None:
        objects = within_reach(objects, plan.projections, plan.reach_deg)
    said = predict_frames(plan, inputs, objects, predictor)
    looks = (
        []
        if plan.zoom is None
        else second_looks(
            wrap_panorama(panorama.rgb),
            wrap_panorama(panorama.labels),
            plan.projections,
            said,
            prompts,
            predictor,
            plan.zoom,
            size_px=plan.zoom_size_px,
            merge=merge,
        )
    )
    return merge_masks(
        plan.projections,
        said,
        len(objects),
        panorama.width,
        panorama.height,
        rule=merge.rule,
        clamp=merge.clamp,
        looks=looks,
    )


def predict_frames(
    plan: Plan, inputs: Sequence[FrameInput], objects: Sequence[ObjectPrompt], predictor: Predictor
) -> list[FrameLogits]:
    """What the predictor says of a plan's frames; frames are numbered as in `inputs`."""
    if not plan.video:
        return list(_predict_singly(inputs, objects, predictor))
    logits = list(_predict_cycles(inputs, objects, predictor, plan.cycles))
    if plan.bidirectional:
        logits += _predict_backwards(inputs, objects, predictor, plan.cycles)
    return logits


def _predict_cycles(
    inputs: Sequence[FrameInput],
    objects: Sequence[ObjectPrompt],
    predictor: Predictor,
    cycles: int,
) -> Iterator[FrameLogits]:
    """The video shown `cycles` times as one, prompted in each: memory goes on from one to the next.

    Only the last cycle's masks are given, whose every frame has seen the whole panorama before.
    """
    length = len(inputs)
    again = [prompt.repeated(length, cycles) for prompt in objects] if cycles > 1 else objects
    for said in predictor.predict([*inputs] * cycles, again):
        if said.frame >= (cycles - 1) * length:
            yield replace(said, frame=said.frame - (cycles - 1) * length)


def _predict_backwards(
    inputs: Sequence[FrameInput],
    objects: Sequence[ObjectPrompt],
    predictor: Predictor,
    cycles: int,
) -> Iterator[FrameLogits]:
    """The video from its last frame to its first; frames are numbered as in `inputs`."""
    last = len(inputs) - 1
    mirror = {t: last - t for t in range(len(inputs))}
    mirrored = [prompt.renumbered(mirror) for prompt in objects]
    for said in _predict_cycles(inputs[::-1], mirrored, predictor, cycles):
        yield replace(said, frame=last - said.frame)


def _predict_singly(
    inputs: Sequence[FrameInput], objects: Sequence[ObjectPrompt], predictor: Predictor
) -> Iterator[FrameLogits]:
    """Every frame as a picture of its own.

    A predictor sees one frame, number 0, and the objects prompted in it.
    """
    for index, frame in enumerate(inputs):
        here = [k for k, prompt in enumerate(objects) if index in prompt.frames()]
        alone = [objects[k].renumbered({index: 0}) for k in here]
        for said in predictor.predict([frame], alone):
            yield FrameLogits(index, np.asarray(here, np.int64)[said.objects], said.logits)
