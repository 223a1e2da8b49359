"""Precision and recall (Kynkäänniemi et al., arXiv 1904.06991), density and coverage (Naeem et al., 2002.09797)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.metrics.distribution import DistributionMetric, Sets
from qk_bench.metrics.features import Features, row_blocks
from qk_bench.metrics.intervals import Unit, count_interval, share_interval
from qk_bench.records import MetricColumn

PRECISION_K, DENSITY_K = 3, 5  # the papers' own
_DENSITY = 2  # its place among the four values
_ROUNDING = np.float32(1e-6)  # of a squared distance from products in float32, as a share of the two squared norms


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
    for rows in row_blocks(len(outputs), len(references)):
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
    for rows in row_blocks(len(features), len(features)):
        nearest = np.partition(_squares(features[rows], features), (PRECISION_K, DENSITY_K), axis=1)
        third[rows], fifth[rows] = nearest[:, PRECISION_K], nearest[:, DENSITY_K]
    return third, fifth


def _squares(first: Features, second: Features) -> NDArray[np.float32]:
    a, b = (np.einsum("nd,nd->n", x, x) for x in (first, second))
    norms = a[:, None] + b
    squares = norms - 2 * (first @ second.T)
    return np.where(squares > _ROUNDING * norms, squares, np.float32(0))  # else equal images were at a distance


def density_error(outputs: Features, references: Features, strata: Sequence[Sequence[Unit]]) -> float:
    """Standard error of density by the jackknife: the density without each unit, in one pass over the distances.

    Half samples understate it: among half as many references the fifth neighbour is another one, and density, unlike
    the three shares, has no bound to keep a few wide references from weighing much. A jackknife overstates it if
    anything (Efron and Stein, "The jackknife estimate of variance", 1981).

    Args:
        outputs: (N, D).
        references: (M, D).
        strata: Units of each stratum, as `half_samples` takes them.
    """
    units = [unit for stratum in strata for unit in stratum]
    owner, reference_owner = np.empty(len(outputs), np.intp), np.empty(len(references), np.intp)
    for number, (ours, theirs) in enumerate(units):
        owner[ours], reference_owner[theirs] = number, number
    total, lost = 0, np.zeros(len(units))  # pairs of an output within reach of a reference; of them, gone with a unit
    for rows in row_blocks(len(references), max(len(outputs), len(references))):
        block = references[rows]
        own, across = _squares(block, references), _squares(block, outputs)  # (rows, M), (rows, N)
        neighbours = np.argpartition(own, DENSITY_K, axis=1)[:, : DENSITY_K + 1]
        for row, (distances, near) in enumerate(zip(own, neighbours, strict=True)):
            inside = across[row] <= distances[near].max()
            count = int(inside.sum())
            gone = np.bincount(owner[inside], minlength=len(units))
            mine = reference_owner[rows.start + row]
            for unit in set(reference_owner[near].tolist()) - {mine}:  # without it the reach is longer
                left = distances[reference_owner != unit]
                reach = np.partition(left, min(DENSITY_K, len(left) - 1))[: DENSITY_K + 1].max()
                gone[unit] = count - int(((across[row] <= reach) & (owner != unit)).sum())
            gone[mine] = count
            total += count
            lost += gone
    remaining = np.array([len(outputs) - ours.size for ours, _ in units])
    without = (total - lost) / (DENSITY_K * np.maximum(remaining, 1))
    ends = np.cumsum([len(stratum) for stratum in strata])[:-1]
    return float(np.sqrt(sum((len(x) - 1) * x.var() for x in np.split(without, ends))))


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
        """All four and their standard errors: density's by the jackknife."""
        values = precision_recall(sets.outputs, sets.references)
        errors = sets.errors(precision_recall)
        if errors.size:
            errors[_DENSITY] = density_error(sets.outputs, sets.references, sets.halves.strata)
        return values, errors

    def intervals(self, values: Sequence[float], errors: Sequence[float], sets: Sets) -> list[tuple[float, float]]:
        """Score intervals: shares are often 1 or nearly so, where subsets hardly differ."""
        n, m, degrees = len(sets.outputs), len(sets.references), sets.halves.degrees
        kinds = (share_interval, n), (share_interval, m), (count_interval, n), (share_interval, m)
        return [around(v, e, size, degrees) for v, e, (around, size) in zip(values, errors, kinds, strict=True)]
