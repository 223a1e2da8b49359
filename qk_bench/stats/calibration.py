"""Measures whether the statistics keep their promises, on simulated runs whose truth is known.

`python -m qk_bench.stats.calibration` prints the tables of docs/statistics.md; `--write docs/statistics.md` replaces
them there. It exits 1 if a promise is broken. The tests make the same measurements with fewer repetitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.random import Generator

from qk_bench.stats import (
    benjamini_hochberg,
    bootstrap_means,
    difference_power,
    drop_p,
    holm,
    mcnemar_exact,
    mean_intervals,
    minimum_detectable_effect,
    non_inferiority_p,
    non_inferiority_power,
    rate_difference,
    rate_interval,
    relative_change,
    sign_flip_exact,
    sign_flip_test,
)
from qk_bench.stats.simulation import Shape, difference_sums, large_pilot, observe, simulate, stream

ALPHA = 0.05
RESAMPLES = 2_000
BATCH = 100  # simulated runs that share a set of resamples
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"


@dataclass(frozen=True)
class Measurement:
    """One measured property and its promise; a limit is None where nothing is promised."""

    table: str
    case: str
    shape: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    nominal: bool = False  # the limit is the test's own level, so that half of all measurements would lie beyond it

    def kept(self, repetitions: int, reduced: bool = False) -> bool:
        """Whether the promise is kept; a nominal limit or a reduced measurement is allowed three standard errors."""
        of_power = self.at_least is not None and self.at_least < 0  # a difference of two chances near one half
        variance = 0.25 if of_power else max(self.value * (1 - self.value), 0.01)
        slack = 3 * np.sqrt(variance / repetitions) if self.nominal or reduced else 0.0
        above = self.at_least is None or self.value >= self.at_least - slack
        return above and (self.at_most is None or self.value <= self.at_most + slack)


def _share(tests: Iterator[bool]) -> float:
    return float(np.mean(list(tests)))


# Each function below yields the measurements of one table.


def false_alarms(repetitions: int) -> Iterator[Measurement]:
    """How often two models without a difference are told apart at 5 %."""
    table = "False alarms at α = 5 %, no true difference"
    for shape in (*(Shape(n) for n in (50, 200, 1000)), Shape(200, 4), Shape(1000, 4)):
        for unlike in (False, True):
            for rate in (0.5, 0.95):
                rng = stream(table, shape, rate, unlike)

                def rejects(rng: Generator = rng, shape: Shape = shape, rate: float = rate, u: bool = unlike) -> bool:
                    a, b = observe(simulate(rng, shape, unlike=u), "success", rate)
                    return sign_flip_exact(np.bincount(shape.clusters, b - a)) <= ALPHA

                value = _share(rejects() for _ in range(repetitions))
                case = f"success {rate:.0%}, exact sign flips{', one model deterministic' * unlike}"
                yield Measurement(table, case, str(shape), value, None, 0.065)
        for kind in ("normal", "skewed"):
            rng, hits = stream(table, shape, kind), 0
            for start in range(0, repetitions, BATCH):
                sums, _ = difference_sums(rng, shape, kind, min(BATCH, repetitions - start))
                hits += int((sign_flip_test(sums, flips=RESAMPLES, seed=start) <= ALPHA).sum())
            least = 0.035 if shape.n_clusters >= 30 else None
            yield Measurement(table, f"{kind} measurement, sign flips", str(shape), hits / repetitions, least, 0.065)
    for n in (50, 200, 1000):
        shape, rng = Shape(n, seeds=1), stream(table, n, "mcnemar")

        def mcnemar(rng: Generator = rng, shape: Shape = shape) -> bool:
            a, b = observe(simulate(rng, shape), "success")
            return mcnemar_exact(int((b > a).sum()), int((b < a).sum())) <= ALPHA

        value = _share(mcnemar() for _ in range(repetitions))
        yield Measurement(table, "success 70%, exact McNemar", str(shape), value, None, 0.065)


def coverage(repetitions: int) -> Iterator[Measurement]:
    """How often 95 % intervals hold the truth."""
    table = "Coverage of 95 % intervals"
    shapes = (*(Shape(n, seeds=s) for n in (50, 200, 1000) for s in (1, 3)), Shape(200, 4), Shape(1000, 4))
    for shape in shapes:
        codes = shape.clusters
        for rate in (0.0, 0.01, 0.02, 0.05, 0.5, 0.95, 1.0):
            rng = stream(table, shape, rate)
            hits = 0
            for _ in range(repetitions if 0 < rate < 1 else 1):
                e = rate_interval(observe(simulate(rng, shape, 1)[0], "success", rate), codes)
                hits += e.low <= rate <= e.high
            value = hits / (repetitions if 0 < rate < 1 else 1)
            yield Measurement(table, f"rate {rate:.0%}", str(shape), value, 0.93)
        for rate, drop in ((0.95, 0.0), (0.7, 0.1), (0.98, 0.02)):
            rng, hits = stream(table, shape, rate, drop), 0
            for _ in range(repetitions):
                latent = simulate(rng, shape)
                a, b = observe(latent[0], "success", rate), observe(latent[1], "success", rate - drop)
                low, high = rate_difference(a, b, codes).interval(0.95)
                hits += low <= -drop <= high
            case = f"difference of rates, {rate:.0%} → {rate - drop:.0%}"
            yield Measurement(table, case, str(shape), hits / repetitions, 0.93)
        for rate, other in ((0.6, 0.75), (0.98, 1.0), (1.0, 0.98), (1.0, 1.0), (0.5, 0.0), (0.5, 0.02)):
            rng, hits = stream(table, shape, "relative", rate, other), 0
            for _ in range(repetitions):
                latent = simulate(rng, shape)
                a, b = observe(latent[0], "success", rate), observe(latent[1], "success", other)
                e = relative_change(a, b, codes)
                hits += e.low <= other / rate - 1 <= e.high
            case = f"relative change of a rate, {rate:.0%} → {other:.0%}"
            yield Measurement(table, case, str(shape), hits / repetitions, 0.93)
        for kind in ("normal", "skewed"):
            for paired in (False, True):
                rng, hits = stream(table, shape, kind, paired), 0
                for start in range(0, repetitions, BATCH):
                    count = min(BATCH, repetitions - start)
                    runs = [observe(simulate(rng, shape, 1 + paired), kind) for _ in range(count)]
                    rows = np.stack([x[1] - 2 * x[0] if paired else x[0] for x in runs], axis=1)
                    for e in mean_intervals(rows, codes, resamples=RESAMPLES, seed=start):
                        hits += e.low <= 0 <= e.high
                case = f"{kind} measurement, {'difference from a model of twice the spread' if paired else 'mean'}"
                yield Measurement(table, case, str(shape), hits / repetitions, 0.93)


def few_clusters(repetitions: int) -> Iterator[Measurement]:
    """The same with 4 and 10 clusters; below 10 `qkbench compare` gives no p-value."""
    table = "Few clusters (nothing promised; no p-value is given below 10)"
    for shape in (Shape(4), Shape(10), Shape(40, 10), Shape(100, 10)):
        codes, rng = shape.clusters, stream(table, shape)
        alarms = of_rate = of_difference = 0
        for _ in range(repetitions):
            latent = simulate(rng, shape)
            a, b = observe(latent, "success")
            alarms += sign_flip_exact(np.bincount(codes, b - a)) <= ALPHA
            e = rate_interval(a, codes)
            of_rate += e.low <= 0.7 <= e.high
            low, high = rate_difference(a, b, codes).interval(0.95)
            of_difference += low <= 0 <= high
        yield Measurement(table, "success 70%: false alarms", str(shape), alarms / repetitions)
        yield Measurement(table, "success 70%: coverage of the rate", str(shape), of_rate / repetitions)
        yield Measurement(table, "success 70%: coverage of the difference", str(shape), of_difference / repetitions)
        for kind in ("normal", "skewed"):
            rng, flips, covered = stream(table, shape, kind), 0, 0
            for start in range(0, repetitions, BATCH):
                sums, counts = difference_sums(rng, shape, kind, min(BATCH, repetitions - start))
                flips += int((sign_flip_test(sums, flips=RESAMPLES, seed=start) <= ALPHA).sum())
                for sample in bootstrap_means(sums, counts + 0 * sums, resamples=RESAMPLES, seed=start):
                    assert sample is not None
                    low, high = sample.interval(0.95)
                    covered += low <= 0 <= high
            yield Measurement(table, f"{kind} measurement: false alarms", str(shape), flips / repetitions)
            case = f"{kind} measurement: coverage of the difference"
            yield Measurement(table, case, str(shape), covered / repetitions)


def families(repetitions: int) -> Iterator[Measurement]:
    """How often a family without any difference yields one or more."""
    table = "Family-wise error at α = 5 %, 6 equal models × 4 tasks (60 hypotheses)"
    pairs, tasks = list(combinations(range(6), 2)), 4
    for shape in (Shape(50), Shape(200)):
        for kind in ("success", "normal"):
            rng, codes = stream(table, shape, kind), shape.clusters
            any_holm = any_bh = 0
            for repetition in range(repetitions):
                p: list[float] = []
                for task in range(tasks):
                    x = observe(simulate(rng, shape, 6), kind)
                    sums = np.stack([np.bincount(codes, x[j] - x[i]) for i, j in pairs], axis=1)
                    if kind == "success":
                        p.extend(sign_flip_exact(column) for column in sums.T)
                    else:
                        p.extend(sign_flip_test(sums, seed=repetition * tasks + task))
                any_holm += bool((holm(p) <= ALPHA).any())
                any_bh += bool((benjamini_hochberg(p) <= ALPHA).any())
            yield Measurement(table, f"{kind}, Holm", str(shape), any_holm / repetitions, None, 0.06)
            yield Measurement(table, f"{kind}, Benjamini-Hochberg", str(shape), any_bh / repetitions)


def gate(repetitions: int) -> Iterator[Measurement]:
    """How often the gate fails, and passes, where the true drop equals the margin."""
    table = "Gate at α = 5 % where the true drop equals the margin"
    for shape in (Shape(50), Shape(50, seeds=1), Shape(200), Shape(200, 4), Shape(1000)):
        codes = shape.clusters
        for rate, margin in ((0.9, 0.02), (0.6, 0.1)):
            rng = stream(table, shape, rate, margin)
            fails, passes, family = 0, 0, []
            for _ in range(repetitions):
                latent = simulate(rng, shape)
                a, b = observe(latent[0], "success", rate), observe(latent[1], "success", rate - margin)
                difference = rate_difference(a, b, codes)
                family.append(drop_p(difference, margin))
                fails += family[-1] <= ALPHA
                passes += non_inferiority_p(difference, margin) <= ALPHA
            case = f"success {rate:.0%}, margin {margin:.0%}"
            yield Measurement(table, f"{case}: fails", str(shape), fails / repetitions, None, 0.05, nominal=True)
            yield Measurement(table, f"{case}: passes", str(shape), passes / repetitions, None, 0.065)
            cells = np.array(family[: repetitions // 5 * 5]).reshape(-1, 5)
            value = float(np.mean([(holm(p) <= ALPHA).any() for p in cells]))  # with a fifth of the repetitions
            yield Measurement(table, f"{case}: fails in any of 5 tasks", str(shape), value, None, 0.05, nominal=True)
        for kind in ("normal", "skewed"):
            rng, fails, passes = stream(table, shape, kind), 0, 0
            for start in range(0, repetitions, BATCH):
                sums, counts = difference_sums(rng, shape, kind, min(BATCH, repetitions - start), shift=-0.1)
                for sample in bootstrap_means(sums, counts + 0 * sums, resamples=RESAMPLES, seed=start):
                    assert sample is not None
                    fails += drop_p(sample, 0.1) <= ALPHA
                    passes += non_inferiority_p(sample, 0.1) <= ALPHA
            case = f"{kind} measurement, margin 0.1"
            yield Measurement(table, f"{case}: fails", str(shape), fails / repetitions, None, 0.05, nominal=True)
            yield Measurement(table, f"{case}: passes", str(shape), passes / repetitions, None, 0.065)


def promised_power(repetitions: int) -> Iterator[Measurement]:
    """Measured power less the power `qkbench power` promises, in a run planned from a large pilot."""
    table = "Power: measured less promised"
    for shape in (Shape(50), Shape(200, seeds=1), Shape(200), Shape(200, 4), Shape(1000)):
        for kind in ("success", "normal", "skewed"):
            for aim in (0.5, 0.8):
                rng = stream(table, shape, kind, aim)
                plan = large_pilot(rng, shape, kind)
                effect = minimum_detectable_effect(plan, shape.n_samples, seeds=shape.seeds, power=aim)
                assert effect is not None
                promised = difference_power(plan, -effect, shape.n_samples, seeds=shape.seeds)
                hits = flipped = 0
                for start in range(0, repetitions, BATCH):
                    count = min(BATCH, repetitions - start)
                    if kind == "success":
                        for _ in range(count):
                            latent = simulate(rng, shape)
                            a, b = observe(latent[0], kind), observe(latent[1], kind, 0.7 - effect)
                            hits += sign_flip_exact(np.bincount(shape.clusters, b - a)) <= ALPHA
                            b = observe(latent[1], kind) * (rng.random(b.size) > effect / 0.7)
                            flipped += sign_flip_exact(np.bincount(shape.clusters, b - a)) <= ALPHA
                    else:
                        sums, _ = difference_sums(rng, shape, kind, count, shift=-effect)
                        hits += int((sign_flip_test(sums, flips=RESAMPLES, seed=start) <= ALPHA).sum())
                value = hits / repetitions - promised
                yield Measurement(table, f"{kind}, {promised:.0%} promised", str(shape), value, -0.03, 0.03)
                if kind == "success":
                    case = f"{kind}, {promised:.0%} promised, but failures struck at random"
                    yield Measurement(table, case, str(shape), flipped / repetitions - promised)


def promised_margin(repetitions: int) -> Iterator[Measurement]:
    """The same for the chance that the gate passes an unchanged model, at a margin of 2.5 standard errors."""
    table = "Power to show an unchanged model non-inferior: measured less promised"
    for shape in (Shape(50), Shape(200, seeds=1), Shape(200), Shape(200, 4), Shape(1000)):
        for kind in ("success", "normal", "skewed"):
            rng = stream(table, shape, kind)
            plan = large_pilot(rng, shape, kind)
            margin = 2.5 * float(np.sqrt(plan.variance_at(shape.seeds) / shape.n_samples))
            promised = non_inferiority_power(plan, margin, shape.n_samples, seeds=shape.seeds)
            hits = 0
            for start in range(0, repetitions, BATCH):
                count = min(BATCH, repetitions - start)
                if kind == "success":
                    for _ in range(count):
                        a, b = observe(simulate(rng, shape), kind)
                        hits += non_inferiority_p(rate_difference(a, b, shape.clusters), margin) <= ALPHA
                else:
                    sums, counts = difference_sums(rng, shape, kind, count)
                    for sample in bootstrap_means(sums, counts + 0 * sums, resamples=RESAMPLES, seed=start):
                        assert sample is not None
                        hits += non_inferiority_p(sample, margin) <= ALPHA
            yield Measurement(table, kind, str(shape), hits / repetitions - promised, -0.03, 0.03)


TABLES: dict[str, Callable[[int], Iterator[Measurement]]] = {
    "false-alarms": false_alarms,
    "coverage": coverage,
    "few-clusters": few_clusters,
    "families": families,
    "gate": gate,
    "power": promised_power,
    "margin": promised_margin,
}


def as_markdown(measurements: list[Measurement], repetitions: int) -> str:
    """The measurements as one table per property, cases down and shapes across."""
    parts = [
        f"{repetitions:,} simulated runs for each number. A star marks a broken promise; where the promise is the "
        "test's own level, three standard errors of the measurement are allowed."
    ]
    for title in dict.fromkeys(m.table for m in measurements):
        rows = [m for m in measurements if m.table == title]
        shapes, cases = (list(dict.fromkeys(getattr(m, of) for m in rows)) for of in ("shape", "case"))
        cells = {(m.case, m.shape): f"{100 * m.value:.1f}{'' if m.kept(repetitions) else ' *'}" for m in rows}
        promises = {m.case: _promise(m) for m in reversed(rows)}
        parts += [
            "",
            f"### {title}",
            "",
            f"| % | promised | {' | '.join(shapes)} |",
            f"|---|---|{'--:|' * len(shapes)}",
        ]
        parts += [f"| {c} | {promises[c]} | {' | '.join(cells.get((c, s), '') for s in shapes)} |" for c in cases]
    return "\n".join(parts) + "\n"


def _promise(m: Measurement) -> str:
    bounds = [f"≥ {100 * m.at_least:.3g}"] if m.at_least is not None else []
    return ", ".join([*bounds, f"≤ {100 * m.at_most:.3g}"] if m.at_most is not None else bounds)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and say by the exit code whether every promise is kept."""
    parser = argparse.ArgumentParser(prog="python -m qk_bench.stats.calibration", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--table", choices=list(TABLES), action="append", help="only this table; may be repeated")
    parser.add_argument("--write", type=Path, help="replace the tables between the markers of this page")
    options = parser.parse_args(arguments)
    measurements: list[Measurement] = []
    for name in options.table or TABLES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        measurements += TABLES[name](options.repetitions)
    page = as_markdown(measurements, options.repetitions)
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{page}{END}{rest.partition(END)[2]}")
    else:
        print(page)
    return 0 if all(m.kept(options.repetitions) for m in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
