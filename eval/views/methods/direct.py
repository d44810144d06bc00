"""`direct`: the whole panorama resized into the model as one picture.

The baseline that everything is measured against. `direct_pad` does the same with black bars above
and below, so that shapes keep their proportions.
"""

from panoforge.eval.config import EvalConfig
from panoforge.eval.views.frames import ErpFrame
from panoforge.eval.views.methods.base import Method, Plan


def plan_direct(width: int, height: int, config: EvalConfig) -> Plan:
    """The whole panorama as one picture."""
    return Plan((ErpFrame(0, 0, width, height, width, height),), video=False)


def plan_direct_pad(width: int, height: int, config: EvalConfig) -> Plan:
    """The same, padded to a square."""
    return Plan(
        (ErpFrame(0, 0, width, height, width, height, pad=(width - height) // 2),), video=False
    )


METHODS = (
    Method("direct", "the panorama squeezed into the model's square input", plan_direct),
    Method("direct_pad", "the panorama letterboxed into the model's square input", plan_direct_pad),
)
