"""Success: whether the task's own verifier accepts the output."""

from __future__ import annotations

from collections.abc import Sequence

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.records import MetricColumn


class Success(SampleMetric):
    """1 where the edit is verified, 0 where it is not; the reason says what is wrong."""

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column, `success`."""
        return (
            MetricColumn(
                id="success",
                direction="higher",
                low=0.0,
                high=1.0,
                description="share of outputs the task's verifier accepts; failures count as not successful",
            ),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Ask the task about each output, at the size it was returned."""
        return [(self._value(item),) for item in items]

    @staticmethod
    def _value(item: Scored) -> Value:
        if not item.task.decides:
            return Value(None, f"{item.task.suite} has no rule that tells success from the pixels")
        verdict = item.task.verify(item.sample, item.returned)
        return Value(float(verdict.success), verdict.reason)
