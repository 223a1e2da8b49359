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
from scipy import special, stats

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
        discordance: For a rate the share of rows in which just one of the two succeeds; None for a mean.
    """

    difference: float
    variance: float
    seed_variance: float
    seeds: float
    samples_per_cluster: float
    n_samples: int
    discordance: float | None

    def variance_at(self, seeds: float) -> float:
        """Variance of the mean difference times the number of samples, with this many seeds a sample."""
        other = self.variance - self.seed_variance / self.seeds + self.seed_variance / seeds
        return max(other, self.variance * 1e-3)

    def clusters_in(self, n_samples: float) -> float:
        """How many clusters so many samples make."""
        return n_samples / self.samples_per_cluster


def read_pilot(differences: ArrayLike, samples: ArrayLike, clusters: ArrayLike, *, rate: bool) -> Pilot:
    """Read a pilot's paired differences.

    Args:
        differences: (n,) B - A, one per (sample, seed); NaN rows are left out.
        samples: (n,) sample labels.
        clusters: (n,) cluster labels.
        rate: Whether the values are successes (0 and 1).

    Raises:
        ValueError: If there are fewer than two clusters, or the models never differ.
    """
    d = np.asarray(differences, dtype=np.float64)
    present = ~np.isnan(d)
    d, items, codes = d[present], np.asarray(samples)[present], cluster_codes(np.asarray(clusters)[present])
    n_clusters = int(codes.max()) + 1 if d.size else 0
    if n_clusters < 2 or np.ptp(d) == 0:
        raise ValueError("the pilot shows no spread: its two models differ alike in every sample")
    n_samples = np.unique(items).size
    if rate:
        of_mean = d.var(ddof=1) / d.size * (design_effect(d, codes, usual=0) if n_clusters < d.size else 1.0)
    else:
        sums = np.bincount(codes, d - d.mean())
        of_mean = n_clusters / (n_clusters - 1) * float((sums**2).sum()) / d.size**2
    split = variance_split(d, items)
    return Pilot(
        difference=float(d.mean()),
        variance=float(of_mean) * n_samples,
        seed_variance=0.0 if math.isnan(split.seed) else split.seed,
        seeds=d.size / n_samples,
        samples_per_cluster=n_samples / n_clusters,
        n_samples=n_samples,
        discordance=float((d != 0).mean()) if rate else None,
    )


def difference_power(pilot: Pilot, difference: float, n_samples: int, *, seeds: float, alpha: float = 0.05) -> float:
    """Chance that the two-sided test of no difference rejects when the true difference is `difference`.

    Means: the noncentral t distribution on clusters - 1 degrees of freedom (Cohen, 1988, chapter 2). Rates: the exact
    power of McNemar's test on the effective number of pairs (Miettinen, Biometrics 24, 1968), the pilot's discordance
    kept, or raised to the difference where that is larger.

    Args:
        pilot: The pilot.
        difference: True difference.
        n_samples: Number of samples.
        seeds: Seeds a sample.
        alpha: Level of the test.
    """
    if pilot.clusters_in(n_samples) < MIN_CLUSTERS:
        return 0.0
    variance = pilot.variance_at(seeds)
    if pilot.discordance is None:
        df = pilot.clusters_in(n_samples) - 1
        critical = float(special.stdtrit(df, 1 - alpha / 2))
        shift = abs(difference) / math.sqrt(variance / n_samples)
        return float(1 - special.nctdtr(df, shift, critical) + special.nctdtr(df, shift, -critical))
    gains, losses = _discordant(pilot.discordance, difference)
    pairs = n_samples * _pairs_per_sample(pilot, variance)
    if pairs <= _EXACT_PAIRS:
        return _mcnemar_power(round(pairs), gains, losses, alpha)
    under_null = math.sqrt((gains + losses) / pairs)
    under_truth = math.sqrt(max(gains + losses - difference**2, 1e-300) / pairs)
    critical = float(special.ndtri(1 - alpha / 2))
    return float(special.ndtr((abs(difference) - 1 / pairs - critical * under_null) / under_truth))


def non_inferiority_power(
    pilot: Pilot, margin: float, n_samples: int, *, difference: float = 0.0, seeds: float, alpha: float = 0.05
) -> float:
    """Chance that the one-sided test shows B non-inferior within `margin`.

    Args:
        pilot: The pilot.
        margin: The largest drop that is accepted, above 0.
        n_samples: Number of samples.
        difference: True difference, counted so that a gain is positive.
        seeds: Seeds a sample.
        alpha: Level of the test.
    """
    if pilot.clusters_in(n_samples) < MIN_CLUSTERS:
        return 0.0
    variance = pilot.variance_at(seeds)
    df = pilot.clusters_in(n_samples) - 1
    critical = float(special.stdtrit(df, 1 - alpha))
    if pilot.discordance is None:
        shift = (difference + margin) / math.sqrt(variance / n_samples)
        return float(1 - special.nctdtr(df, shift, critical))
    gains, losses = _discordant(pilot.discordance, difference)
    pairs = n_samples * _pairs_per_sample(pilot, variance)
    under_null = (difference + margin) / tango_score(gains, losses, pairs, -margin)
    under_truth = math.sqrt(max(gains + losses - difference**2, 1e-300) / pairs)
    return float(special.ndtr((difference + margin - critical * under_null) / under_truth))


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
    """The smallest true difference that N samples show with this power; None if there is none (too few clusters)."""

    def reached(difference: float) -> bool:
        return difference_power(pilot, difference, n_samples, seeds=seeds, alpha=alpha) >= power

    low, high = 0.0, math.sqrt(pilot.variance_at(seeds) / n_samples)
    limit = 1e9 * high if pilot.discordance is None else 1.0
    while not reached(min(high, limit)):
        if high >= limit:
            return None
        low, high = high, 2 * high
    high = min(high, limit)
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


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


def _discordant(discordance: float, difference: float) -> tuple[float, float]:
    """Shares of gains and losses with this difference."""
    total = max(discordance, abs(difference))
    return (total + difference) / 2, (total - difference) / 2


def _pairs_per_sample(pilot: Pilot, variance: float) -> float:
    """Effective number of independent pairs that one sample with its seeds is worth."""
    assert pilot.discordance is not None
    return max(pilot.discordance - pilot.difference**2, 1e-12) / variance


def _mcnemar_power(pairs: int, gains: float, losses: float, alpha: float) -> float:
    """Power of the exact two-sided McNemar test, summed over the number of discordant pairs."""
    k = np.arange(pairs + 1)
    critical = stats.binom.ppf(alpha / 2, k, 0.5)
    critical = np.where(stats.binom.cdf(critical, k, 0.5) > alpha / 2, critical - 1, critical)
    share = gains / (gains + losses)
    rejects = stats.binom.cdf(critical, k, share) + stats.binom.cdf(critical, k, 1 - share)
    return float((stats.binom.pmf(k, pairs, gains + losses) * rejects).sum())
