"""Metrics of two masks, by name."""

from collections.abc import Callable
from importlib import import_module

from panoforge.core.errors import UsageError, nearest
from panoforge.core.types import Bools

_HOMES = {
    "iou": ("region", "jaccard"),
    "boundary_f": ("boundary", "boundary_f"),
    "j_and_f": ("boundary", "j_and_f"),
    "iou_sphere": ("sphere", "jaccard_sphere"),
    "boundary_f_sphere": ("sphere", "boundary_f_sphere"),
}
METRICS = tuple(_HOMES)


def metric(name: str) -> Callable[[Bools, Bools], float]:
    """A metric of two masks, by its name.

    `iou` is DAVIS's J: both empty counts as 1. `boundary_f` is DAVIS's F with the seam closed, and
    `j_and_f` their mean. `iou_sphere` and `boundary_f_sphere` weigh pixels by their solid angle.

    Args:
        name: One of `panoforge.METRICS`.

    Returns:
        A function of a predicted and a true mask, both bool H×W; it gives a number in [0, 1].

    Raises:
        UsageError: There is no metric of that name; the message names the nearest.

    Example:
        >>> import numpy as np
        >>> import panoforge
        >>> true = np.zeros((64, 128), bool)
        >>> true[20:40, 30:50] = True
        >>> half = true.copy()
        >>> half[20:30] = False
        >>> panoforge.metric("iou")(half, true)
        0.5
        >>> panoforge.METRICS
        ('iou', 'boundary_f', 'j_and_f', 'iou_sphere', 'boundary_f_sphere')
    """
    if name not in _HOMES:
        raise UsageError(
            f"no metric is called {name!r}: {', '.join(METRICS)}.{nearest(name, METRICS)}"
        )
    module, function = _HOMES[name]
    found: Callable[[Bools, Bools], float] = getattr(
        import_module(f"panoforge.eval.scoring.metrics.{module}"), function
    )
    return found
