"""How sure a mean score is, and whether two methods differ.

Bootstrap intervals and paired tests, by panorama.

Instances of one panorama share its light, its clutter and its view: they are no independent
samples. What is drawn (with replacement) and what is flipped is always a whole panorama. Scores are
means over instances, so a resample is a ratio of sums, and ten thousand resamples are a few
gathers. Every draw comes from a seeded generator: the same scores give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.numbers import counted
from panoforge.core.types import Floats

RESAMPLES = 10_000
EXACT_PANORAMAS = 13  # up to here all 2ⁿ sign patterns are tried
_BATCH = 500


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    `low` and `high` are None where one panorama alone says nothing of the spread.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Mean of the differences with its interval, and its two-sided p-value.

    That is the probability of one as large if only chance decides in each panorama which of the two
    methods is which.
    """

    difference: Interval
    p_value: float
    panoramas: int


def bootstrap_mean(
    values: ArrayLike,
    panoramas: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over instances with its percentile bootstrap interval (Efron), panoramas resampled.

    (N,) values, N names.
    """
    sums, counts = _by_panorama(values, panoramas)
    mean, n = float(sums.sum() / counts.sum()), len(sums)
    if n < 2:
        return Interval(mean, None, None)
    rng, means = np.random.default_rng(seed), []
    for begin in range(0, resamples, _BATCH):
        drawn = rng.integers(0, n, (min(_BATCH, resamples - begin), n))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high))


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    panoramas: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """`second` against `first`, instance by instance (N,).

    Mean difference, interval, and the sign-flip permutation test.
    """
    difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    interval = bootstrap_mean(
        difference, panoramas, confidence=confidence, resamples=resamples, seed=seed
    )
    sums, _ = _by_panorama(difference, panoramas)
    return Paired(interval, _sign_flip_p(sums, resamples, seed), len(sums))


def _sign_flip_p(sums: Floats, resamples: int, seed: int) -> float:
    """Share of sign patterns whose sum is at least as far from 0.

    All of them where they are few, else drawn ones and the observed one.
    """
    n, observed = (
        len(sums),
        abs(sums.sum()) - 1e-12 * np.abs(sums).sum(),
    )  # patterns that tie but for rounding count
    if n <= EXACT_PANORAMAS:
        signs = 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ sums) >= observed))
    rng, reached = np.random.default_rng([seed, 1]), 1
    for begin in range(0, resamples, _BATCH):
        signs = 1.0 - 2 * rng.integers(0, 2, (min(_BATCH, resamples - begin), n))
        reached += int(np.count_nonzero(np.abs(signs @ sums) >= observed))
    return reached / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being several (Holm 1979), in the order given."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _by_panorama(values: ArrayLike, panoramas: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and number of the values of each panorama, (G,) each, by ascending name."""
    array = np.asarray(values, np.float64)
    if array.shape != (len(panoramas),) or not array.size:
        raise ValueError(
            f"one panorama name per value, and at least one: got values {array.shape} and"
            f" {counted(len(panoramas), 'name')}"
        )
    _, which = np.unique(np.asarray(panoramas), return_inverse=True)
    return np.bincount(which, array), np.bincount(which).astype(np.float64)
