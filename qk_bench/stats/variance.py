"""Where the spread of a score comes from: the items, or the seeds of an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qk_bench.stats.clusters import cluster_codes


@dataclass(frozen=True)
class VarianceSplit:
    """Variance components of one value per (item, seed).

    Attributes:
        item: Variance between items; more items lower its share of the error, more seeds do not.
        seed: Variance between the seeds of an item; NaN if every item has one seed.
        n_items: Number of items.
        n_rows: Number of rows.
    """

    item: float
    seed: float
    n_items: int
    n_rows: int

    @property
    def seed_share(self) -> float:
        """The seeds' share of the variance of a single row, in [0, 1]; NaN where it is not known."""
        total = self.item + self.seed
        return self.seed / total if total > 0 else float("nan")


def variance_split(values: ArrayLike, items: ArrayLike) -> VarianceSplit:
    """Split the variance of a score into items and seeds: one-way random effects by analysis of variance.

    The estimators are those of Searle, Casella & McCulloch (Variance Components, 1992, section 3.6) for unequal group
    sizes; an item variance below zero is reported as zero.

    Args:
        values: (n,) values; NaN rows are left out.
        items: (n,) item labels; rows of one item are its seeds.
    """
    x, labels = np.asarray(values, dtype=np.float64), np.asarray(items)
    present = ~np.isnan(x)
    x, codes = x[present], cluster_codes(labels[present])
    n = x.size
    sizes = np.bincount(codes).astype(np.float64)
    n_items = sizes.size
    if n_items < 2:
        return VarianceSplit(float("nan"), float("nan"), n_items, n)
    means = np.bincount(codes, x) / sizes
    between = float((sizes * (means - x.mean()) ** 2).sum()) / (n_items - 1)
    if n == n_items:
        return VarianceSplit(between, float("nan"), n_items, n)
    within = float(((x - means[codes]) ** 2).sum()) / (n - n_items)
    usual_size = (n - float((sizes**2).sum()) / n) / (n_items - 1)
    return VarianceSplit(max(0.0, (between - within) / usual_size), within, n_items, n)
