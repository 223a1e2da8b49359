"""How often the intervals of precision, recall, density and coverage hold what they should, on simulated features.

`python -m tests.benchmarks.interval_coverage [--repetitions 100] [--setting TEXT]…`. What they should hold is the value
that sets of this size have on average, here the mean over all repetitions. Printed of each statistic: that mean, the
share of repetitions whose nominal 95 % interval holds it, and in brackets the mean width of the interval and the
standard error over the spread of the values, 1 at best.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qk_bench.metrics.distribution import Sets
from qk_bench.metrics.features import FeatureStore
from qk_bench.metrics.intervals import Unit, half_samples, single_units
from qk_bench.metrics.precision_recall import PrecisionRecall
from tests.metrics.test_intervals import CASES, Array, far_apart, of_one_distribution, unrelated

RESAMPLES = 60  # of the 200 of a score
Setting = tuple[Callable[[np.random.Generator], tuple[Array, Array]], list[list[Unit]]]


def settings() -> dict[str, Setting]:
    """What is drawn, and its units: shares in the middle, near 1 and near 0."""
    clustered, _, units = CASES["fid of clustered pairs"]
    sizes = ((150, 12), (200, 128), (400, 128))
    found: dict[str, Setting] = {
        f"{n} images, {d} features": (lambda rng, n=n, d=d: unrelated(rng, n, d), single_units(n, n)) for n, d in sizes
    }
    return found | {
        "150 images of one distribution, 4 features": (of_one_distribution, single_units(150, 150)),
        "150 images, far apart, 4 features": (far_apart, single_units(150, 150)),
        "40 clusters of 4 pairs, 12 features": (clustered, units),
    }


def main() -> None:
    """Print the coverage at each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--setting", action="append", help="only settings whose name holds this; may be given again")
    arguments = parser.parse_args()
    metric = PrecisionRecall()
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder) / "unused.sqlite")
        for name, (draw, strata) in settings().items():
            if arguments.setting and not any(text in name for text in arguments.setting):
                continue
            found = []
            for repetition in range(arguments.repetitions):
                halves = half_samples(strata, RESAMPLES, seed=repetition)
                assert halves is not None
                first, second = draw(np.random.default_rng(repetition))
                sets = Sets(first, second, [], [], halves, store)
                values, errors = metric.estimate(sets)
                found.append((values, errors, *zip(*metric.intervals(values, errors.tolist(), sets), strict=True)))
            value, error, low, high = (np.array(part) for part in zip(*found, strict=True))  # (repetitions, 4)
            truth, spread = value.mean(axis=0), value.std(axis=0)
            held = ((low <= truth) & (truth <= high)).mean(axis=0)
            widths = (high - low).mean(axis=0)
            ratio = np.sqrt((error**2).mean(axis=0)) / np.where(spread > 0, spread, np.nan)
            columns = zip(metric.statistics, truth, held, widths, ratio, strict=True)
            shown = (f"{c.id} {t:.3f} {h:.0%} ({w:.3f}, {r:.2f})" for c, t, h, w, r in columns)
            print(f"{name}: " + ", ".join(shown), flush=True)


if __name__ == "__main__":
    main()
