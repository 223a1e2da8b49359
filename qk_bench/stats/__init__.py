"""Statistics: pure functions from arrays to arrays."""

from qk_bench.stats.rates import Estimate, mean_interval, rate_interval

__all__ = ["Estimate", "mean_interval", "rate_interval"]
