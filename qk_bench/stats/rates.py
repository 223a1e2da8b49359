"""Intervals of rates and means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and how much data is behind it."""

    value: float
    low: float
    high: float
    n: int
    n_clusters: int


def rate_interval(values: ArrayLike, clusters: Sequence[str], *, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a rate."""
    data = np.asarray(values, float)
    n, p, z = len(data), float(data.mean()), NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n, len(set(clusters)))


def mean_interval(values: ArrayLike, clusters: Sequence[str], *, confidence: float = 0.95) -> Estimate:
    """Normal interval of a mean."""
    data = np.asarray(values, float)
    n, mean, z = len(data), float(data.mean()), NormalDist().inv_cdf((1 + confidence) / 2)
    half = z * float(data.std(ddof=1)) / n**0.5 if n > 1 else float("inf")
    return Estimate(mean, mean - half, mean + half, n, len(set(clusters)))
