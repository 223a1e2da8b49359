"""Ranks that say how sure they are, and groups of models that cannot be told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rank_intervals(better: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The ranks each model may hold, from which pairs differ significantly.

    A model's best rank is 1 + the number of models significantly better than it, its worst is the number of models
    less those significantly worse. If the pairwise tests hold the family-wise error at α (Holm), all intervals cover
    the true ranks together with a chance of at least 1 - α (Mogstad, Romano, Shaikh & Wilhelm, Review of Economic
    Studies 91, 2024).

    Args:
        better: (M, M), true at [i, j] where model i is significantly better than model j.

    Returns:
        (best, worst) rank of each model; 1 is the top.
    """
    n_models = better.shape[0]
    return [(1 + int(better[:, i].sum()), n_models - int(better[i].sum())) for i in range(n_models)]


def tie_groups(values: ArrayLike, better: NDArray[np.bool_]) -> list[list[int]]:
    """Runs of neighbours in the order of the estimates in which no pair differs significantly.

    A model can stand in two groups: it cannot be told from either neighbour, which can be told from each other.

    Args:
        values: (M,) estimates, the larger the better.
        better: (M, M), true at [i, j] where model i is significantly better than model j.

    Returns:
        Lists of model indices, best first; no group lies within another.
    """
    order = np.argsort(-np.asarray(values, dtype=np.float64), kind="stable")
    apart = (better | better.T)[np.ix_(order, order)]
    groups: list[list[int]] = []
    end = 0
    for first in range(order.size):
        last = first
        while last + 1 < order.size and not apart[first : last + 1, last + 1].any():
            last += 1
        if last >= end or not groups:
            groups.append([int(i) for i in order[first : last + 1]])
            end = last + 1
    return groups
