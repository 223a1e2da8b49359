"""Means of continuous metrics: BCa bootstrap intervals that resample clusters."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from qk_bench.stats.clusters import NOTHING, Estimate, Floats, cluster_codes, cluster_sums

Words = NDArray[Any]  # uint16 or uint32

RESAMPLES = 10_000
_BLOCK = 1 << 20  # cluster draws of one stream; part of what a seed means
_CACHED = 1 << 15  # draws worked on at a time
_SHORT = 1 << 10  # clusters up to which 16 random bits draw one; at most 1 word in 64 is drawn again
_FEW = 6  # columns up to which gathering is quicker than a product
_THREADS = min(4, os.cpu_count() or 1)


def mean_interval(
    values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """A mean over rows with a bootstrap interval clustered by `clusters`.

    See `mean_intervals`, of which this is the single column.

    Args:
        values: (n,) values; NaN rows have no value and are left out.
        clusters: (n,) cluster labels.
        confidence: Coverage aimed at.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling; equal seeds give equal intervals.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not {column.shape}")
    return mean_intervals(column[:, None], clusters, confidence=confidence, resamples=resamples, seed=seed)[0]


def mean_intervals(
    values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Estimate]:
    """Means of many columns over the same rows, with clustered BCa intervals.

    Whole clusters are drawn with replacement, and the mean of a resample is the sum of its rows over their number. The
    interval is bias-corrected and accelerated (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14),
    its tail probabilities widened for the number of clusters (Hesterberg, American Statistician 69, 2015, section 4.2).
    Every column sees the same resamples. A column that is constant over clusters has an interval of zero width.

    Args:
        values: (n, k) values, NaN where a row has none.
        clusters: (n,) cluster labels.
        confidence: Coverage aimed at.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
    """
    x = np.asarray(values, dtype=np.float64)
    codes = cluster_codes(clusters)
    if x.ndim != 2 or x.shape[0] != codes.size:
        raise ValueError(f"values of shape {x.shape} do not match {codes.size} cluster labels")
    sums, counts = cluster_sums(x, codes)
    estimates = []
    for sample in bootstrap_means(sums, counts, resamples=resamples, seed=seed):
        if sample is None:
            estimates.append(NOTHING)
            continue
        low, high = sample.interval(confidence)
        estimates.append(Estimate(sample.value, low, high, sample.n, sample.n_clusters))
    return estimates


