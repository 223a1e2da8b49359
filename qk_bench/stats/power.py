"""Planning a comparison from a pilot: the power of N samples, the N a difference needs, the difference N can see.

Power is that of the tests `qkbench compare` makes: the sign-flip test of no difference, two-sided, and the one-sided
test against a margin. The pilot gives the variance of a paired difference and how much of it comes from seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from qk_bench.stats.clusters import MIN_CLUSTERS, cluster_codes
from qk_bench.stats.rates import design_effect, tango_score
from qk_bench.stats.variance import variance_split

MAX_SAMPLES = 10_000_000
_EXACT_PAIRS = 4_000  # beyond so many effective pairs the exact test's power equals the normal one's to 0.5 points


@dataclass(frozen=True)
class Pilot:
    """What a pilot run tells about the paired difference of two models on one metric.

    Attributes:
        difference: Mean difference, B - A.
        variance: Variance of the mean difference times the number of samples, at the pilot's seeds.
        seed_variance: Part of a row's variance that comes from seeds; 0 where the pilot has one seed.
        seeds: Rows per sample.
        samples_per_cluster: Samples that share an image, on average.
        n_samples: Number of samples.
        kurtosis: Excess kurtosis of the clusters' differences.
        rates: For a rate the shares of rows where A succeeds, where B does, and where both do; None for a mean.
        correlation: For a rate the tetrachoric correlation of A and B.
    """

    difference: float
    variance: float
    seed_variance: float
    seeds: float
    samples_per_cluster: float
    n_samples: int
    kurtosis: float
    rates: tuple[float, float, float] | None
    correlation: float

    def variance_at(self, seeds: float) -> float:
        """Variance of the mean difference times the number of samples, with this many seeds a sample."""
        other = self.variance - self.seed_variance / self.seeds + self.seed_variance / seeds
        return max(other, self.variance * 1e-3)

    def clusters_in(self, n_samples: float) -> float:
        """How many clusters so many samples make."""
        return n_samples / self.samples_per_cluster


def read_pilot(a: ArrayLike, b: ArrayLike, samples: ArrayLike, clusters: ArrayLike, *, rate: bool) -> Pilot:
    """Read a pilot's paired values.

    Args:
        a: (n,) values of A, one per (sample, seed); rows where A or B is NaN are left out.
        b: (n,) values of B.
        samples: (n,) sample labels.
        clusters: (n,) cluster labels.
        rate: Whether the values are successes (0 and 1).

    Raises:
        ValueError: If there are fewer than two clusters, or the models never differ.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    present = ~np.isnan(x + y)
    x, y, items = x[present], y[present], np.asarray(samples)[present]
    d = y - x
    codes = cluster_codes(np.asarray(clusters)[present])
    n_clusters = int(codes.max()) + 1 if d.size else 0
    if n_clusters < 2 or np.ptp(d) == 0:
        raise ValueError("the pilot shows no spread: its two models differ alike in every sample")
    n_samples = np.unique(items).size
    sums = np.bincount(codes, d - d.mean())
    if rate:
        of_mean = d.var(ddof=1) / d.size * (design_effect(d, codes, usual=0) if n_clusters < d.size else 1.0)
    else:
        of_mean = n_clusters / (n_clusters - 1) * float((sums**2).sum()) / d.size**2
    split = variance_split(d, items)
    rates = (float(x.mean()), float(y.mean()), float((x * y).mean())) if rate else None
    return Pilot(
        difference=float(d.mean()),
        variance=float(of_mean) * n_samples,
        seed_variance=0.0 if math.isnan(split.seed) else split.seed,
        seeds=d.size / n_samples,
        samples_per_cluster=n_samples / n_clusters,
        n_samples=n_samples,
        kurtosis=float(stats.kurtosis(sums)),
        rates=rates,
        correlation=float("nan") if rates is None else _tetrachoric(rates),
    )


