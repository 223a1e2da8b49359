"""Promises of planning and of Bradley-Terry strengths. The power promised is measured in test_calibration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from qk_bench.stats import (
    bradley_terry,
    difference_power,
    minimum_detectable_effect,
    non_inferiority_power,
    read_pilot,
    required_samples,
    required_samples_for_margin,
)

RNG = np.random.default_rng(0)
SAMPLES = np.repeat(np.arange(300), 3)
A = RNG.normal(size=(300, 3)) + RNG.normal(size=(300, 1))
B = RNG.normal(size=(300, 3)) + RNG.normal(size=(300, 1)) + 0.1


def test_power_of_a_normal_mean_equals_statsmodels() -> None:
    a, b = RNG.normal(size=(2, 5000))
    plan = read_pilot(a, b, np.arange(5000), np.arange(5000), rate=False)
    ours = difference_power(plan, 0.3, 80, seeds=1)
    assert ours == pytest.approx(TTestPower().power(0.3 / np.sqrt(plan.variance), 80, 0.05), abs=2e-3)


@pytest.mark.parametrize("rate", [True, False])
def test_required_samples_and_detectable_difference_are_inverse(rate: bool) -> None:
    a, b = ((A > 0).astype(float), (B > 0).astype(float)) if rate else (A, B)
    plan = read_pilot(a.ravel(), b.ravel(), SAMPLES, SAMPLES, rate=rate)
    n = required_samples(plan, 0.15, seeds=3, power=0.8)
    assert n is not None
    effect = minimum_detectable_effect(plan, n, seeds=3, power=0.8)
    assert effect == pytest.approx(0.15, rel=0.05)


def test_more_seeds_save_samples_but_not_below_the_share_of_items() -> None:
    plan = read_pilot(A.ravel(), B.ravel(), SAMPLES, SAMPLES, rate=False)
    needed = [required_samples(plan, 0.2, seeds=s) for s in (1, 3, 1000)]
    assert None not in needed
    one, three, many = (n or 0 for n in needed)
    assert one > three > many > 0.3 * one


def test_margin_needs_the_samples_that_give_the_power() -> None:
    plan = read_pilot((A > 0).ravel(), (B > 0).ravel(), SAMPLES, SAMPLES, rate=True)
    n = required_samples_for_margin(plan, 0.05, seeds=3, power=0.8)
    assert n is not None
    assert non_inferiority_power(plan, 0.05, n, seeds=3) >= 0.8 > non_inferiority_power(plan, 0.05, n - 20, seeds=3)


def test_a_pilot_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="no spread"):
        read_pilot(np.ones(30), np.ones(30), np.arange(30), np.arange(30), rate=True)


def _judgements(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    strengths = np.array([0.5, 0.0, -0.2, -0.3])
    first = rng.integers(0, 4, n)
    second = (first + rng.integers(1, 4, n)) % 4
    won = rng.random(n) < 1 / (1 + np.exp(strengths[second] - strengths[first]))
    return first, second, won.astype(float), rng.integers(0, 40, n)


@pytest.mark.parametrize("ties", [False, True])
def test_strengths_are_most_likely_and_their_covariance_is_the_sandwich(ties: bool) -> None:
    first, second, won, judges = _judgements(600)
    ours = bradley_terry(first, second, won, judges, add_ties=ties)
    pairs = np.array(list(combinations(range(4), 2)))
    design = np.eye(4)[np.r_[first, pairs[:, 0]]] - np.eye(4)[np.r_[second, pairs[:, 1]]]
    weights = np.r_[np.ones(600), np.full(6, ties)]
    p = 1 / (1 + np.exp(-design @ ours.strengths))
    scores = design * (weights * (np.r_[won, np.full(6, 0.5)] - p))[:, None]
    assert ours.strengths.sum() == pytest.approx(0, abs=1e-9)
    assert scores.sum(axis=0) == pytest.approx(np.zeros(4), abs=1e-6)
    groups = np.r_[judges, 40 + np.arange(6)]  # each added tie by itself
    by_group = np.stack([scores[groups == g].sum(axis=0) for g in range(46)])
    bread = np.linalg.pinv((design.T * (weights * p * (1 - p))) @ design)
    assert ours.covariance == pytest.approx(bread @ by_group.T @ by_group @ bread * 40 / 39, rel=1e-6)
    assert (ours.n, ours.n_clusters) == (600, 40)


def test_a_model_that_always_wins_has_a_finite_strength_only_with_added_ties() -> None:
    first, second, won = np.zeros(20, int), np.ones(20, int), np.ones(20)
    found = bradley_terry(first, second, won, np.arange(20)).preference(0, 1)
    assert found.value == pytest.approx(20.5 / 21)
    assert found.low < 0.9  # 20 of 20 are 83 % to 100 % by an exact interval
    with pytest.raises(ValueError, match="no finite estimate"):
        bradley_terry(first, second, won, np.arange(20), add_ties=False)


def test_models_that_never_met_are_refused() -> None:
    with pytest.raises(ValueError, match="never met"):
        bradley_terry([0, 2], [1, 3], [1, 0], [0, 1])


def test_a_lone_judge_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="two clusters"):
        bradley_terry([0, 0, 1], [1, 1, 0], [1, 0, 1], ["ann"] * 3)
