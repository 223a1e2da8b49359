"""Mean colour difference to the target."""

from __future__ import annotations

from collections.abc import Sequence

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.color import cie76, ciede2000, lab, unequal
from qk_bench.metrics.inputs import target
from qk_bench.records import MetricColumn


class ColorDifference(SampleMetric):
    """Mean CIEDE2000 and CIE76 over all pixels, output to target."""

    needs = frozenset(("target",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """CIEDE2000 first, then CIE76."""
        return (
            MetricColumn(
                id="ciede2000", unit="ΔE", direction="lower", low=0, description="mean CIEDE2000 to the target"
            ),
            MetricColumn(id="cie76", unit="ΔE", direction="lower", low=0, description="mean CIE76 to the target"),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Both means of each item. Equal pixels are not converted."""
        values: list[tuple[Value, ...]] = []
        for item in items:
            differ = unequal(item.image, target(item))
            a, b = lab(item.image[differ]), lab(target(item)[differ])
            sums = float(ciede2000(a, b).sum()), float(cie76(a, b).sum())
            values.append(tuple(Value(total / differ.size) for total in sums))
        return values
