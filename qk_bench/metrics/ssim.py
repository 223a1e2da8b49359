"""Structural similarity to the target, as Wang, Bovik, Sheikh and Simoncelli (2004) define it, mean over RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import target
from qk_bench.records import MetricColumn

SIGMA = 1.5
RADIUS = 5  # an 11 × 11 window
_TAPS = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
_TAPS /= _TAPS.sum()
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """SSIM with an 11 × 11 Gaussian window (σ = 1.5), population covariance and a data range of 255.

    Equal to `skimage.metrics.structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255, channel_axis=-1)`. Only windows that lie inside the image count.

    Args:
        first: (H, W, 3) uint8, at least 11 pixels a side.
        second: (H, W, 3) uint8.

    Returns:
        The mean over windows and channels, in [-1, 1].
    """
    maps = np.empty((4, 3, *first.shape[:2]))
    maps[0], maps[1] = first.transpose(2, 0, 1), second.transpose(2, 0, 1)
    np.add(maps[0] ** 2, maps[1] ** 2, out=maps[2])
    np.multiply(maps[0], maps[1], out=maps[3])
    mx, my, squares, mxy = np.stack(
        [[_filter(channel) for channel in kind] for kind in maps]
    )  # each (3, H - 10, W - 10)
    means = mx * mx + my * my
    value = (2 * mx * my + _C1) * (2 * (mxy - mx * my) + _C2) / ((means + _C1) * (squares - means + _C2))
    return float(value.mean())


def _filter(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The window along both axes, (H, W) to (H - 10, W - 10).

    Sums and products only: a matrix product may differ in its last bit from one run of the same library to the next.
    """
    for _ in range(2):  # along the rows' axis, then, turned, along the other
        size = len(image) - 2 * RADIUS
        total = _TAPS[RADIUS] * image[RADIUS : RADIUS + size]
        for k in range(RADIUS):
            pair = image[k : k + size] + image[2 * RADIUS - k : 2 * RADIUS - k + size]
            pair *= _TAPS[k]
            total += pair
        image = np.ascontiguousarray(total.T)
    return image


class Ssim(SampleMetric):
    """SSIM of the output to the target."""

    needs = frozenset(("target",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(
                id=f"ssim[gaussian={SIGMA:g}]",
                direction="higher",
                low=-1,
                high=1,
                description="SSIM to the target, 11 × 11 Gaussian window",
            ),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """SSIM of each item; none for images smaller than the window."""
        return [
            (Value(ssim(item.image, target(item))),)
            if min(item.image.shape[:2]) > 2 * RADIUS
            else (Value(None, "smaller than the 11-pixel window"),)
            for item in items
        ]
