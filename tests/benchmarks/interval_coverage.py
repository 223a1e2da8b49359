"""How often the intervals of precision, recall, density and coverage hold what they should, on simulated features.

`python -m tests.benchmarks.interval_coverage [--repetitions 100]`. What they should hold is the value that sets of this
size have on average, here the mean over all repetitions. Printed of each statistic: the share of repetitions whose
nominal 95 % interval holds it, and in brackets the standard error over the spread of the values, 1 at best.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from qk_bench.metrics.distribution import Sets
from qk_bench.metrics.features import FeatureStore
from qk_bench.metrics.intervals import half_samples, interval, single_units
from qk_bench.metrics.precision_recall import PrecisionRecall
from tests.metrics.test_intervals import CASES, unrelated

RESAMPLES = 60  # of the 200 of a score


def main() -> None:
    """Print the coverage at each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    repetitions = parser.parse_args().repetitions
    clustered, _, units = CASES["fid of clustered pairs"]
    settings = {"40 clusters of 4 pairs, 12 features": (clustered, units)} | {
        f"{n} images, {d} features": (lambda rng, n=n, d=d: unrelated(rng, n, d), single_units(n, n))
        for n, d in ((150, 12), (200, 128), (400, 128))
    }
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder) / "unused.sqlite")
        for name, (draw, strata) in settings.items():
            found = []
            for repetition in range(repetitions):
                halves = half_samples(strata, RESAMPLES, seed=repetition)
                assert halves is not None
                first, second = draw(np.random.default_rng(repetition))
                found.append(PrecisionRecall().estimate(Sets(first, second, [], [], halves, store)))
            values, errors = (np.array(part) for part in zip(*found, strict=True))  # (repetitions, 4)
            truth, spread = values.mean(axis=0), values.std(axis=0)
            degrees = min(map(len, strata)) - 1
            reach = interval(0, 1, degrees)[1] * errors
            held = (np.abs(values - truth) <= reach).mean(axis=0)
            ratio = np.sqrt((errors**2).mean(axis=0)) / np.where(spread > 0, spread, np.nan)
            columns = zip(PrecisionRecall.statistics, held, ratio, strict=True)
            print(f"{name}: " + ", ".join(f"{c.id} {h:.1%} ({r:.2f})" for c, h, r in columns), flush=True)


if __name__ == "__main__":
    main()
