"""Relative change of a mean or a rate, (B - A) / A, paired and clustered."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from qk_bench.stats.clusters import NOTHING, Estimate, Floats, Ints, cluster_codes, critical_value
from qk_bench.stats.rates import design_effect


def relative_change(a: ArrayLike, b: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The relative change of the mean from A to B.

    The interval holds every change r for which b - (1 + r)·a does not differ significantly from 0. For measurements it
    is Fieller's (JRSS B 16, 1954) on cluster totals; where the mean of A itself does not differ from 0, any change is
    possible and the interval has no ends. For rates it inverts the score test of matched pairs (see `ratio_score`) on
    the effective number of pairs, and never has zero width.

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
    if np.isin((x[present], y[present]), (0.0, 1.0)).all():
        low, high = _of_rates(x[present], y[present], codes, confidence)
        return Estimate(change, low - 1, high - 1, n, n_clusters)
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


def ratio_score(gains: float, losses: float, both: float, n: float, ratio: float) -> float:
    """Score statistic of the ratio of paired rates, B / A (Tang, Tang & Chan, Statistics in Medicine 22, 2003).

    Args:
        gains: Share of pairs where only B succeeds.
        losses: Share of pairs where only A succeeds.
        both: Share of pairs where both succeed.
        n: Effective number of pairs.
        ratio: The ratio under the hypothesis, above 0.
    """
    either = both + gains + losses
    b = (both + losses) * ratio**2 - (both + gains + 2 * losses)
    c = losses * (1 - ratio) * either
    only_a = (np.sqrt(max(b * b - 4 * (1 + ratio) * c, 0.0)) - b) / (2 * (1 + ratio))  # its share under the hypothesis
    variance = max(((1 + ratio) * only_a + (ratio - 1) * either) / n, 1e-300)
    return float((both + gains - ratio * (both + losses)) / np.sqrt(variance))


def _of_rates(a: Floats, b: Floats, codes: Ints, confidence: float) -> tuple[float, float]:
    """The ratios b / a of rates that the two-sided score test does not reject; a has a success."""
    n, n_clusters = a.size, int(codes.max()) + 1
    ratio = float(b.mean() / a.mean())
    usual = round(b.mean()) - ratio * round(a.mean())
    effect = design_effect(b - ratio * a, codes, usual=usual) if n_clusters < n else 1.0
    critical = critical_value(confidence, n_clusters, n_clusters < n)

    def score(q: float) -> float:
        return ratio_score(float((b > a).mean()), float((a > b).mean()), float((a * b).mean()), n / effect, q)

    low, tiny = 0.0, 1e-12
    if ratio > 0 and score(tiny) > critical:
        low = optimize.brentq(lambda q: score(q) - critical, tiny, ratio)
    high = max(2 * ratio, 1e-3)
    while score(high) > -critical:
        high *= 2
    return low, optimize.brentq(lambda q: score(q) + critical, max(ratio, tiny), high)
