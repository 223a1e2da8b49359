"""Corrections for testing many hypotheses at once. A hypothesis without a p-value (NaN) still counts in the family."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qk_bench.stats.clusters import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Holm, Scandinavian Journal of Statistics 6, 1979).

    Rejecting where the adjusted p is at most α keeps the chance of any false rejection in the family at most α,
    whatever the dependence.

    Args:
        p_values: (m,) p-values, NaN where a test was refused; it counts as 1 and stays NaN.
    """
    p, order = _sorted(p_values)
    steps = np.maximum.accumulate(p * np.arange(p.size, 0, -1))
    return _restored(np.minimum(steps, 1.0), order, p_values)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p-values that control the false discovery rate (Benjamini & Hochberg, JRSS B 57, 1995).

    Args:
        p_values: (m,) p-values, NaN where a test was refused; it counts as 1 and stays NaN.
    """
    p, order = _sorted(p_values)
    steps = np.minimum.accumulate((p * p.size / np.arange(1, p.size + 1))[::-1])[::-1]
    return _restored(np.minimum(steps, 1.0), order, p_values)


def _sorted(p_values: ArrayLike) -> tuple[Floats, np.ndarray]:
    p = np.nan_to_num(np.asarray(p_values, dtype=np.float64), nan=1.0)
    order = np.argsort(p, kind="stable")
    return p[order], order


def _restored(adjusted: Floats, order: np.ndarray, p_values: ArrayLike) -> Floats:
    result = np.empty_like(adjusted)
    result[order] = adjusted
    result[np.isnan(np.asarray(p_values, dtype=np.float64))] = np.nan
    return result
