"""Kernel Inception Distance (Bińkowski et al., arXiv 1801.01401): an unbiased MMD² with the kernel (x·y/D + 1)³."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.metrics.distribution import DistributionMetric, Sets
from qk_bench.metrics.features import Features, row_blocks
from qk_bench.metrics.intervals import Index, Unit
from qk_bench.records import MetricColumn

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 0


def mmd2(first: Features, second: Features, subsets: Sequence[Unit]) -> NDArray[np.float64]:
    """The unbiased MMD² of subsets of two sets, all of them in one pass over the kernel matrices.

    The sum of a kernel over a subset is zᵀKz with z its 0/1 indicator, so that R subsets cost R columns instead of R
    kernel matrices, and only a block of rows is held.

    Args:
        first: (N, D) features.
        second: (M, D) features.
        subsets: R pairs of positions, without repetition, at least two on each side.

    Returns:
        (R,) values; a little below 0 where the sets are alike.
    """
    a, b = _indicators([s[0] for s in subsets], len(first)), _indicators([s[1] for s in subsets], len(second))
    n, m = a.sum(axis=0), b.sum(axis=0)
    within_first = (_sums(first, first, a, a) - _diagonal(first) @ a) / (n * (n - 1))
    within_second = (_sums(second, second, b, b) - _diagonal(second) @ b) / (m * (m - 1))
    return np.asarray(within_first + within_second - 2 * _sums(first, second, a, b) / (n * m))


def seeded_subsets(n: int, m: int) -> list[Unit]:
    """The subsets KID is the mean over: 100 of 1,000 images, or all images once where there are no more."""
    size = min(n, m, SUBSET_SIZE)
    rng = np.random.default_rng(SEED)
    count = 1 if size == n == m else SUBSETS
    return [(rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)) for _ in range(count)]


def _kernel(first: Features, second: Features) -> NDArray[np.float64]:
    return np.asarray(((first @ second.T).astype(np.float64) / first.shape[1] + 1) ** 3)


def _diagonal(features: Features) -> NDArray[np.float64]:
    return np.asarray((np.einsum("nd,nd->n", features, features, dtype=np.float64) / features.shape[1] + 1) ** 3)


def _sums(first: Features, second: Features, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(a.shape[1])
    for rows in row_blocks(len(first), len(second)):
        total += ((_kernel(first[rows], second) @ b) * a[rows]).sum(axis=0)
    return total


def _indicators(subsets: Sequence[Index], size: int) -> NDArray[np.float64]:
    marks = np.zeros((size, len(subsets)))
    for column, chosen in enumerate(subsets):
        marks[chosen, column] = 1
    return marks


class Kid(DistributionMetric):
    """KID with clean-fid's resize: the mean over seeded subsets.

    The interval is that of the estimate itself. The "std" other tools print is the spread over subsets, which says how
    large the subsets are, not how sure the mean is.
    """

    minimum = 100
    settings = f"subsets={SUBSETS}x{SUBSET_SIZE},seed={SEED}"
    statistics = (MetricColumn(id="kid", direction="lower", description="Kernel Inception Distance, unbiased"),)

    def estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """KID and its standard error."""
        subsets = seeded_subsets(len(sets.outputs), len(sets.references))
        found = mmd2(sets.outputs, sets.references, [*subsets, *sets.halves.draws])
        return (float(found[: len(subsets)].mean()),), sets.halves.errors(found[len(subsets) :, None])