def difference_power(pilot: Pilot, difference: float, n_samples: int, *, seeds: float, alpha: float = 0.05) -> float:
    """Chance that the two-sided test of no difference rejects when the true difference is `difference`.

    Means: the noncentral t distribution on clusters - 1 degrees of freedom (Cohen, 1988, chapter 2), its noncentrality
    raised for heavy tails, which more often than not make the spread look small. Rates: the exact power of McNemar's
    test on the effective number of pairs (Miettinen, Biometrics 24, 1968), with as many gains and losses as there are
    when B grows worse or better where it was near the edge (see `_gains_and_losses`).

    Args:
        pilot: The pilot.
        difference: True difference; one that would leave B's rate below 0 or above 1 is never seen.
        n_samples: Number of samples.
        seeds: Seeds a sample.
        alpha: Level of the test.
    """
    if pilot.clusters_in(n_samples) < MIN_CLUSTERS:
        return 0.0
    variance = pilot.variance_at(seeds)
    if pilot.rates is None:
        df = pilot.clusters_in(n_samples) - 1
        critical = float(special.stdtrit(df, 1 - alpha / 2))
        shift = abs(difference) / math.sqrt(variance / n_samples) * _heavy_tails(pilot, df)
        return float(1 - special.nctdtr(df, shift, critical) + special.nctdtr(df, shift, -critical))
    if not _possible(pilot.rates[0], difference):
        return 0.0
    gains, losses = _gains_and_losses(pilot.rates, pilot.correlation, difference)
    pairs = n_samples * _pairs_per_sample(pilot.rates, variance)
    if pairs <= _EXACT_PAIRS:
        return _mcnemar_power(round(pairs), gains, losses, alpha)
    under_null = math.sqrt((gains + losses) / pairs)
    under_truth = math.sqrt(max(gains + losses - difference**2, 1e-300) / pairs)
    critical = float(special.ndtri(1 - alpha / 2))
    return float(special.ndtr((abs(difference) - 1 / pairs - critical * under_null) / under_truth))


def non_inferiority_power(pilot: Pilot, margin: float, n_samples: int, *, seeds: float, alpha: float = 0.05) -> float:
    """Chance that the one-sided test shows an unchanged model non-inferior within `margin`.

    Args:
        pilot: The pilot.
        margin: The largest drop that is accepted, above 0.
        n_samples: Number of samples.
        seeds: Seeds a sample.
        alpha: Level of the test.
    """
    if pilot.clusters_in(n_samples) < MIN_CLUSTERS:
        return 0.0
    variance = pilot.variance_at(seeds)
    df = pilot.clusters_in(n_samples) - 1
    critical = float(special.stdtrit(df, 1 - alpha))
    if pilot.rates is None:
        return float(1 - special.nctdtr(df, margin / math.sqrt(variance / n_samples), critical))
    gains, losses = _gains_and_losses(pilot.rates, pilot.correlation, 0.0)
    pairs = n_samples * _pairs_per_sample(pilot.rates, variance)
    under_null = margin / tango_score(gains, losses, pairs, -margin)
    under_truth = math.sqrt(max(gains + losses, 1e-300) / pairs)
    return float(special.ndtr((margin - critical * under_null) / under_truth))


