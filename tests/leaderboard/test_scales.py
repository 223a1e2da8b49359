"""Scales have a handful of round ticks, whatever their span."""

from __future__ import annotations

from typing import Literal

from hypothesis import example, given
from hypothesis import strategies as st
from qk_leaderboard.scales import nice_step, scale_of

from qk_bench.records import MetricColumn
from qk_bench.stats import Estimate


@given(st.floats(1e-9, 1e9))
@example(0.03999999999999998)  # its quarter lies below 0.01, the logarithm of its quarter does not
def test_step_divides_any_span_into_four_to_ten_parts(span: float) -> None:
    assert 4 - 1e-6 <= span / nice_step(span) <= 10 + 1e-6


def test_small_errors_have_an_axis_that_shows_them() -> None:
    def written(direction: Literal["higher", "lower"], *values: float) -> tuple[float, str]:
        column = MetricColumn(id="share", unit="share", direction=direction, low=0.0, high=1.0)
        scale = scale_of(column, [Estimate(v, v, v, 9, 9) for v in values])
        return scale.high, scale.text(values[0])

    assert written("lower", 0.003, 0.017) == (0.02, "0.30")
    assert written("lower", 0.003, 0.17) == (1.0, "0.3")
    assert written("lower", 0.0) == (1.0, "0.0")
    assert written("higher", 0.003, 0.017) == (1.0, "0.3")  # a rate is read against 100 %
