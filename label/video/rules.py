"""How a video is labelled: the values of all phases."""

from pydantic import Field

from panoforge.core.models import FrozenModel, Positive, Probability
from panoforge.label.video.continuity import ContinuityRules
from panoforge.label.video.proposals import CandidateRules
from panoforge.label.video.shifting import ShiftRules


class VideoRules(FrozenModel):
    """How a video is labelled; the values are A3360V's where it has one."""

    keyframes_hz: float = Field(
        5.0, description="Keyframes of a second of video, on which coverage is taken."
    )
    max_objects: Positive = Field(63, description="At most so many ids in a video.")
    tolerance: Probability = Field(
        0.002, description="Blank areas up to this share of the sphere are let be."
    )
    merge_iou: Probability = Field(
        0.5, description="IoU from which masks of one label that were carried along are one object."
    )
    backfill: bool = Field(
        True, description="Carry a new object back to the keyframe before it was found."
    )
    sdr: bool = Field(
        True, description="Refine masks by shifted prompts (SDR); false takes them as they are."
    )
    propagation: bool = Field(
        True, description="Carry objects along; false labels each frame by itself, to compare."
    )
    mcr: bool = Field(True, description="Ask the teachers again where a keyframe has blank areas.")
    candidates: CandidateRules = Field(
        CandidateRules(), description="When proposals of teachers are one thing, or too little."
    )
    shifts: ShiftRules = Field(
        ShiftRules(), description="How prompts are shifted, and which answer is taken."
    )
    continuity: ContinuityRules = Field(
        ContinuityRules(), description="When a proposal is a known object, a part of one, or new."
    )
