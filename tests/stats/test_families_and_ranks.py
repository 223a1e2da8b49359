"""Promises of corrections, effect sizes, ranks and variance components."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

from qk_bench.stats import (
    benjamini_hochberg,
    cliffs_delta,
    cohens_h,
    holm,
    rank_intervals,
    tie_groups,
    variance_split,
)

P = np.array([0.001, 0.04, 0.03, 0.8, 0.03, 0.0004, 0.2])


def test_corrections_equal_statsmodels_and_scipys() -> None:
    assert holm(P) == pytest.approx(multipletests(P, method="holm")[1])
    assert benjamini_hochberg(P) == pytest.approx(stats.false_discovery_control(P))


def test_a_refused_test_still_counts_in_the_family() -> None:
    with_refused = np.r_[P, np.nan]
    adjusted = holm(with_refused)
    assert np.isnan(adjusted[-1])
    assert adjusted[:-1] == pytest.approx(multipletests(np.r_[P, 1.0], method="holm")[1][:-1])


def test_effect_sizes_equal_their_definitions() -> None:
    assert cohens_h(0.4, 0.7) == pytest.approx(proportion_effectsize(0.7, 0.4))
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40), rng.integers(2, 11, 50)
    assert cliffs_delta(a, b) == pytest.approx(np.sign(b[:, None] - a[None, :]).mean())
    assert cliffs_delta([0, 0], [1, 1]) == 1


def _matrix(pairs: list[tuple[int, int]], n: int) -> np.ndarray:
    better = np.zeros((n, n), dtype=bool)
    for i, j in pairs:
        better[i, j] = True
    return better


def test_ranks_are_as_wide_as_the_tests_leave_them() -> None:
    better = _matrix([(0, 2), (0, 3), (1, 3)], 4)
    assert rank_intervals(better) == [(1, 2), (1, 3), (2, 4), (3, 4)]


def test_models_that_cannot_be_told_apart_share_a_group() -> None:
    better = _matrix([(0, 2), (0, 3), (1, 3)], 4)
    assert tie_groups([0.9, 0.8, 0.7, 0.6], better) == [[0, 1], [1, 2], [2, 3]]
    assert tie_groups([0.6, 0.9, 0.8], np.zeros((3, 3), dtype=bool)) == [[1, 2, 0]]
    assert tie_groups([1.0, 2.0], _matrix([(1, 0)], 2)) == [[1], [0]]


def test_variance_components_equal_a_mixed_model() -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(0, 2, (150, 1)) + rng.normal(0, 1, (150, 3))).ravel()
    items = np.repeat(np.arange(150), 3)
    split = variance_split(values, items)
    fit = smf.mixedlm("y ~ 1", pd.DataFrame({"y": values, "item": items}), groups="item").fit(reml=True)
    assert split.item == pytest.approx(fit.cov_re.iloc[0, 0], rel=1e-3)
    assert split.seed == pytest.approx(fit.scale, rel=1e-3)
    assert 0.1 < split.seed_share < 0.35


def test_one_seed_cannot_be_split() -> None:
    split = variance_split([1.0, 2.0, 4.0], [0, 1, 2])
    assert np.isnan(split.seed)
    assert split.item == pytest.approx(np.var([1, 2, 4], ddof=1))
