"""Promises of the intervals for rates and paired differences of rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from statsmodels.stats.proportion import proportion_confint

from qk_bench.stats import rate_difference, rate_interval, relative_change
from qk_bench.stats.rates import tango_score
from qk_bench.stats.ratios import ratio_score


@pytest.mark.parametrize(("successes", "n"), [(15, 50), (25, 50), (160, 200), (500, 1000)])
def test_independent_rows_give_the_wilson_interval_of_statsmodels(successes: int, n: int) -> None:
    estimate = rate_interval(np.arange(n) < successes, np.arange(n))
    expected = proportion_confint(successes, n, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize("seeds", [1, 3])
def test_interval_at_0_and_100_percent_is_never_of_zero_width(rate: int, seeds: int) -> None:
    estimate = rate_interval(np.full(50 * seeds, rate), np.repeat(np.arange(50), seeds))
    assert estimate.value == rate
    assert estimate.low <= rate <= estimate.high
    assert 0.05 < estimate.high - estimate.low < 0.1


def test_seeds_that_always_agree_add_no_evidence() -> None:
    rows = np.arange(60) % 3 == 0
    one = rate_interval(rows, np.arange(60))
    three = rate_interval(np.repeat(rows, 3), np.repeat(np.arange(60), 3))
    assert three.high - three.low >= one.high - one.low


def test_labels_of_clusters_may_be_strings_and_their_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    x, codes = rng.random(120) < 0.4, np.repeat(np.arange(40), 3)
    order = rng.permutation(120)
    assert rate_interval(x, codes) == rate_interval(x[order], np.array([f"image-{c}" for c in codes])[order])


@pytest.mark.parametrize("bad", [[0, 1, 2], [0.5], [float("nan")]])
def test_values_other_than_0_and_1_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        rate_interval(bad, np.arange(len(bad)))


def test_no_rows_give_no_value_instead_of_an_error() -> None:
    estimate = rate_interval([], [])
    assert np.isnan(estimate.value)
    assert estimate.n == 0


@pytest.mark.parametrize("null", [-0.4, -0.05, 0.01, 0.3])
def test_tango_score_equals_the_constrained_likelihood_solution(null: float) -> None:
    gains, losses, n = 9, 3, 50

    def minus_log_likelihood(only_a: float) -> float:
        only_b = only_a + null
        return -(gains * np.log(only_b) + losses * np.log(only_a) + (n - gains - losses) * np.log(1 - only_a - only_b))

    bounds = (max(0.0, -null) + 1e-9, (1 - null) / 2 - 1e-9)
    only_a = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    expected = (gains - losses - n * null) / np.sqrt(n * (2 * only_a + null - null**2))
    assert tango_score(gains / n, losses / n, n, null) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("ratio", [0.4, 0.9, 1.0, 2.5])
def test_score_of_a_ratio_equals_the_constrained_likelihood_solution(ratio: float) -> None:
    gains, losses, both, n = 9, 3, 20, 50

    def shares(only_a: float, together: float) -> np.ndarray:
        only_b = ratio * (together + only_a) - together  # so that the rate of B is `ratio` times that of A
        return np.array([only_b, only_a, together, 1 - only_b - only_a - together])

    def minus_log_likelihood(free: np.ndarray) -> float:
        p = shares(*free)
        return -float(np.array([gains, losses, both, n - gains - losses - both]) @ np.log(p)) if p.min() > 0 else 1e9

    start = np.array([0.2, 0.1]) if ratio > 1 else np.array([0.3, 0.1])
    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000}
    found = optimize.minimize(minus_log_likelihood, start, method="Nelder-Mead", options=options)
    only_b, only_a, together, _ = shares(*found.x)
    variance = (only_b + ratio**2 * only_a + (1 - ratio) ** 2 * together) / n
    expected = ((both + gains) / n - ratio * (both + losses) / n) / np.sqrt(variance)
    assert ratio_score(gains / n, losses / n, both / n, n, ratio) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_score_test_of_no_difference_is_mcnemars() -> None:
    a, b = np.r_[np.ones(10), np.zeros(40)], np.r_[np.ones(7), np.zeros(34), np.ones(9)]  # 3 losses, 9 gains
    assert tango_score(9 / 50, 3 / 50, 50, 0.0) ** 2 == pytest.approx((9 - 3) ** 2 / (9 + 3))
    assert ratio_score(9 / 50, 3 / 50, 7 / 50, 50, 1.0) ** 2 == pytest.approx((9 - 3) ** 2 / (9 + 3))
    difference = rate_difference(a, b, np.arange(50))
    assert (difference.gains, difference.losses) == (9, 3)


def test_interval_is_the_set_of_differences_that_the_test_keeps() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((60, 3)) < 0.6, rng.random((60, 3)) < 0.8
    difference = rate_difference(a.ravel(), b.ravel(), np.repeat(np.arange(60), 3))
    low, high = difference.interval(0.9)
    assert difference.p_value(low, "greater") == pytest.approx(0.05, abs=1e-6)
    assert difference.p_value(high, "less") == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("b", [np.zeros(50), np.ones(50)])
def test_difference_has_width_even_if_models_never_or_always_differ(b: np.ndarray) -> None:
    low, high = rate_difference(np.zeros(50), b, np.arange(50)).interval(0.95)
    assert low <= b.mean() <= high
    assert high - low > 0.05


@pytest.mark.parametrize(
    ("a", "b", "reach"),
    [
        (np.ones(50), np.ones(50), (-0.05, 0.05)),
        (np.ones(50), np.zeros(50), (-1.0, -0.95)),
        (np.arange(50) % 2, np.zeros(50), (-1.0, -0.9)),
        (np.arange(50) % 2, np.ones(50), (0.6, 1.4)),
        (np.ones(50), np.arange(50) % 2, (-0.6, -0.4)),
        (np.arange(50) % 2, np.arange(50) % 2, (-0.05, 0.05)),
    ],
)
def test_relative_change_of_a_rate_has_width_where_there_is_no_spread(
    a: np.ndarray, b: np.ndarray, reach: tuple[float, float]
) -> None:
    found = relative_change(a, b, np.arange(50))
    assert found.value == pytest.approx(b.mean() / a.mean() - 1)
    assert -1 <= found.low <= reach[0] < reach[1] <= found.high < 3


def test_design_effect_widens_differences_whose_seeds_agree() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(80) < 0.5, rng.random(80) < 0.6
    one = rate_difference(a, b, np.arange(80))
    three = rate_difference(np.repeat(a, 3), np.repeat(b, 3), np.repeat(np.arange(80), 3))
    assert three.n_eff == pytest.approx(one.n_eff, rel=0.02)
