"""Every figure of docs/precision.md stays within its bound."""

from __future__ import annotations

import pytest

from tests.precision.measurements import MEASUREMENTS, Measurement


@pytest.mark.parametrize("one", MEASUREMENTS, ids=lambda one: one.what)
def test_equals_the_published_implementation(one: Measurement, pinned_weights: None) -> None:
    ours, theirs, error = one.compare()
    assert error <= one.bound, f"{one.what}: {ours} against {theirs} of {one.peer}"
