"""PaintBench's pixel accuracies: edit accuracy, preservation accuracy and IoU at CIE76 thresholds 0..10.

The definition is that of PaintBench 1.0 (arXiv 2606.00188, its docs/metric.md): the edit region is where source and
target differ in any byte, the preservation region is the rest, and a pixel is correct at threshold t if its CIE76
distance to the target is at most t. Lab is computed in float32 with its constants, which differ from scikit-image's in
the fifth digit, and an output of another size is brought to the target's as PaintBench does it: nearest neighbour to
cover, then a centre crop. For that the metric reads the image as the model returned it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.color import unequal
from qk_bench.metrics.inputs import source, target
from qk_bench.records import MetricColumn

THRESHOLDS = np.arange(11)
_NAMES = ("edit-accuracy", "preservation-accuracy", "iou")

_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ_FROM_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    np.float32,
)
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)


@dataclass(frozen=True)
class Accuracies:
    """Shares of pixels at each threshold, float64 of shape (11,), in [0, 1]. An empty region counts as 1."""

    edit: NDArray[np.float64]
    preservation: NDArray[np.float64]
    iou: NDArray[np.float64]


def accuracies(source: NDArray[np.uint8], target: NDArray[np.uint8], output: NDArray[np.uint8]) -> Accuracies:
    """PaintBench's three accuracies at ΔE 0, 1, … 10.

    Args:
        source: (H, W, 3) uint8.
        target: (H, W, 3) uint8.
        output: (H', W', 3) uint8, of any size.
    """
    output = cover(output, target.shape[0], target.shape[1])
    edit = unequal(source, target)  # (H, W)
    distance = np.zeros(edit.shape, np.float32)
    differ = unequal(output, target)
    distance[differ] = np.sqrt(np.square(_lab(output[differ]) - _lab(target[differ])).sum(axis=-1))
    needed = np.ceil(np.minimum(distance, THRESHOLDS[-1] + 1)).astype(np.intp)  # least threshold that accepts the pixel
    bins = len(THRESHOLDS) + 1
    counts = np.bincount(needed.ravel() + bins * edit.ravel(), minlength=2 * bins).reshape(2, bins)
    kept_correct, edit_correct = np.cumsum(counts, axis=1)[:, :-1]
    n_edit = int(edit.sum())
    n_kept = edit.size - n_edit
    return Accuracies(
        edit=_share(edit_correct, np.full(11, n_edit)),
        preservation=_share(kept_correct, np.full(11, n_kept)),
        iou=_share(edit_correct, n_edit + n_kept - kept_correct),
    )


def cover(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale to cover (height, width) by nearest neighbour, then crop the centre."""
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    scale = max(width / w, height / h)
    tall, wide = math.ceil(h * scale), math.ceil(w * scale)
    scaled = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.NEAREST))
    top, left = (tall - height) // 2, (wide - width) // 2
    return scaled[top : top + height, left : left + width]


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    xyz = _LINEAR[pixels] @ _XYZ_FROM_RGB.T / _WHITE  # (..., 3)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), (29 / 6) ** 2 / 3 * xyz + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


class PaintBench(SampleMetric):
    """The three accuracies, each the mean over ΔE thresholds 0..10, as PaintBench's tables give them."""

    needs = frozenset(("source", "target"))
    kinds = frozenset(("edit",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """Edit accuracy, preservation accuracy, IoU."""
        return tuple(_column(f"{name}[cie76=0..10]") for name in _NAMES)

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Three values for each item."""
        found = (accuracies(source(item), target(item), item.returned) for item in items)
        return [tuple(Value(float(a.mean())) for a in (one.edit, one.preservation, one.iou)) for one in found]


class PaintBenchThresholds(SampleMetric):
    """The three accuracies at each threshold apart: what PaintBench's pass-rate curves are drawn from."""

    needs = frozenset(("source", "target"))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """Eleven columns of each accuracy."""
        return tuple(_column(f"{name}[cie76={t}]") for name in _NAMES for t in THRESHOLDS)

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """33 values for each item."""
        found = (accuracies(source(item), target(item), item.returned) for item in items)
        return [tuple(Value(float(v)) for a in (one.edit, one.preservation, one.iou) for v in a) for one in found]


def _column(identifier: str) -> MetricColumn:
    return MetricColumn(id=identifier, unit="share", direction="higher", low=0, high=1, description="PaintBench 1.0")