def required_samples(
    pilot: Pilot, difference: float, *, seeds: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Fewest samples at which the test of no difference has this power; None beyond `MAX_SAMPLES`."""
    return _fewest(lambda n: difference_power(pilot, difference, n, seeds=seeds, alpha=alpha), power)


def required_samples_for_margin(
    pilot: Pilot, margin: float, *, seeds: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Fewest samples at which an unchanged model is shown non-inferior with this power; None beyond `MAX_SAMPLES`."""
    return _fewest(lambda n: non_inferiority_power(pilot, margin, n, seeds=seeds, alpha=alpha), power)


def minimum_detectable_effect(
    pilot: Pilot, n_samples: int, *, seeds: float, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest true difference, of either sign, that N samples show with this power; None if there is none.

    A rate near 0 or 1 has room on one side only; there the other sign is left out.
    """
    rate = None if pilot.rates is None else pilot.rates[0]

    def reached(size: float) -> bool:
        return all(
            difference_power(pilot, difference, n_samples, seeds=seeds, alpha=alpha) >= power
            for difference in (size, -size)
            if rate is None or _possible(rate, difference)
        )

    low, high = 0.0, math.sqrt(pilot.variance_at(seeds) / n_samples)
    limit = 1e9 * high if rate is None else max(rate, 1 - rate)
    while not reached(min(high, limit)):
        if high >= limit:
            return None
        low, high = high, 2 * high
    high = min(high, limit)
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _possible(rate: float, difference: float) -> bool:
    return -1e-9 <= rate + difference <= 1 + 1e-9


def _fewest(power_of: Callable[[int], float], power: float) -> int | None:
    high = MIN_CLUSTERS
    while power_of(high) < power:
        high *= 2
        if high > MAX_SAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _heavy_tails(pilot: Pilot, df: float) -> float:
    """Mean of 1 / (estimated spread), over its mean for normal data, to the first order in 1 / clusters."""
    return 1 + 3 / 8 * pilot.kurtosis / (df + 1)


def _gains_and_losses(rates: tuple[float, float, float], correlation: float, difference: float) -> tuple[float, float]:
    """Shares of rows where only B, and where only A, succeeds, once B's rate makes this difference.

    Success is taken as a normal latent quality above a threshold, correlated between A and B as in the pilot, and B's
    threshold is moved.
    """
    moved = rates[0] + difference
    together = _both_succeed(rates[0], moved, correlation)
    return max(moved - together, 0.0), max(rates[0] - together, 0.0)


def _both_succeed(rate_a: float, rate_b: float, correlation: float) -> float:
    """Share of rows where both succeed, of two correlated normal qualities above thresholds."""
    edge = 1e-6
    thresholds = special.ndtri(np.clip([rate_a, rate_b], edge, 1 - edge))
    normal = stats.multivariate_normal(cov=[[1.0, correlation], [correlation, 1.0]], allow_singular=True)
    return float(normal.cdf(thresholds))


def _tetrachoric(rates: tuple[float, float, float]) -> float:
    """The correlation of the latent qualities behind two paired rates (Pearson, Phil. Trans. A 195, 1900)."""
    rate_a, rate_b, both = rates
    end = 0.999
    if both <= _both_succeed(rate_a, rate_b, -end):
        return -end
    if both >= _both_succeed(rate_a, rate_b, end):
        return end
    return float(optimize.brentq(lambda c: _both_succeed(rate_a, rate_b, c) - both, -end, end, xtol=1e-6))


def _pairs_per_sample(rates: tuple[float, float, float], variance: float) -> float:
    """Effective number of independent pairs that one sample with its seeds is worth."""
    rate_a, rate_b, both = rates
    return max(rate_a + rate_b - 2 * both - (rate_b - rate_a) ** 2, 1e-12) / variance


def _mcnemar_power(pairs: int, gains: float, losses: float, alpha: float) -> float:
    """Power of the exact two-sided McNemar test, summed over the likely numbers of discordant pairs."""
    if gains + losses == 0:
        return 0.0
    share = gains / (gains + losses)
    middle = pairs * (gains + losses)
    reach = 8 * math.sqrt(middle) + 8
    k = np.arange(max(0, int(middle - reach)), min(pairs, int(middle + reach)) + 1)
    critical = stats.binom.ppf(alpha / 2, k, 0.5)
    critical = np.where(stats.binom.cdf(critical, k, 0.5) > alpha / 2, critical - 1, critical)
    rejects = stats.binom.cdf(critical, k, share) + stats.binom.cdf(critical, k, 1 - share)
    return float((stats.binom.pmf(k, pairs, gains + losses) * rejects).sum())
