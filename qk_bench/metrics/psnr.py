"""Peak signal-to-noise ratio to the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import target
from qk_bench.records import MetricColumn

CAP = 100.0
"""Decibels given to identical images, whose PSNR has no bound; at 512 px one level in one byte is 107 dB."""


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
    """PSNR in dB with a peak of 255, at most `CAP`.

    Args:
        first: (H, W, 3) uint8.
        second: (H, W, 3) uint8.
        mask: (H, W) bool; the mean of squares is over the true pixels only, and divides by their number, not by H·W.

    Returns:
        10 log10(255² / mean squared error), in [0, CAP].
    """
    if mask is not None and mask.dtype != np.bool_:  # 0 and 1 would pick rows
        raise TypeError(f"a mask must be bool, not {mask.dtype}")
    a, b = (first, second) if mask is None else (first[mask], second[mask])
    difference = a.astype(np.int16) - b
    mse = float(np.vdot(difference.astype(np.float64), difference)) / difference.size
    return CAP if mse == 0 else min(CAP, 10 * np.log10(255**2 / mse))


class Psnr(SampleMetric):
    """PSNR of the output to the target."""

    needs = frozenset(("target",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(
                id=f"psnr[cap={CAP:g}]",
                unit="dB",
                direction="higher",
                low=0,
                high=CAP,
                description="PSNR to the target",
            ),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """PSNR of each item."""
        return [(Value(psnr(item.image, target(item))),) for item in items]
