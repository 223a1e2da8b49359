"""Shares the weights fixture with the tests of metrics."""

from tests.metrics.conftest import pinned_weights

__all__ = ["pinned_weights"]
