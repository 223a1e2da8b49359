"""The Fréchet distance between two Gaussians, without a matrix square root.

Dowson and Landau (1982): d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½. With Σ₁ = FᵀF the non-zero eigenvalues of
Σ₁Σ₂ are those of the symmetric FΣ₂Fᵀ, so that the last trace is the sum of their roots. For N images of D features with
N ≤ D, F is the centred features themselves and the matrix is only N × N (with both sets so small, the roots are the
singular values of F₁F₂ᵀ); for N > D, F is the Cholesky factor of the covariance of one set, and the other needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS = 2048


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance: a factor F (N, D), Σ = FᵀF, for N ≤ D images; for more, the upper triangle of Σ (D, D)."""

    mean: NDArray[np.float64]
    factor: NDArray[np.floating] | None = None
    covariance: NDArray[np.float64] | None = None

    def trace(self) -> float:
        """The trace of the covariance."""
        if self.factor is not None:
            return float(np.vdot(self.factor, self.factor))
        assert self.covariance is not None
        return float(np.trace(self.covariance))


def moments(features: NDArray[np.float32], dtype: type[np.floating] = np.float64) -> Moments:
    """Mean and covariance of features, normalised by N - 1.

    Args:
        features: (N, D), N ≥ 2.
        dtype: Precision of the factor where N ≤ D.
    """
    n, d = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    if n <= d:
        return Moments(mean, (features - mean.astype(dtype)) / dtype(np.sqrt(n - 1)))
    return Moments(mean, covariance=_covariance(features, mean))


def frechet(first: Moments, second: Moments) -> float:
    """The squared Fréchet distance, ≥ 0 up to rounding."""
    difference = first.mean - second.mean
    return float(difference @ difference) + first.trace() + second.trace() - 2 * _root_trace(first, second)


def frechet_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The squared Fréchet distance between features (N, D) and (M, D): FID where they are Inception's."""
    return max(0.0, frechet(moments(first), moments(second)))


def _covariance(features: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangle, zeros below it.

    Products in float32 over blocks small enough for rounding not to add up, sums in float64: half the time. In Fortran's
    order, which is BLAS's own.
    """
    from scipy.linalg.blas import dsyr, ssyrk

    n, d = features.shape
    shift = mean.astype(np.float32)
    total = np.zeros((d, d), order="F")
    buffer = np.empty((min(n, _ROWS), d), np.float32)
    product = np.zeros((d, d), np.float32, order="F")
    for start in range(0, n, _ROWS):
        rows = features[start : start + _ROWS]
        block = np.subtract(rows, shift, out=buffer[: len(rows)])
        total += ssyrk(1.0, block.T, c=product, overwrite_c=1)
    total = dsyr(-float(n), mean - shift, a=total, overwrite_a=1)
    total /= n - 1
    return np.asarray(total)


def _whole(triangle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric matrix of an upper triangle."""
    return np.asarray(np.triu(triangle) + np.triu(triangle, 1).T)


def _root_trace(first: Moments, second: Moments) -> float:
    """The trace of (Σ₁Σ₂)^½."""
    if first.factor is not None and second.factor is not None:
        return _nuclear_norm(first.factor @ second.factor.T)
    if first.covariance is None:
        first, second = second, first
    assert first.covariance is not None
    if second.factor is not None:
        product = second.factor @ _whole(first.covariance) @ second.factor.T
    else:
        assert second.covariance is not None
        product = _between(first.covariance, second.covariance)
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(product, "U"), 0)).sum(dtype=np.float64))


def _between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """FΣ₂Fᵀ with Σ₁ = FᵀF, from and to upper triangles."""
    from scipy.linalg.lapack import dpotrf, dsygst

    factor, info = dpotrf(first)
    if info == 0:
        product, info = dsygst(second, factor, itype=2)  # half the work of two products with a triangle
    if info == 0:
        return np.asarray(product)
    values, vectors = np.linalg.eigh(first, "U")  # a feature that never varies, or too few distinct images
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return np.asarray(root @ _whole(second) @ root.T)


def _nuclear_norm(matrix: NDArray[np.floating]) -> float:
    if min(matrix.shape) <= 1024:
        return float(np.linalg.svd(matrix, compute_uv=False).sum(dtype=np.float64))
    square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(square), 0)).sum())
