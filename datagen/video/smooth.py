"""Smooth functions of time from a few random numbers. Imports no bpy.

Uniform cubic B-splines (de Boor 1978): their second derivative is continuous, and what they give
lies in the convex hull of four neighbouring control values. So do their slopes: no speed is beyond
the fastest way between two neighbouring control points.
"""

import numpy as np
from numpy.typing import NDArray

_SWAYS_HZ = (0.4, 1.1, 2.3)  # of somebody who walks with a camera: steps, and slower


def b_spline(controls: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spline of control values at positions along it.

    Args:
        controls: float64 (N, K) or (N,), N ≥ 4.
        at: float64 (T,), from 0 to N − 3; a whole number is a knot.

    Returns:
        float64 (T, K) or (T,).
    """
    first = np.clip(np.floor(at).astype(int), 0, len(controls) - 4)
    t = (at - first).reshape(-1, *[1] * (controls.ndim - 1))
    a, b, c, d = (controls[first + k] for k in range(4))
    return (
        (1 - t) ** 3 * a
        + (3 * t**3 - 6 * t**2 + 4) * b
        + (-3 * t**3 + 3 * t**2 + 3 * t + 1) * c
        + t**3 * d
    ) / 6


def controls_for(seconds: float, interval_s: float) -> int:
    """How many control values a spline over that time has."""
    return int(np.ceil(seconds / interval_s + 1e-9)) + 4


def wandering(
    rng: np.random.Generator,
    times_s: NDArray[np.float64],
    greatest_rate: float,
    interval_s: float = 1.0,
) -> NDArray[np.float64]:
    """A value from 0 that wanders at rates within ±`greatest_rate` a second; (T,) of `times_s`."""
    count = controls_for(float(times_s[-1]), interval_s)
    steps = rng.uniform(-greatest_rate, greatest_rate, count) * interval_s
    values = b_spline(np.cumsum(steps), times_s / interval_s)
    return values - values[0]


def swaying(
    rng: np.random.Generator, times_s: NDArray[np.float64], largest: float
) -> NDArray[np.float64]:
    """A value that sways within ±`largest`, as of a camera in a hand; (T,) like `times_s`."""
    share = rng.dirichlet(np.ones(len(_SWAYS_HZ)))
    phase = rng.uniform(0, 2 * np.pi, len(_SWAYS_HZ))
    rate = 2 * np.pi * np.array(_SWAYS_HZ) * rng.uniform(0.8, 1.2, len(_SWAYS_HZ))
    return largest * (share * np.sin(times_s[:, None] * rate + phase)).sum(axis=1)
