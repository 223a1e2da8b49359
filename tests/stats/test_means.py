"""Promises of the clustered bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from qk_bench.stats import bootstrap_means, mean_interval, mean_intervals
from qk_bench.stats.means import _draw


def test_uncorrected_interval_equals_scipys_bca() -> None:
    x = np.random.default_rng(0).lognormal(size=80)
    ours = bootstrap_means(x[:, None], np.ones((80, 1)), resamples=100_000)[0]
    assert ours is not None
    z = ours.bias + special.ndtri([0.025, 0.975])
    low, high = np.quantile(ours.replicates, special.ndtr(ours.bias + z / (1 - ours.acceleration * z)))
    theirs = stats.bootstrap((x,), np.mean, n_resamples=100_000, method="BCa", rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.005)
    assert ours.standard_error == pytest.approx(stats.sem(x))


def test_widening_for_few_clusters_gives_students_interval_for_normal_data() -> None:
    x = stats.norm.ppf((np.arange(15) + 0.5) / 15)
    e = mean_interval(x, np.arange(15), resamples=100_000)
    half = stats.t.ppf(0.975, 14) * stats.sem(x)
    assert (e.low, e.high) == pytest.approx((-half, half), rel=0.05)


def test_clusters_of_unequal_size_give_the_mean_of_rows() -> None:
    x, clusters = np.arange(30.0), np.repeat([0, 1, 2, 3], [3, 7, 8, 12])
    e = mean_interval(x, clusters)
    assert (e.value, e.n, e.n_clusters) == (x.mean(), 30, 4)


def test_equal_seeds_give_equal_intervals_and_columns_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(3)
    x, clusters = rng.normal(size=(300, 4)), np.repeat(np.arange(100), 3)
    alone = [mean_interval(x[:, j], clusters, seed=5, resamples=500) for j in range(4)]
    together = mean_intervals(x, clusters, seed=5, resamples=500)
    for one, other in zip(alone, together, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)
    assert mean_interval(x[:, 0], clusters, seed=6, resamples=500) != alone[0]


@pytest.mark.parametrize("n_clusters", [1, 3, 700, 5000])
def test_a_resample_draws_every_cluster_equally_often(n_clusters: int) -> None:
    rows = 700_001 // n_clusters
    drawn = _draw(np.random.default_rng(0), n_clusters, rows)
    assert drawn.shape == (rows, n_clusters)
    times = np.bincount(drawn.ravel(), minlength=n_clusters)
    assert times.size == n_clusters
    assert n_clusters == 1 or stats.chisquare(times).pvalue > 0.01


def test_rows_without_a_value_are_left_out_and_not_zero() -> None:
    x = np.r_[np.full(50, 2.0) + np.arange(50) / 50, np.full(50, np.nan)]
    e = mean_interval(x, np.arange(100))
    assert e.value == pytest.approx(2.49)
    assert (e.n, e.n_clusters) == (50, 50)
    assert e.low > 2.3
    assert mean_intervals(np.full((5, 1), np.nan), np.arange(5))[0].n == 0


def test_seeds_that_always_agree_add_no_evidence() -> None:
    x = np.random.default_rng(4).normal(size=60)
    one, three = mean_interval(x, np.arange(60)), mean_interval(np.repeat(x, 3), np.repeat(np.arange(60), 3))
    assert (one.low, one.high) == pytest.approx((three.low, three.high), rel=1e-9)


def test_one_cluster_tells_nothing() -> None:
    e = mean_interval([1.0, 2.0, 3.0], [0, 0, 0])
    assert (e.low, e.high) == (-np.inf, np.inf)


def test_p_value_inverts_the_interval_and_is_no_smaller_than_students() -> None:
    x = np.random.default_rng(5).exponential(size=60)
    sample = bootstrap_means(x[:, None], np.ones((60, 1)))[0]
    assert sample is not None
    low, high = sample.interval(0.9)
    student = stats.ttest_1samp(x, low, alternative="greater").pvalue
    assert sample.p_value(low, "greater") == pytest.approx(max(0.05, student), abs=2e-3)
    student = stats.ttest_1samp(x, high, alternative="less").pvalue
    assert sample.p_value(high, "less") == pytest.approx(max(0.05, student), abs=2e-3)
