"""Relative change of a mean or a rate, (B - A) / A, paired and clustered."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qk_bench.stats.clusters import NOTHING, Estimate, cluster_codes, critical_value


def relative_change(a: ArrayLike, b: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The relative change of the mean from A to B with Fieller's interval (JRSS B 16, 1954) on cluster totals.

    The interval holds every change r for which the totals of b - (1 + r)·a do not differ significantly from 0. Where
    the mean of A itself does not differ from 0, any change is possible and the interval has no ends.

    Args:
        a: (n,) values of the baseline; rows where A or B is NaN are left out.
        b: (n,) values of the other model on the same rows.
        clusters: (n,) cluster labels.
        confidence: Coverage aimed at.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    present = np.isfinite(x + y)
    if not present.any():
        return NOTHING
    codes = cluster_codes(np.asarray(clusters)[present])
    n, n_clusters = int(present.sum()), int(codes.max()) + 1
    sums_x, sums_y = np.bincount(codes, x[present]), np.bincount(codes, y[present])
    counts = np.bincount(codes)
    mean_x, mean_y = float(sums_x.sum() / n), float(sums_y.sum() / n)
    if mean_x == 0:
        return Estimate(float("nan"), float("-inf"), float("inf"), n, n_clusters)
    change = mean_y / mean_x - 1
    if n_clusters < 2:
        return Estimate(change, float("-inf"), float("inf"), n, n_clusters)
    influence = np.stack([sums_x - mean_x * counts, sums_y - mean_y * counts]) / n  # (2, G)
    (var_x, cov), (_, var_y) = influence @ influence.T * n_clusters / (n_clusters - 1)
    c2 = critical_value(confidence, n_clusters, clustered=True) ** 2
    # (mean_y - q·mean_x)² ≤ c²·(var_y - 2·q·cov + q²·var_x) for the ratio q
    first, second, third = mean_x**2 - c2 * var_x, mean_x * mean_y - c2 * cov, mean_y**2 - c2 * var_y
    root = max(second**2 - first * third, 0.0)  # below 0 by rounding only: the estimate itself satisfies it
    if first <= 0:
        return Estimate(change, float("-inf"), float("inf"), n, n_clusters)
    low, high = sorted(((second - np.sqrt(root)) / first, (second + np.sqrt(root)) / first))
    return Estimate(change, float(low) - 1, float(high) - 1, n, n_clusters)
