"""The values of one model on one task, in arrays, and what they say: rates and means with their intervals."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qk_bench.records import FAILURES, JUDGE_ERROR, SUCCESS, ScoreStatus
from qk_bench.stats import Estimate, mean_intervals, rate_interval


@dataclass
class Cell:
    """The scores of one (model, task), 8 bytes each: a run of 100,000 samples must fit."""

    clusters: array[int] = field(default_factory=lambda: array("q"))
    """The number of each outcome's cluster."""
    values: dict[str, array[float]] = field(default_factory=dict)
    """Per metric one value for each outcome; NaN where there is none."""
    without: dict[str, Counter[str]] = field(default_factory=dict)
    """Per metric how many outcomes have no value, by status."""

    def add(self, cluster: int, metric: str, value: float | None, status: ScoreStatus) -> None:
        """Enter one score. The scores of an outcome follow each other, success first."""
        if metric == SUCCESS:
            self.clusters.append(cluster)
        column = self.values.get(metric)
        if column is None:
            column = self.values[metric] = array("d")
            self.without[metric] = Counter()
        if value is None:
            self.without[metric][status] += 1
            value = 0.0 if metric == SUCCESS and status in FAILURES else math.nan
        column.append(value)

    def judge_errors(self, metric: str) -> int:
        """How many outcomes have no value because a judge failed."""
        return self.without[metric][JUDGE_ERROR] if metric in self.without else 0

    def estimates(self) -> dict[str, Estimate | None]:
        """Each metric's rate or mean with its interval; None where no outcome has a value."""
        clusters = np.asarray(self.clusters)
        columns = {metric: np.asarray(column) for metric, column in self.values.items()}
        found: dict[str, Estimate | None] = {}
        finite: list[str] = []
        for metric, column in columns.items():
            there = ~np.isnan(column)
            if not there.any():
                found[metric] = None
            elif metric == SUCCESS:
                found[metric] = rate_interval(column[there], clusters[there])
            elif np.isinf(column).any():
                found[metric] = _infinite(column[there], clusters[there])
            else:
                finite.append(metric)
        if finite:
            matrix = np.column_stack([columns[metric] for metric in finite])
            found |= zip(finite, mean_intervals(matrix, clusters), strict=True)
        return found


def pooled(cells: Sequence[Cell]) -> Cell:
    """Several tasks of one model together; a metric that a task does not have has no value there."""
    whole = Cell()
    for cell in cells:
        for metric in cell.values:
            missing = array("d", [math.nan]) * len(whole.clusters)
            whole.values.setdefault(metric, missing)
            whole.without.setdefault(metric, Counter()).update(cell.without[metric])
        for metric, column in whole.values.items():
            column.extend(cell.values.get(metric, array("d", [math.nan]) * len(cell.clusters)))
        whole.clusters.extend(cell.clusters)
    return whole


def _infinite(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> Estimate:
    """A mean without an interval, such as that of a PSNR of identical images."""
    mean = float(values.sum()) if len(set(values[np.isinf(values)].tolist())) == 1 else math.nan
    return Estimate(mean, mean, mean, len(values), len(np.unique(clusters)))
