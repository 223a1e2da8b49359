"""Statistics of paired, clustered, seeded evaluations: pure functions from arrays to values, numpy and scipy only."""

from qk_bench.stats.clusters import Estimate
from qk_bench.stats.means import mean_interval, mean_intervals
from qk_bench.stats.rates import rate_interval

__all__ = ["Estimate", "mean_interval", "mean_intervals", "rate_interval"]
