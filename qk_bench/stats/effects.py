"""Effect sizes: how large a difference is, whatever the number of samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def cohens_h(rate_a: float, rate_b: float) -> float:
    """Cohen's h of B against A, the difference of arcsine-transformed rates, in [-π, π].

    About 0.2 is small, 0.5 medium, 0.8 large (Cohen, Statistical Power Analysis, 1988, section 6.2).
    """
    return float(2 * np.arcsin(np.sqrt(rate_b)) - 2 * np.arcsin(np.sqrt(rate_a)))


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """Cliff's delta of B against A: the chance that a value of B exceeds one of A, less the reverse, in [-1, 1].

    About 0.15 is small, 0.33 medium, 0.47 large (Cliff, Psychological Bulletin 114, 1993; thresholds of Romano et al.,
    2006). Every value of one side is compared with every value of the other.

    Args:
        a: (n,) values of A.
        b: (m,) values of B.
    """
    x, y = np.sort(np.asarray(a, dtype=np.float64)), np.asarray(b, dtype=np.float64)
    if x.size == 0 or y.size == 0:
        return float("nan")
    smaller = np.searchsorted(x, y, side="left").sum(dtype=np.int64)
    not_larger = np.searchsorted(x, y, side="right").sum(dtype=np.int64)
    return float(smaller + not_larger - x.size * y.size) / (x.size * y.size)
