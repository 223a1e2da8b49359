"""Precision and recall (Kynkäänniemi et al., arXiv 1904.06991), density and coverage (Naeem et al., 2002.09797)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qk_bench.metrics.distribution import DistributionMetric, Sets
from qk_bench.metrics.features import Features
from qk_bench.records import MetricColumn

PRECISION_K, DENSITY_K = 3, 5  # the papers' own
_ROWS = 1024


def precision_recall(outputs: Features, references: Features) -> tuple[float, float, float, float]:
    """Precision, recall, density, coverage.

    Precision is the share of outputs within reach of a reference, recall the converse; an image's reach is its distance
    to its third nearest neighbour in its own set. Density is the mean number of references an output is within reach
    of, over k; coverage the share of references with an output within reach, both with k = 5.

    Args:
        outputs: (N, D), N > 5.
        references: (M, D), M > 5.

    Returns:
        Each in [0, 1] but density, which has no upper bound.
    """
    reach3, reach5 = _reach(references)
    own_reach3, _ = _reach(outputs)
    inside, nearest = 0, np.full(len(references), np.inf)
    precise, recalled = 0, np.zeros(len(references), np.bool_)
    for start in range(0, len(outputs), _ROWS):
        rows = slice(start, start + _ROWS)
        square = _squares(outputs[rows], references)  # (rows, M)
        precise += int((square <= reach3).any(axis=1).sum())
        recalled |= (square <= own_reach3[rows, None]).any(axis=0)
        inside += int((square <= reach5).sum())
        nearest = np.minimum(nearest, square.min(axis=0))
    n = len(outputs)
    return precise / n, float(recalled.mean()), inside / (DENSITY_K * n), float((nearest <= reach5).mean())


def _reach(features: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Squared distances to the 3rd and 5th neighbour, itself not counted."""
    third, fifth = np.empty(len(features), np.float32), np.empty(len(features), np.float32)
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        nearest = np.partition(_squares(features[rows], features), (PRECISION_K, DENSITY_K), axis=1)
        third[rows], fifth[rows] = nearest[:, PRECISION_K], nearest[:, DENSITY_K]
    return third, fifth


def _squares(first: Features, second: Features) -> NDArray[np.float32]:
    norms = (np.einsum("nd,nd->n", x, x) for x in (first, second))
    a, b = norms
    return np.asarray(np.maximum(a[:, None] + b - 2 * (first @ second.T), 0))


class PrecisionRecall(DistributionMetric):
    """Precision, recall, density and coverage with clean-fid's resize."""

    minimum = 100
    settings = f"k={PRECISION_K}|{DENSITY_K}"
    statistics = (
        MetricColumn(id="precision", unit="share", direction="higher", low=0, high=1, description="k = 3"),
        MetricColumn(id="recall", unit="share", direction="higher", low=0, high=1, description="k = 3"),
        MetricColumn(id="density", direction="higher", low=0, description="k = 5"),
        MetricColumn(id="coverage", unit="share", direction="higher", low=0, high=1, description="k = 5"),
    )

    def estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """All four, and those of each subset."""
        return precision_recall(sets.outputs, sets.references), sets.resampled(precision_recall)
