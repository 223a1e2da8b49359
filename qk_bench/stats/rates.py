"""Rates and paired differences of rates: score intervals with a design effect for clusters and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from qk_bench.stats.clusters import NOTHING, Estimate, Floats, Ints, cluster_codes, critical_value


def rate_interval(values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """A rate with Wilson's score interval on the effective number of rows.

    The effective number is n / design effect (see `design_effect`); the quantile is Student's t on clusters - 1 degrees
    of freedom where rows share clusters. Never of zero width.

    Args:
        values: (n,) of 0 and 1, one per (sample, seed). A failed outcome counts as 0.
        clusters: (n,) cluster labels.
        confidence: Coverage aimed at.
    """
    x = binary(values)
    codes = cluster_codes(clusters)
    if x.size != codes.size:
        raise ValueError(f"{x.size} values but {codes.size} cluster labels")
    if x.size == 0:
        return NOTHING
    n, n_clusters = x.size, int(codes.max()) + 1
    clustered = n_clusters < n
    rate = float(x.mean())
    n_eff = n / (design_effect(x, codes, usual=round(rate)) if clustered else 1.0)
    low, high = score_interval(rate, n_eff, critical_value(confidence, n_clusters, clustered), confidence)
    return Estimate(rate, low, high, n, n_clusters)


def score_interval(rate: float, n: float, critical: float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a rate on an effective number of rows, which may be a fraction.

    Near 0 and 1 Wilson's interval covers too rarely; there its inner end gives way to a one-sided exact bound (Brown,
    Cai & DasGupta, Statistical Science 16, 2001, section 4.1.1, who use the Poisson bound; the binomial one needs no
    rule for where to stop).
    """
    low, high = _wilson(rate, n, critical)
    low = min(low, _exact_lower(rate, n, 1 - confidence))
    return low, max(high, 1 - _exact_lower(1 - rate, n, 1 - confidence))


@dataclass(frozen=True)
class RateDifference:
    """A paired difference of two rates, B - A, which can be given an interval or tested against any value.

    Both invert Tango's score test (Statistics in Medicine 17, 1998) on counts scaled to the effective number of pairs.

    Attributes:
        value: The rate of B less the rate of A.
        gains: Pairs where only B succeeds.
        losses: Pairs where only A succeeds.
        n: Number of pairs.
        n_clusters: Number of clusters.
        n_eff: Effective number of pairs: n over the design effect of the differences.
    """

    value: float
    gains: int
    losses: int
    n: int
    n_clusters: int
    n_eff: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """The differences that the two-sided score test does not reject; never of zero width."""
        critical = critical_value(confidence, self.n_clusters, self.n_clusters < self.n)
        return self._where(critical, -1.0), self._where(-critical, 1.0)

    def p_value(self, null: float, alternative: Literal["greater", "less"]) -> float:
        """One-sided score test that the true difference is `null`.

        Args:
            null: The difference under the hypothesis, in (-1, 1).
            alternative: "greater" is small where the difference lies above `null`, "less" where it lies below.
        """
        score = self._score(null) * (1 if alternative == "less" else -1)
        clustered = self.n_clusters < self.n
        return float(special.stdtr(max(self.n_clusters - 1, 1), score) if clustered else special.ndtr(score))

    def _where(self, score: float, end: float) -> float:
        """The null value between the estimate and `end` whose statistic is `score`."""
        inner = end * (1 - 1e-12)
        if abs(self.value) >= 1 - 1e-12 and self.value * end > 0:
            return end
        return float(optimize.brentq(lambda null: self._score(null) - score, self.value, inner, xtol=1e-10))

    def _score(self, null: float) -> float:
        """Tango's statistic: the distance from `null` in standard errors, these under the hypothesis."""
        return tango_score(self.gains / self.n, self.losses / self.n, self.n_eff, null)


def tango_score(gains: float, losses: float, n: float, null: float) -> float:
    """Tango's score statistic for paired rates: the estimate's distance from `null` in its standard errors under it.

    Args:
        gains: Share of pairs where only B succeeds.
        losses: Share of pairs where only A succeeds.
        n: Effective number of pairs.
        null: The difference B - A under the hypothesis, in (-1, 1).
    """
    b = -gains - losses + (2 - gains + losses) * null
    c = -losses * null * (1 - null)
    only_a = (np.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4  # its share under the hypothesis
    variance = max((2 * only_a + null * (1 - null)) / n, 1e-300)
    return float((gains - losses - null) / np.sqrt(variance))


def rate_difference(a: ArrayLike, b: ArrayLike, clusters: ArrayLike) -> RateDifference:
    """The paired difference of two rates, B - A.

    Args:
        a: (n,) of 0 and 1 of the baseline, one per (sample, seed).
        b: (n,) of 0 and 1 of the other model, on the same rows.
        clusters: (n,) cluster labels.
    """
    d = binary(b) - binary(a)
    codes = cluster_codes(clusters)
    if d.size != codes.size or d.size == 0:
        raise ValueError(f"{d.size} pairs but {codes.size} cluster labels")
    n_clusters = int(codes.max()) + 1
    effect = design_effect(d, codes, usual=0) if n_clusters < d.size else 1.0
    gains, losses = int((d > 0).sum()), int((d < 0).sum())
    return RateDifference(float(d.mean()), gains, losses, d.size, n_clusters, d.size / effect)


def binary(values: ArrayLike) -> Floats:
    """The values as floats, after checking that each is 0 or 1."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not np.isin(x, (0.0, 1.0)).all():
        raise ValueError("a rate needs a one-dimensional array of 0 and 1")
    return x


def design_effect(values: Floats, codes: Ints, *, usual: float) -> float:
    """How many times the variance of the mean exceeds that of as many independent rows; at least 1.

    The ratio of the cluster (linearised) variance to that of simple random sampling (Kish, Survey Sampling, 1965). It
    is estimated only from clusters that hold an uncommon value, so with few of those it is drawn, with the weight of
    one cluster, towards its largest possible value: that of clusters whose rows are all alike. With none, it is that
    value.

    Args:
        values: (n,) values.
        codes: (n,) cluster codes.
        usual: The common value; the others are what carries information.
    """
    n = values.size
    counts = np.bincount(codes).astype(np.float64)
    n_clusters = counts.size
    worst = float((counts**2).sum() / n)
    centred = values - values.mean()
    spread = float((centred**2).sum())
    if spread == 0 or n_clusters < 2:
        return worst
    of_clusters = n_clusters / (n_clusters - 1) * float((np.bincount(codes, centred) ** 2).sum())
    of_rows = n / (n - 1) * spread
    informative = np.unique(codes[values != usual]).size
    return max(1.0, (informative * of_clusters / of_rows + worst) / (informative + 1))


def _wilson(rate: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson (JASA 22, 1927): the rates that a score test does not reject."""
    c2 = critical**2
    centre = (rate + c2 / (2 * n)) / (1 + c2 / n)
    half = critical / (1 + c2 / n) * np.sqrt(rate * (1 - rate) / n + c2 / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _exact_lower(rate: float, n: float, alpha: float) -> float:
    """One-sided exact lower bound of a binomial rate (Clopper & Pearson, Biometrika 26, 1934); n may be a fraction."""
    return float(special.betaincinv(rate * n, n - rate * n + 1, alpha)) if rate > 0 else 0.0
