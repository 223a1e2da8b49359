"""What every statistic here rests on: rows grouped into clusters, and the `Estimate` they give.

A row is one (sample, seed). Rows of one cluster share a source image; the seeds of a sample share the sample. Such rows
move together, so the cluster is the unit that is resampled, flipped and counted as evidence. A sample that shares its
image with no other is a cluster of its own, and its seeds are the rows of that cluster: seeds are a random factor
nested in the sample, never extra samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_CLUSTERS = 10
"""Fewer clusters than this give no p-value: the tests' measured false-alarm rate is not promised there."""


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval and the evidence behind it.

    Attributes:
        value: The point estimate; NaN where there are no rows.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of rows used.
        n_clusters: Number of clusters those rows come from.
    """

    value: float
    low: float
    high: float
    n: int
    n_clusters: int


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0, 0)
"""The estimate from no rows at all."""


def cluster_codes(clusters: ArrayLike) -> Ints:
    """Number the clusters 0, 1, … in sorted order of their labels.

    Args:
        clusters: (n,) integer or string labels.

    Returns:
        (n,) codes in [0, number of clusters).
    """
    labels = np.asarray(clusters)
    if labels.ndim != 1:
        raise ValueError(f"clusters must be one-dimensional, not {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def cluster_sums(values: Floats, codes: Ints) -> tuple[Floats, Floats]:
    """Add up the rows of each cluster, leaving NaN (no value) out.

    Args:
        values: (n, k) values, NaN where a row has none.
        codes: (n,) cluster codes.

    Returns:
        (G, k) sums and (G, k) counts of the rows that have a value.
    """
    n_clusters = int(codes.max()) + 1 if codes.size else 0
    sums = np.zeros((n_clusters, values.shape[1]))
    counts = np.zeros_like(sums)
    for j in range(values.shape[1]):
        present = ~np.isnan(values[:, j])
        sums[:, j] = np.bincount(codes[present], values[present, j], n_clusters)
        counts[:, j] = np.bincount(codes[present], minlength=n_clusters)
    return sums, counts


def critical_value(confidence: float, n_clusters: int, clustered: bool) -> float:
    """Two-sided critical value: Student's t on clusters - 1 degrees of freedom, normal where rows are independent.

    A variance estimated from G clusters has about G - 1 degrees of freedom (Korn & Graubard, Survey Methodology 24,
    1998).
    """
    tail = (1 + confidence) / 2
    return float(stats.t.ppf(tail, max(n_clusters - 1, 1)) if clustered else stats.norm.ppf(tail))
