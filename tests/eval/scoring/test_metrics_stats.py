"""Bootstrap and sign-flip test against all resamples and all sign patterns written out."""

import itertools

import numpy as np
import pytest

from panoforge.eval.scoring.metrics.stats import bootstrap_mean, holm, paired_test


def clustered(rng: np.random.Generator, panoramas: int) -> tuple[np.ndarray, list[str]]:
    names = [f"p{g}" for g in range(panoramas) for _ in range(int(rng.integers(1, 5)))]
    return rng.normal(size=len(names)), names


def test_the_sign_flip_test_tries_every_pattern() -> None:
    rng = np.random.default_rng(0)
    for case in range(200):
        first, names = clustered(rng, int(rng.integers(1, 8)))
        second = first + rng.normal(0.5 * (case % 3), 1, len(names)).round(case % 2)
        found = paired_test(first, second, names, resamples=10)
        sums = {
            name: sum(b - a for a, b, n in zip(first, second, names, strict=True) if n == name)
            for name in set(names)
        }
        patterns = list(itertools.product([1, -1], repeat=len(sums)))
        observed = abs(sum(sums.values()))
        reached = sum(
            abs(sum(s * v for s, v in zip(signs, sums.values(), strict=True))) >= observed - 1e-9
            for signs in patterns
        )
        assert found.p_value == reached / len(patterns)
        assert found.difference.value == pytest.approx(
            np.mean(second - first)
        ) and found.panoramas == len(sums)


def test_the_interval_is_that_of_all_resamples() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        values, names = clustered(rng, 4)
        of = {
            name: [v for v, n in zip(values, names, strict=True) if n == name]
            for name in set(names)
        }
        means = [
            np.mean(np.concatenate([of[name] for name in drawn]))
            for drawn in itertools.product(of, repeat=4)
        ]
        found = bootstrap_mean(values, names, confidence=0.8, resamples=4000)
        assert found.value == pytest.approx(np.mean(values))
        # Quantiles of a few hundred atoms jump: the drawn one lies between its neighbours among
        # all.
        for drawn, quantile in ((found.low, 0.1), (found.high, 0.9)):
            low, high = np.quantile(means, [quantile - 0.03, quantile + 0.03])
            assert low - 1e-9 <= drawn <= high + 1e-9


def test_many_panoramas_agree_with_the_normal_approximation_and_the_seed_decides() -> None:
    rng = np.random.default_rng(2)
    values, names = rng.normal(0.6, 0.2, 400), [f"p{g}" for g in range(400)]
    found, error = bootstrap_mean(values, names), values.std() / 20
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert bootstrap_mean(values, names) == found != bootstrap_mean(values, names, seed=1)
    assert paired_test(values, values + 0.05 + rng.normal(0, 0.1, 400), names).p_value < 0.001
    assert paired_test(values, values + rng.normal(0, 0.1, 400), names).p_value > 0.01


def test_instances_of_one_panorama_are_not_independent() -> None:
    rng = np.random.default_rng(3)
    level = rng.random(20)
    values, clusters = np.repeat(level, 50), [f"p{g}" for g in range(20) for _ in range(50)]
    by_panorama, by_instance = (
        bootstrap_mean(values, clusters),
        bootstrap_mean(values, [str(k) for k in range(1000)]),
    )
    assert by_panorama.high - by_panorama.low > 4 * (by_instance.high - by_instance.low)


def test_one_panorama_has_no_interval_and_nothing_is_refused() -> None:
    alone = bootstrap_mean([0.1, 0.3], ["a", "a"])
    assert (alone.value, alone.low, alone.high) == (0.2, None, None)
    assert paired_test([0.1], [0.9], ["a"]).p_value == 1.0
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([], [])
    with pytest.raises(ValueError, match="one panorama name per value"):
        bootstrap_mean([1.0, 2.0], ["a"])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.9]) == [1.0, 1.0]
