"""Simulated runs whose truth is known, by which `qk_bench.stats.calibration` measures the statistics.

A score comes from a latent normal variable with a share each for the source image (cluster), the sample, the model's
own way with the sample, and the seed: two models agree on what is hard, and rows of a cluster or a sample are alike.
A success is a latent value above a threshold; a measurement is a monotone function of it, straight or skewed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from scipy import special

from qk_bench.stats import Pilot, read_pilot
from qk_bench.stats.clusters import Floats, Ints

Kind = Literal["success", "normal", "skewed"]


@dataclass(frozen=True)
class Shape:
    """The shape of a simulated run: samples, samples that share an image, seeds."""

    n_samples: int
    per_cluster: int = 1
    seeds: int = 3

    @property
    def clusters(self) -> Ints:
        """(n,) cluster of each row."""
        return np.repeat(np.arange(self.n_samples) // self.per_cluster, self.seeds)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return -(-self.n_samples // self.per_cluster)

    def __str__(self) -> str:
        """As it stands in the tables."""
        return f"{self.n_samples} samples, {self.n_clusters} clusters, {self.seeds} seed{'s' * (self.seeds > 1)}"


def simulate(rng: Generator, shape: Shape, models: int = 2, unlike: bool = False) -> Floats:
    """Latent scores, (models, n): standard normal, alike within cluster and sample. With `unlike`, model 0 ignores
    seeds.
    """

    def normal(*size: int) -> Floats:
        return rng.standard_normal(size)

    cluster = np.repeat(normal(shape.n_clusters), shape.per_cluster)[: shape.n_samples]
    common = np.sqrt(0.3) * cluster + np.sqrt(0.2) * normal(shape.n_samples)  # (samples,)
    own = np.sqrt(0.2) * normal(models, shape.n_samples)
    noise = np.sqrt(0.3) * normal(models, shape.n_samples, shape.seeds)
    if unlike:
        noise[0] = noise[0, :, :1]
    latent: Floats = ((common + own)[:, :, None] + noise).reshape(models, -1)
    return latent


def observe(latent: Floats, kind: Kind, rate: float = 0.7) -> Floats:
    """Turn latent scores into successes at this rate, or into measurements with mean 0 and a spread of 1."""
    if kind == "success":
        return (latent < special.ndtri(rate)).astype(np.float64)
    if kind == "normal":
        return latent
    skewed: Floats = -special.log_ndtr(-latent) - 1.0  # exponential: skewness 2
    return skewed


def stream(*key: object) -> Generator:
    """The random numbers of one cell of a table: they come from what it measures, not from when."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def difference_sums(rng: Generator, shape: Shape, kind: Kind, count: int, shift: float = 0.0) -> tuple[Floats, Floats]:
    """Cluster sums (G, count) and counts (G, 1) of B - A in so many simulated runs, B shifted."""
    codes = shape.clusters
    sums = np.empty((shape.n_clusters, count))
    for i in range(count):
        a, b = observe(simulate(rng, shape), kind)
        sums[:, i] = np.bincount(codes, b - a + shift)
    return sums, np.bincount(codes).astype(np.float64)[:, None]


def large_pilot(rng: Generator, shape: Shape, kind: Kind) -> Pilot:
    """A pilot of 100,000 samples, so that the promise is not blurred by the pilot's own error."""
    large = Shape(100_000, shape.per_cluster, shape.seeds)
    a, b = observe(simulate(rng, large), kind)
    samples = np.repeat(np.arange(large.n_samples), large.seeds)
    return read_pilot(a, b, samples, large.clusters, rate=kind == "success")
