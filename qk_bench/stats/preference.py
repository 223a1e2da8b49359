"""Pairwise preference: Bradley-Terry strengths with intervals that respect who judged.

The likelihood is a logistic regression without intercept and is solved here in a few Newton steps. Libraries fit the
same model (the tests check equality with statsmodels) but none of those looked at gives intervals clustered by judge,
for which the scores of the likelihood are needed anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

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
    first: ArrayLike, second: ArrayLike, preferred: ArrayLike, clusters: ArrayLike, *, ties_added: float = 1.0
) -> BradleyTerry:
    """Fit Bradley-Terry strengths (Bradley & Terry, Biometrika 39, 1952) to pairwise judgements.

    The covariance is the sandwich of the cluster-summed scores with the factor C / (C - 1) (Liang & Zeger, Biometrika
    73, 1986).

    Args:
        first: (n,) index of one model, 0 … M - 1.
        second: (n,) index of the other.
        preferred: (n,) 1 where `first` is preferred, 0 where `second` is, 0.5 for a tie.
        clusters: (n,) label of whoever or whatever makes judgements alike: the judge, usually.
        ties_added: Weight of a tie added to each pair that was compared. It keeps the strengths of a model that always
            wins finite; with 0 such data are refused.

    Raises:
        ValueError: If a strength has no finite estimate, or the models fall into groups that never met.
    """
    i, j = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    y, codes = np.asarray(preferred, dtype=np.float64), cluster_codes(clusters)
    if not (i.size == j.size == y.size == codes.size) or i.size == 0:
        raise ValueError("first, second, preferred and clusters must have one length, above 0")
    n_models = int(max(i.max(), j.max())) + 1
    design = np.zeros((i.size, n_models))
    design[np.arange(i.size), i] = 1
    design[np.arange(i.size), j] -= 1
    pairs = np.unique(np.sort(np.stack([i, j]), axis=0), axis=1)  # (2, pairs)
    ties = np.zeros((pairs.shape[1], n_models))
    ties[np.arange(pairs.shape[1]), pairs[0]], ties[np.arange(pairs.shape[1]), pairs[1]] = 1, -1

    strengths = np.zeros(n_models)
    for _ in range(100):
        p, p_tie = special.expit(design @ strengths), special.expit(ties @ strengths)
        gradient = design.T @ (y - p) + ties_added * ties.T @ (0.5 - p_tie)
        information = (design.T * (p * (1 - p))) @ design + ties_added * (ties.T * (p_tie * (1 - p_tie))) @ ties
        if np.linalg.matrix_rank(information) < n_models - 1 or np.abs(strengths).max() > 30:
            raise ValueError("a strength has no finite estimate: a model always won or lost, or never met the others")
        step = np.linalg.pinv(information) @ gradient
        strengths = strengths + step
        if np.abs(step).max() < 1e-10:
            break

    n_clusters = int(codes.max()) + 1
    scores = np.zeros((n_clusters, n_models))
    np.add.at(scores, codes, design * (y - special.expit(design @ strengths))[:, None])
    bread = np.linalg.pinv(information)
    meat = scores.T @ scores * n_clusters / max(n_clusters - 1, 1)
    return BradleyTerry(strengths - strengths.mean(), bread @ meat @ bread, i.size, n_clusters)
