"""Pairwise preference: Bradley-Terry strengths with intervals that respect who judged.

The model is a logistic regression without intercept, fitted by statsmodels (the extra `preference`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.sparse import csgraph

from qk_bench.stats.clusters import Estimate, Floats, cluster_codes, critical_value


@dataclass(frozen=True)
class BradleyTerry:
    """Fitted strengths: model i is preferred to model j with log-odds strength i - strength j.

    Attributes:
        strengths: (M,) log-odds strengths, which sum to zero.
        covariance: (M, M) cluster-robust covariance of the strengths.
        n: Number of comparisons.
        n_clusters: Number of clusters (judges, or images).
    """

    strengths: Floats
    covariance: Floats
    n: int
    n_clusters: int

    def interval(self, model: int, confidence: float = 0.95) -> Estimate:
        """A model's strength with its interval."""
        return self._estimate(float(self.strengths[model]), float(self.covariance[model, model]), confidence)

    def preference(self, first: int, second: int, confidence: float = 0.95) -> Estimate:
        """The chance that `first` is preferred to `second`, with its interval."""
        c = self.covariance
        gap = float(self.strengths[first] - self.strengths[second])
        e = self._estimate(gap, float(c[first, first] + c[second, second] - 2 * c[first, second]), confidence)
        value, low, high = (float(special.expit(x)) for x in (e.value, e.low, e.high))
        return Estimate(value, low, high, e.n, e.n_clusters)

    def _estimate(self, value: float, variance: float, confidence: float) -> Estimate:
        half = critical_value(confidence, self.n_clusters, clustered=True) * float(np.sqrt(max(variance, 0.0)))
        return Estimate(value, value - half, value + half, self.n, self.n_clusters)


def bradley_terry(
    first: ArrayLike, second: ArrayLike, preferred: ArrayLike, clusters: ArrayLike, *, add_ties: bool = True
) -> BradleyTerry:
    """Fit Bradley-Terry strengths (Bradley & Terry, Biometrika 39, 1952) to pairwise judgements.

    The covariance is the sandwich of the cluster-summed scores with the factor C / (C - 1) (Liang & Zeger, Biometrika
    73, 1986); each added tie counts as a cluster of its own in it.

    Args:
        first: (n,) index of one model, 0 … M - 1.
        second: (n,) index of the other.
        preferred: (n,) 1 where `first` is preferred, 0 where `second` is, 0.5 for a tie.
        clusters: (n,) label of whoever or whatever makes judgements alike: the judge, usually.
        add_ties: Whether to add a tie to each pair that was compared. It keeps the strengths of a model that always
            wins finite; without it such data are refused.

    Raises:
        ValueError: If there are fewer than two clusters, or a strength has no finite estimate: the models fall into
            groups that never met, or of which one always won (Ford, American Mathematical Monthly 64, 1957).
        ImportError: If statsmodels is not installed.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    i, j = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    y, codes = np.asarray(preferred, dtype=np.float64), cluster_codes(clusters)
    if not (i.size == j.size == y.size == codes.size) or i.size == 0:
        raise ValueError("first, second, preferred and clusters must have one length, above 0")
    n_models, n_clusters = int(max(i.max(), j.max())) + 1, int(codes.max()) + 1
    if n_clusters < 2:
        raise ValueError("intervals need judgements of two clusters or more")
    wins = np.zeros((n_models, n_models))
    np.add.at(wins, (i, j), y)
    np.add.at(wins, (j, i), 1 - y)
    met = wins + wins.T > 0
    if csgraph.connected_components(met if add_ties else wins, connection="strong")[0] > 1:
        raise ValueError("a strength has no finite estimate: a model always won or lost, or never met the others")

    ties = np.argwhere(np.triu(met, 1)) if add_ties else np.empty((0, 2), np.int64)  # (pairs, 2)
    i, j = np.r_[i, ties[:, 0]], np.r_[j, ties[:, 1]]
    design = (np.eye(n_models)[i] - np.eye(n_models)[j])[:, 1:]  # strengths relative to that of model 0
    groups = np.r_[codes, n_clusters + np.arange(len(ties))]
    fit = GLM(np.r_[y, np.full(len(ties), 0.5)], design, family=Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    centre = np.eye(n_models) - 1 / n_models  # so that they sum to zero
    strengths = centre[:, 1:] @ fit.params
    covariance = centre[:, 1:] @ fit.cov_params() @ centre[:, 1:].T * n_clusters / (n_clusters - 1)
    return BradleyTerry(strengths, covariance, y.size, n_clusters)
