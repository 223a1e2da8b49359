"""Statistics of paired, clustered, seeded evaluations: pure functions from arrays to values, numpy and scipy only.

Preferences alone need statsmodels, the extra `preference`.
"""

from qk_bench.stats.clusters import MIN_CLUSTERS, Estimate, cluster_codes, cluster_sums
from qk_bench.stats.effects import cliffs_delta, cohens_h
from qk_bench.stats.families import benjamini_hochberg, holm
from qk_bench.stats.margins import Difference, drop_p, equivalence_p, non_inferiority_p
from qk_bench.stats.means import Bootstrap, bootstrap_means, mean_interval, mean_intervals
from qk_bench.stats.permutation import mcnemar_exact, sign_flip_exact, sign_flip_test
from qk_bench.stats.power import (
    Pilot,
    difference_power,
    minimum_detectable_effect,
    non_inferiority_power,
    read_pilot,
    required_samples,
    required_samples_for_margin,
)
from qk_bench.stats.preference import BradleyTerry, bradley_terry
from qk_bench.stats.ranks import rank_intervals, tie_groups
from qk_bench.stats.rates import RateDifference, rate_difference, rate_interval
from qk_bench.stats.ratios import relative_change
from qk_bench.stats.variance import VarianceSplit, variance_split

__all__ = [
    "MIN_CLUSTERS",
    "Bootstrap",
    "BradleyTerry",
    "Difference",
    "Estimate",
    "Pilot",
    "RateDifference",
    "VarianceSplit",
    "benjamini_hochberg",
    "bootstrap_means",
    "bradley_terry",
    "cliffs_delta",
    "cluster_codes",
    "cluster_sums",
    "cohens_h",
    "difference_power",
    "drop_p",
    "equivalence_p",
    "holm",
    "mcnemar_exact",
    "mean_interval",
    "mean_intervals",
    "minimum_detectable_effect",
    "non_inferiority_p",
    "non_inferiority_power",
    "rank_intervals",
    "rate_difference",
    "rate_interval",
    "read_pilot",
    "relative_change",
    "required_samples",
    "required_samples_for_margin",
    "sign_flip_exact",
    "sign_flip_test",
    "tie_groups",
    "variance_split",
]
