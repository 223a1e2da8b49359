"""Scales have a handful of round ticks, whatever their span."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from qk_leaderboard.scales import nice_step


@given(st.floats(1e-9, 1e9))
@example(0.03999999999999998)  # its quarter lies below 0.01, the logarithm of its quarter does not
def test_step_divides_any_span_into_four_to_ten_parts(span: float) -> None:
    assert 4 - 1e-6 <= span / nice_step(span) <= 10 + 1e-6