@dataclass(frozen=True)
class Bootstrap:
    """The bootstrap distribution of one mean, with the two constants that BCa corrects it by.

    Attributes:
        value: The mean.
        replicates: (B,) sorted means of the resamples.
        bias: z0, the normal quantile of the share of replicates below the mean.
        acceleration: a, a sixth of the skewness of the mean's cluster jackknife.
        standard_error: Of the mean, by the cluster jackknife.
        n: Number of rows.
        n_clusters: Number of clusters with at least one row.
    """

    value: float
    replicates: Floats
    bias: float
    acceleration: float
    standard_error: float
    n: int
    n_clusters: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided BCa interval with tails widened for the number of clusters."""
        if self.n_clusters < 2:
            return float("-inf"), float("inf")
        df = self.n_clusters - 1
        widened = np.sqrt(self.n_clusters / df) * stats.t.ppf((1 + confidence) / 2, df)
        z = self.bias + np.array([-widened, widened])
        levels = special.ndtr(self.bias + z / (1 - self.acceleration * z))
        low, high = np.quantile(self.replicates, levels)
        return float(low), float(high)

    def p_value(self, null: float, alternative: Literal["greater", "less"]) -> float:
        """One-sided p-value of the hypothesis that the true mean is `null`.

        The larger of two: of the inverted BCa interval, which allows for skewed data, and of Student's t test, which
        holds its level where heavy tails make a bootstrap too sure of itself.

        Args:
            null: The mean under the hypothesis.
            alternative: "greater" is small where the mean lies above `null`, "less" where it lies below.
        """
        if self.n_clusters < 2:
            return 1.0
        if self.standard_error == 0:
            return float(self.value <= null) if alternative == "greater" else float(self.value >= null)
        b = self.replicates.size
        below = np.searchsorted(self.replicates, null) + np.searchsorted(self.replicates, null, side="right")
        level = np.clip(below / (2 * b), 1 / (b + 1), b / (b + 1))
        w = float(special.ndtri(level)) - self.bias
        z = w / (1 + self.acceleration * w) - self.bias
        df = self.n_clusters - 1
        scores = np.array([z * np.sqrt(df / self.n_clusters), (null - self.value) / self.standard_error])
        return float(special.stdtr(df, scores if alternative == "greater" else -scores).max())


def bootstrap_means(
    sums: Floats, counts: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Bootstrap | None]:
    """Resample clusters and give each column's bootstrap distribution.

    The means of a block of resamples are two matrix products: how often each cluster was drawn, times the cluster sums
    and the cluster counts. A few columns need no such table and are gathered. Blocks have streams of their own, so
    that they can be drawn side by side and the result depends on the seed alone.

    Args:
        sums: (G, k) sums of each cluster's values.
        counts: (G, k) numbers of values.
        resamples: Number of resamples, B.
        seed: Seed of the resampling, at least 0.

    Returns:
        One `Bootstrap` per column; None for a column without values.
    """
    n_clusters, n_columns = sums.shape
    used = np.flatnonzero(counts.sum(axis=0) > 0)
    if used.size == 0:
        return [None] * n_columns
    unique_counts, which = np.unique(counts[:, used], axis=1, return_inverse=True)
    design = np.hstack([sums[:, used], unique_counts])  # (G, k + u)
    totals = _gathered if design.shape[1] <= _FEW else _multiplied
    block = max(1, _BLOCK // n_clusters)

    def means(number: int) -> Floats:
        rows = min(block, resamples - number * block)
        drawn = _draw(np.random.default_rng([seed, number]), n_clusters, rows)
        product = totals(design, drawn)  # (rows, k + u)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios: Floats = product[:, : used.size] / product[:, used.size :][:, which.ravel()]
        return ratios

    with ThreadPoolExecutor(_THREADS if totals is _gathered else 1) as pool:  # the product has threads of its own
        replicates = np.concatenate(list(pool.map(means, range(-(-resamples // block)))))
    result: list[Bootstrap | None] = [None] * n_columns
    for j, column in enumerate(used):
        result[column] = _corrections(sums[:, column], counts[:, column], replicates[:, j])
    return result


def _draw(rng: Generator, n_clusters: int, rows: int) -> Words:
    """Draw clusters with replacement, (rows, G), each as likely as any other.

    The values of a 16- or 32-bit word are cut into G parts of equal length; a word beyond the last part is drawn again.
    """
    word = np.dtype(np.uint16 if n_clusters <= _SHORT else np.uint32)
    size = rows * n_clusters
    drawn: Words = rng.bit_generator.random_raw(-(-size * word.itemsize // 8)).view(word)[:size]
    drawn //= word.type((1 << 8 * word.itemsize) // max(n_clusters, 2))
    if drawn.max() >= n_clusters:
        beyond = np.flatnonzero(drawn >= n_clusters)
        drawn[beyond] = rng.integers(0, n_clusters, beyond.size)
    return drawn.reshape(rows, n_clusters)


def _multiplied(design: Floats, drawn: Words) -> Floats:
    """Column totals (rows, k) of resampled clusters, as a product with how often each cluster was drawn."""
    rows, n_clusters = drawn.shape
    cells = drawn + np.arange(rows)[:, None] * n_clusters
    times = np.bincount(cells.ravel(), minlength=rows * n_clusters).reshape(rows, n_clusters)
    product: Floats = times.astype(np.float64) @ design
    return product


def _gathered(design: Floats, drawn: Words) -> Floats:
    """The same without a table: two columns at a time travel as one complex number."""
    n_clusters, n_columns = design.shape
    padded = np.hstack([design, np.zeros((n_clusters, n_columns % 2))])
    pairs = np.ascontiguousarray((padded[:, 0::2] + 1j * padded[:, 1::2]).T)  # (k / 2, G)
    totals = np.empty((len(drawn), len(pairs)), dtype=np.complex128)
    step = max(1, _CACHED // n_clusters)
    for start in range(0, len(drawn), step):
        part = drawn[start : start + step].astype(np.intp)
        for j, pair in enumerate(pairs):
            pair.take(part).sum(axis=1, out=totals[start : start + step, j])
    return totals.view(np.float64)[:, :n_columns]


def _corrections(sums: Floats, counts: Floats, replicates: Floats) -> Bootstrap:
    """Sort one column's replicates and find its bias correction and acceleration."""
    total, n = float(sums.sum()), float(counts.sum())
    value = total / n
    ordered = np.sort(replicates[~np.isnan(replicates)])  # a resample can miss every cluster that has values
    tolerance = 1e-12 * max(1.0, abs(value))
    below = np.searchsorted(ordered, value - tolerance)
    below_or_at = np.searchsorted(ordered, value + tolerance, side="right")
    bias = float(special.ndtri((below + below_or_at) / (2 * ordered.size)))
    has = counts > 0
    n_clusters = int(has.sum())
    left_out = n - counts[has]
    if n_clusters < 2 or not np.isfinite(bias):
        return Bootstrap(value, ordered, 0.0, 0.0, 0.0, int(n), n_clusters)
    influence = (total - sums[has]) / left_out
    influence = influence.mean() - influence
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    standard_error = float(np.sqrt((n_clusters - 1) / n_clusters * spread))
    return Bootstrap(value, ordered, bias, acceleration, standard_error, int(n), n_clusters)
