"""Perceptual drift: LPIPS to the source over the pixels outside the edit mask only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.drift import NOTHING_OUTSIDE
from qk_bench.metrics.inputs import edit_mask, source
from qk_bench.metrics.lpips import TOO_SMALL, batches, network
from qk_bench.metrics.requirements import available
from qk_bench.records import MetricColumn


class DriftLpips(SampleMetric):
    """LPIPS (AlexNet) outside the edit mask.

    A layer sees a neighbourhood of each pixel, so that averaging its map over the outside would still count what was
    edited inside. The inside is therefore replaced by the source in the output first: an output that differs from the
    source inside the mask only has a drift of exactly 0. Then the spatial map of the `lpips` package (each layer
    resized bilinearly to the image and summed) is averaged over the outside pixels.
    """

    needs = frozenset(("source", "edit_mask"))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(
                id="drift-lpips[alex,0.1]", direction="lower", low=0, description="LPIPS to the source outside the mask"
            ),
        )

    def availability(self) -> tuple[bool, str]:
        """Needs torch and the weights."""
        return available(("torch", "safetensors"), ("lpips-alex",), "metrics")

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Masked LPIPS of each item."""
        from torch.nn.functional import interpolate

        values: list[tuple[Value, ...]] = [(Value(None, TOO_SMALL),)] * len(items)
        for group in batches(items, "alex"):
            before = [source(items[i]) for i in group]
            after = [np.where(edit_mask(items[i])[..., None], source(items[i]), items[i].image) for i in group]
            layers = network("alex").maps(before, after)
            resized = [interpolate(layer, before[0].shape[:2], mode="bilinear") for layer in layers]
            spatial = sum(resized[1:], resized[0])[:, 0].numpy()  # (B, H, W)
            for position, distances in zip(group, spatial, strict=True):
                outside = ~edit_mask(items[position])
                drift = float(distances[outside].mean(dtype=np.float64)) if outside.any() else None
                values[position] = (Value(drift, "" if drift is not None else NOTHING_OUTSIDE),)
        return values
