"""Tests of "no difference" that flip the sign of whole clusters: exact for counts, Monte Carlo for measurements.

If two models are exchangeable on a cluster, swapping their names changes the sign of the cluster's summed difference
and nothing else. All sign patterns are then equally likely, whatever the distribution (Good, Permutation, Parametric
and Bootstrap Tests of Hypotheses, 2005, section 3.2). Seeds and samples that share a cluster flip together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal, stats

from qk_bench.stats.clusters import Floats

FLIPS = 10_000
_BLOCK = 1 << 21  # signs held at a time, about 16 MB as doubles


def sign_flip_exact(sums: ArrayLike) -> float:
    """Exact two-sided sign-flip p-value for cluster sums that are whole numbers, such as differences of success counts.

    The null distribution is a convolution of one binomial for each size of sum, so no resampling is needed and p can be
    as small as the data allow. With sums of -1, 0 and 1 only this is the exact McNemar test.

    Args:
        sums: (G,) summed difference of each cluster.
    """
    x = np.asarray(sums, dtype=np.float64)
    sizes = np.abs(np.rint(x)).astype(np.int64)
    if not np.array_equal(np.abs(x), sizes):
        raise ValueError("the exact test needs whole numbers")
    null = np.ones(1)  # chances of sum = -reach, -reach + 1, …, reach
    for size in np.unique(sizes[sizes > 0]):
        count = int((sizes == size).sum())
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        null = signal.convolve(null, steps)
    reach = null.size // 2
    extreme = int(abs(np.rint(x.sum())))
    if extreme == 0:
        return 1.0
    p = 2 * float(null[reach + extreme :].sum())
    return min(1.0, max(p, np.finfo(np.float64).eps))  # a convolution is exact to about this


def mcnemar_exact(gains: int, losses: int) -> float:
    """Exact McNemar test: a two-sided binomial test of the discordant pairs (McNemar, Psychometrika 12, 1947).

    For one seed and independent samples only.

    Args:
        gains: Pairs where only B succeeds.
        losses: Pairs where only A succeeds.
    """
    return float(stats.binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0


def sign_flip_test(sums: ArrayLike, *, flips: int = FLIPS, seed: int = 0) -> Floats:
    """Two-sided sign-flip p-values for many columns at once; all see the same flips.

    Where there are no more than `flips` sign patterns all are listed, and p is exact; otherwise patterns are drawn, and
    the observed one counts as one of them (Phipson & Smyth, SAGMB 9, 2010), so that p is at least 1 / (flips + 1).

    Args:
        sums: (G, k) summed difference of each cluster; a cluster without rows has 0.
        flips: Number of sign patterns to draw.
        seed: Seed of the drawing.

    Returns:
        (k,) p-values.
    """
    x = np.asarray(sums, dtype=np.float64)
    n_clusters, n_columns = x.shape
    total = x.sum(axis=0)
    extreme = np.abs(total) - 1e-12 * np.abs(x).sum(axis=0)  # sums that tie but for rounding count as ties
    exact = n_clusters <= np.log2(flips)
    patterns = 2**n_clusters if exact else flips
    n_bytes = -(-n_clusters // 8)
    block = max(1, _BLOCK // max(n_clusters, n_columns, 1))
    rng = np.random.default_rng(seed)
    as_extreme = np.zeros(n_columns)
    for start in range(0, patterns, block):
        rows = min(block, patterns - start)
        if exact:
            numbers = np.arange(start, start + rows, dtype="<u4")
            packed = numbers.view(np.uint8).reshape(rows, 4)[:, :n_bytes]
        else:
            packed = np.frombuffer(rng.bytes(rows * n_bytes), np.uint8).reshape(rows, n_bytes)
        kept = np.unpackbits(packed, axis=1, count=n_clusters, bitorder="little")  # (rows, G)
        flipped = 2 * (kept.astype(np.float64) @ x) - total  # sum of kept minus sum of flipped
        as_extreme += (np.abs(flipped) >= extreme).sum(axis=0)
    return as_extreme / patterns if exact else (1 + as_extreme) / (flips + 1)
