"""The Fréchet distance between two Gaussians, without a matrix square root.

Dowson and Landau (1982): d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½. With Σᵢ = FᵢᵀFᵢ the non-zero eigenvalues of
Σ₁Σ₂ are the squared singular values of F₁F₂ᵀ, so that the last trace is the sum of those singular values. For N images
of D features with N ≤ D, F is the centred features themselves and the matrix is only N × N; for N > D, F is the
Cholesky factor of the covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS = 2048


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and a factor F (K, D) of the covariance, Σ = FᵀF, K = min(N, D)."""

    mean: NDArray[np.float64]
    factor: NDArray[np.floating]


def moments(features: NDArray[np.float32], dtype: type[np.floating] = np.float64) -> Moments:
    """Mean and covariance factor of features, normalised by N - 1.

    Args:
        features: (N, D), N ≥ 2.
        dtype: Precision of the factor where N ≤ D.
    """
    n, d = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    if n <= d:
        return Moments(mean, (features - mean.astype(dtype)) / dtype(np.sqrt(n - 1)))
    return Moments(mean, _factor(_covariance(features, mean)))


def frechet(first: Moments, second: Moments) -> float:
    """The squared Fréchet distance, ≥ 0 up to rounding."""
    difference = first.mean - second.mean
    traces = sum(float(np.vdot(m.factor, m.factor)) for m in (first, second))
    return float(difference @ difference) + traces - 2 * _nuclear_norm(first.factor @ second.factor.T)


def frechet_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The squared Fréchet distance between features (N, D) and (M, D): FID where they are Inception's."""
    return max(0.0, frechet(moments(first), moments(second)))


def _covariance(features: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products in float32 over blocks small enough for rounding not to add up, sums in float64: half the time."""
    n, d = features.shape
    shift = mean.astype(np.float32)
    total = np.zeros((d, d))
    buffer = np.empty((min(n, _ROWS), d), np.float32)
    for start in range(0, n, _ROWS):
        rows = features[start : start + _ROWS]
        block = np.subtract(rows, shift, out=buffer[: len(rows)])
        total += block.T @ block
    rest = mean - shift
    return np.asarray((total - n * np.outer(rest, rest)) / (n - 1))


def _factor(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(np.linalg.cholesky(covariance, upper=True))
    except np.linalg.LinAlgError:  # a feature that never varies, or too few distinct images
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def _nuclear_norm(matrix: NDArray[np.floating]) -> float:
    if min(matrix.shape) <= 1024:
        return float(np.linalg.svd(matrix, compute_uv=False).sum(dtype=np.float64))
    square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(square), 0)).sum())
