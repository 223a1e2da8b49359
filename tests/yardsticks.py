"""Metrics for the tests: one that works, and one for each way not to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qk_bench.interfaces import SampleMetric, Scored, SetMetric, SetValue, Value
from qk_bench.records import MetricColumn, Sample


class Error(SampleMetric):
    """Mean absolute difference from the target; two columns."""

    needs = frozenset(("target",))

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        return (MetricColumn(id="error", direction="lower", unit="levels"), MetricColumn(id="one", direction="none"))

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        return [(Value(float(np.abs(i.image.astype(int) - i.sample.target).mean())), Value(1.0)) for i in items]


class Unavailable(Error):
    def availability(self) -> tuple[bool, str]:
        return False, "pip install something"


class Raises(SampleMetric):
    """Fails on every third sample, and only on it."""

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        return (MetricColumn(id="raises", direction="none"),)

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        if any(item.sample.index % 3 == 0 for item in items):
            raise RuntimeError("cannot\njudge this")
        return [(Value(float("nan")) if item.sample.index % 3 == 1 else Value(2.0),) for item in items]


class Garbled(Raises):
    """Gives what no table can hold: in turn no Value, no number and no Unicode."""

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        given = (0.5, Value("0.5 dB"), Value(None, "half a \ud83d"))  # type: ignore[arg-type]
        return [(given[item.sample.index % 3],) for item in items]  # type: ignore[misc]


class Brightness(SetMetric):
    """Mean of all pixels of a set."""

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        return (MetricColumn(id="brightness", direction="none"),)

    def compute(self, items: Iterator[Scored]) -> tuple[SetValue, ...]:
        means = [float(item.image.mean()) for item in items]
        if not means:
            return (SetValue(None, None, None, 0, "no image"),)
        return (SetValue(float(np.mean(means)), min(means), max(means), len(means), id=f"brightness[n={len(means)}]"),)


class Asked(SetMetric):
    """Number of samples that were asked, answered or not."""

    takes_failed = True

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        return (MetricColumn(id="asked", direction="none"),)

    def compute(self, items: Iterator[Scored | Sample]) -> tuple[SetValue, ...]:
        samples = {item.id if isinstance(item, Sample) else item.sample.id for item in items}
        return (SetValue(float(len(samples)), None, None, len(samples)),)


class GarbledSet(SetMetric):
    """Gives what no table can hold."""

    columns = (MetricColumn(id="garbled", direction="none"),)

    def compute(self, items: Iterator[Scored]) -> tuple[SetValue, ...]:
        return (SetValue("many", None, None, 0),)  # type: ignore[arg-type]
