"""Drift: what changed outside the edit mask, where nothing should have. Only those pixels count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.color import ciede2000_of_pixels
from qk_bench.metrics.inputs import edit_mask, source
from qk_bench.metrics.psnr import CAP, psnr
from qk_bench.records import MetricColumn

VISIBLE = 5.0
"""CIEDE2000 beyond which a changed pixel is counted: clearly visible, above JPEG and resampling."""
NOTHING_OUTSIDE = "the edit mask covers the whole image"


def drift(
    before: NDArray[np.uint8], after: NDArray[np.uint8], outside: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Drift over the pixels of `outside` only.

    Args:
        before: (H, W, 3) uint8.
        after: (H, W, 3) uint8.
        outside: (H, W) bool, with at least one true pixel; a 0/1 mask of another dtype would pick rows and is refused.

    Returns:
        Mean CIEDE2000, share of pixels beyond `VISIBLE`, and PSNR in dB (at most `CAP`).
    """
    if outside.dtype != np.bool_:
        raise TypeError(f"a mask must be bool, not {outside.dtype}")
    kept_before, kept_after = before[outside], after[outside]  # (n, 3)
    differences = ciede2000_of_pixels(kept_before, kept_after)  # (n,)
    return float(differences.mean()), float((differences > VISIBLE).mean()), psnr(kept_before, kept_after)


class Drift(SampleMetric):
    """Colour drift from the source outside the edit mask."""

    needs = frozenset(("source", "edit_mask"))
    kinds = frozenset(("edit",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """Mean CIEDE2000, share beyond ΔE 5, PSNR."""
        return (
            MetricColumn(
                id="drift-ciede2000", unit="ΔE", direction="lower", low=0, description="mean CIEDE2000 outside the mask"
            ),
            MetricColumn(
                id=f"drift-share[ciede2000>{VISIBLE:g}]",
                unit="share",
                direction="lower",
                low=0,
                high=1,
                description="share of the pixels outside the mask that visibly changed",
            ),
            MetricColumn(
                id=f"drift-psnr[cap={CAP:g}]",
                unit="dB",
                direction="higher",
                low=0,
                high=CAP,
                description="PSNR to the source over the pixels outside the mask",
            ),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Three values for each item."""
        values = []
        for item in items:
            outside = ~edit_mask(item)
            found = drift(source(item), item.image, outside) if outside.any() else (None, None, None)
            values.append(tuple(Value(v, "" if v is not None else NOTHING_OUTSIDE) for v in found))
        return values
