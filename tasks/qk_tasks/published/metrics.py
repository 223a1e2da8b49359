"""Published definitions of metrics, as their benchmarks compute them, to be read beside ours.

Where a definition is defective its column says so, and which of ours measures what it means to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import edit_mask, source, target
from qk_bench.metrics.psnr import CAP, psnr
from qk_bench.metrics.ssim import RADIUS, ssim
from qk_bench.records import MetricColumn

NOTHING_KEPT: Final = "the mask covers the whole image"


class MagicBrushDistances(SampleMetric):
    """MagicBrush's L1 and L2 to the target: means over pixels in [0, 1], the output resized by Pillow's bicubic."""

    needs = frozenset(("target",))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """L1 and L2 (a mean of squares, no root)."""
        texts = {"l1": "mean absolute difference to the target", "l2": "mean squared difference to the target"}
        return tuple(
            MetricColumn(
                id=f"{name}[magicbrush]", direction="lower", low=0, high=1, description=f"{text}, as MagicBrush"
            )
            for name, text in texts.items()
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Both for each item."""
        return [tuple(Value(v) for v in distances(item.returned, target(item))) for item in items]


def distances(output: NDArray[np.uint8], answer: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean absolute and mean squared difference of two uint8 images, of values in [0, 1].

    Args:
        output: (H', W', 3); brought to the answer's size by Pillow's bicubic, as `Image.resize` does by default.
        answer: (H, W, 3).
    """
    if output.shape != answer.shape:
        from PIL import Image

        height, width = answer.shape[:2]
        output = np.asarray(Image.fromarray(output).resize((width, height), Image.Resampling.BICUBIC))
    difference = (output.astype(np.float64) - answer) / 255
    return float(np.abs(difference).mean()), float(np.square(difference).mean())


class PieBenchUnedited(SampleMetric):
    """PIE-Bench's PSNR, MSE and SSIM of the unedited part: both images blacked out inside the mask, then compared whole."""

    needs = frozenset(("source", "edit_mask"))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """PSNR, MSE, SSIM."""
        over_all = "averages over the blacked-out pixels too, so that a larger mask looks like less drift; ours is"
        return (
            MetricColumn(
                id="psnr-unedited[pie-bench]", unit="dB", direction="higher", low=0, high=CAP,
                description=f"as PIE-Bench: {over_all} drift-psnr",
            ),
            MetricColumn(
                id="mse-unedited[pie-bench]", direction="lower", low=0, high=1, description=f"as PIE-Bench: {over_all} drift-psnr",
            ),
            MetricColumn(
                id="ssim-unedited[pie-bench]", direction="higher", low=-1, high=1, description="as PIE-Bench: counts blacked-out windows too",
            ),
        )  # fmt: skip

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """The three for each item."""
        return [_unedited(source(item), item.image, edit_mask(item)) for item in items]


def _unedited(before: NDArray[np.uint8], after: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[Value, ...]:
    if mask.all():
        return (Value(None, NOTHING_KEPT),) * 3
    kept = ~mask[:, :, None]
    one, other = before * kept, after * kept
    mse = float(np.square((one.astype(np.float64) - other) / 255).mean())
    small = min(before.shape[:2]) <= 2 * RADIUS
    similarity = Value(None, "smaller than the 11-pixel window") if small else Value(ssim(one, other))
    return Value(psnr(one, other)), Value(mse), similarity
