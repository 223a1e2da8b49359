"""Stability: how much the outputs for one sample differ from seed to seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Scored, SetMetric, SetValue
from qk_bench.metrics.color import ciede2000_of_pixels
from qk_bench.metrics.intervals import clustered_units, half_samples, interval
from qk_bench.records import MetricColumn


def spread(images: list[NDArray[np.uint8]]) -> float:
    """Mean CIEDE2000 over all pixels and all pairs of images of one size, (H, W, 3) uint8."""
    return float(np.mean([ciede2000_of_pixels(a, b).mean() for a, b in combinations(images, 2)]))


class Stability(SetMetric):
    """Mean over samples of the spread over seeds. Chosen here: no benchmark publishes a formula for it."""

    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(
                id="stability[ciede2000]",
                unit="ΔE",
                direction="lower",
                low=0,
                description="mean colour difference between outputs of one sample under different seeds",
            ),
        )

    def compute(self, items: Iterator[Scored]) -> tuple[SetValue, ...]:
        """The mean spread; items of one sample follow each other, so that only one sample's images are held."""
        spreads: list[float] = []
        clusters: list[str] = []
        for _, group in groupby(items, key=lambda item: item.sample.id):
            same = list(group)
            if len(same) > 1:
                spreads.append(spread([item.image for item in same]))
                clusters.append(same[0].sample.cluster)
        n = len(spreads)
        if not n:
            return (SetValue(None, None, None, 0, "no sample has outputs under two seeds"),)
        value = float(np.mean(spreads))
        halves = half_samples([clustered_units(clusters, [])])
        if halves is None:
            return (SetValue(value, None, None, n, "no interval: too few clusters"),)
        error = halves.errors([np.mean(np.take(spreads, chosen)) for chosen, _ in halves.draws])
        low, high = interval(value, float(error), halves.degrees)
        return (SetValue(value, max(0.0, low), high, n),)
