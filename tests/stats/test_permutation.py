"""Promises of the sign-flip tests."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from qk_bench.stats import mcnemar_exact, sign_flip_exact, sign_flip_test


@pytest.mark.parametrize(("gains", "losses"), [(9, 3), (0, 6), (5, 5), (0, 0), (40, 20)])
def test_exact_test_of_single_rows_is_mcnemars(gains: int, losses: int) -> None:
    sums = np.r_[np.ones(gains), -np.ones(losses), np.zeros(7)]
    assert sign_flip_exact(sums) == pytest.approx(mcnemar_exact(gains, losses))
    if gains + losses:
        theirs = mcnemar([[10, losses], [gains, 10]], exact=True).pvalue
        assert mcnemar_exact(gains, losses) == pytest.approx(theirs)


def test_exact_test_equals_listing_every_pattern() -> None:
    sums = np.array([3, -1, 2, 2, 0, 1, 3, -2, 1, 1])
    totals = np.array([np.dot(signs, sums) for signs in product((-1, 1), repeat=sums.size)])
    assert sign_flip_exact(sums) == pytest.approx((np.abs(totals) >= abs(sums.sum())).mean())


def test_sign_flips_equal_scipys_permutation_test() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(0.5, 1, 12), rng.normal(0.12, 1, 200)
    theirs = stats.permutation_test((few,), np.sum, permutation_type="samples", n_resamples=10_000).pvalue
    assert sign_flip_test(few[:, None])[0] == pytest.approx(theirs)
    theirs = stats.permutation_test((many,), np.sum, permutation_type="samples", n_resamples=50_000, rng=1).pvalue
    assert sign_flip_test(many[:, None], flips=50_000)[0] == pytest.approx(theirs, abs=0.005)


def test_p_values_do_not_depend_on_the_other_columns() -> None:
    x = np.random.default_rng(1).normal(size=(500, 300))
    alone = [sign_flip_test(x[:, [j]], flips=999, seed=3)[0] for j in (0, 150, 299)]
    assert sign_flip_test(x, flips=999, seed=3)[[0, 150, 299]] == pytest.approx(alone)


def test_p_is_never_zero_and_1_without_a_difference() -> None:
    assert sign_flip_test(np.ones((100, 1)), flips=999)[0] == pytest.approx(1 / 1000)
    assert sign_flip_test(np.zeros((100, 1)), flips=999)[0] == 1
    assert 0 < sign_flip_exact(np.ones(2000)) < 1e-12


def test_exact_test_refuses_measurements() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        sign_flip_exact([0.5, 1.0])
