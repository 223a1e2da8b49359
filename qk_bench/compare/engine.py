"""From aligned scores to comparisons: estimates, tests, corrections and verdicts.

The families are fixed by the entrants: every pair that could be compared × every task. What is shown is chosen
afterwards and changes no p-value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qk_bench import stats
from qk_bench.compare.align import Entrant, Field
from qk_bench.compare.records import ALL_TASKS, Comparison, Kind, Rank, Ranking, Report, Side, Verdict, finite
from qk_bench.compare.scores import Floats, TaskScores, codes_of, pooled
from qk_bench.compare.sets import set_metrics
from qk_bench.errors import NotComparableError, UsageError
from qk_bench.records import SUCCESS, MetricColumn

CONFIDENCE = 0.95
FLIPS = 10_000
SAME = "no pair differs"
Pair = tuple[int, int]


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    Attributes:
        field: Entrants with aligned scores.
        family: Pairs of entrants (baseline, other) that could be compared: they make the families.
        shown: Pairs to report.
        tasks: Tasks to report; none means all.
        metrics: Metrics to report; none means all.
        margins: By metric, the largest difference that does not matter.
        alpha: Level of the corrected tests.
    """

    field: Field
    family: tuple[Pair, ...]
    shown: tuple[Pair, ...]
    tasks: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()
    margins: Mapping[str, float] | None = None
    alpha: float = 0.05

    def columns(self) -> dict[str, MetricColumn]:
        """The metric columns that all entrants' runs declare alike and one code computed, by id.

        Raises:
            NotComparableError: A metric has another direction or unit in another run, or one that is asked for was
                computed by another file there.
        """
        first, *others = (e.run.columns for e in self.field.entrants)
        for other in others:
            for name in first.keys() & other.keys():
                if (first[name].direction, first[name].unit) != (other[name].direction, other[name].unit):
                    raise NotComparableError(f"metric {name} has another direction or unit in another run")
        unlike = self.unlike_code()
        for name in sorted((self.metrics | set(self.margins or ())) & unlike.keys()):
            raise NotComparableError(
                f"metric {name} was computed by another file in {unlike[name]}", "score both runs with one file"
            )
        return {name: c for name, c in first.items() if name not in unlike and all(name in other for other in others)}

    def unlike_code(self) -> dict[str, Path]:
        """The metrics that files of unlike content computed, each with a run whose file is not the first run's."""
        first, *others = (e.run for e in self.field.entrants)
        code = first.metric_code
        return {
            name: other.path
            for other in others
            for name, sha in other.metric_code.items()
            if code.get(name, sha) != sha
        }


@dataclass(frozen=True)
class _Result:
    """One pair on one task and metric, before the corrections."""

    block: TaskScores
    metric: str
    pair: Pair
    p: float  # NaN where the test is refused
    test: str
    shown: Comparison | None
    """The comparison without corrected p and verdict; None if it is not to be reported."""


def blocks_of(field: Field) -> list[TaskScores]:
    """The tasks, and with several of them all together."""
    return [*field.tasks, pooled(field.tasks, ALL_TASKS)] if len(field.tasks) > 1 else list(field.tasks)


def compare(question: Question) -> Report:
    """Answer a question."""
    columns = question.columns()
    blocks = blocks_of(question.field)
    check_names(question, columns, blocks)
    results: list[_Result] = []
    hypotheses = len(question.family) * len(blocks) * max(1, len(columns))
    flips = max(FLIPS, math.ceil(1.2 * hypotheses / question.alpha))
    for block in blocks:
        results += _rates(question, block, columns)
        results += _means(question, block, columns, flips)
    primary = [r for r in results if r.metric == SUCCESS and r.block.task != ALL_TASKS]
    exploratory = [r for r in results if not (r.metric == SUCCESS and r.block.task != ALL_TASKS)]
    comparisons = [
        *_concluded(primary, stats.holm([r.p for r in primary]), "primary", question),
        *_concluded(exploratory, stats.benjamini_hochberg([r.p for r in exploratory]), "exploratory", question),
    ]
    of_sets, unlike_sets = set_metrics(question, columns)
    comparisons += of_sets
    return Report(
        alpha=question.alpha,
        confidence=CONFIDENCE,
        primary_metric=SUCCESS,
        family_size=len(primary),
        exploratory_size=len(exploratory),
        notes=(*question.field.notes, *_left_out(question, columns), *unlike_sets),
        comparisons=tuple(_in_order(comparisons, question, blocks, columns)),
        rankings=tuple(_rankings(question, primary)),
    )


def is_rate(values: Floats) -> bool:
    """Whether all values are 0 or 1, or missing."""
    return bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())


def _left_out(question: Question, columns: dict[str, MetricColumn]) -> Iterable[str]:
    """Notes on metrics that some of the runs lack, or computed by another file."""
    every = dict.fromkeys(name for e in question.field.entrants for name in e.run.columns)
    unlike = question.unlike_code()
    if missing := [name for name in every if name not in columns and name not in unlike]:
        yield f"not in all runs, and left out: {', '.join(missing)}"
    for name, path in unlike.items():
        yield f"computed by another file in {path}, and left out: {name}"


def check_names(question: Question, columns: dict[str, MetricColumn], blocks: Sequence[TaskScores]) -> None:
    """Refuse a metric or a task that is not there, and a margin that means nothing.

    Raises:
        UsageError: The message names the first mistake.
    """
    for kind, wanted, known in (
        ("metric", question.metrics | set(question.margins or ()), set(columns)),
        ("task", question.tasks, {block.task for block in blocks}),
    ):
        for name in sorted(wanted - known):
            raise UsageError(f"there is no {kind} {name!r} in these runs", f"known: {', '.join(sorted(known))}")
    for name, margin in (question.margins or {}).items():
        check_margin(columns[name], margin)


def check_margin(column: MetricColumn, margin: float) -> None:
    """Refuse a margin that every difference, or none, lies within.

    Raises:
        UsageError: It is not above 0, or it is as wide as the metric's whole range.
    """
    if not margin > 0:
        raise UsageError(f"the margin of {column.id} must be above 0, not {margin:g}")
    span = float("inf") if column.low is None or column.high is None else column.high - column.low
    if margin >= span:
        mend = f"{margin:g} points are {margin / 100:g}" if span == 1 else "state a smaller one"
        raise UsageError(f"a margin of {margin:g} tests nothing: {column.id} differs by {span:g} at most", mend)


def _wanted(question: Question, block: TaskScores, metric: str, pair: Pair) -> bool:
    return (
        pair in question.shown
        and (not question.tasks or block.task in question.tasks)
        and (not question.metrics or metric in question.metrics)
    )


def _rates(question: Question, block: TaskScores, columns: dict[str, MetricColumn]) -> list[_Result]:
    codes = codes_of(block)
    results = []
    for metric, column in columns.items():
        if metric not in block.values or not is_rate(block.values[metric]):
            continue
        values = block.values[metric]
        for pair in question.family:
            a, b = values[list(pair)]
            both = ~np.isnan(a + b)
            n_clusters = np.unique(codes[both]).size
            plain = n_clusters == both.sum()
            test = "exact McNemar" if plain else "exact sign flips of clusters"
            p = float("nan")
            if n_clusters >= stats.MIN_CLUSTERS:
                p = stats.sign_flip_exact(np.bincount(codes[both], (b - a)[both]))
            shown = None
            if _wanted(question, block, metric, pair):
                sides = [_rate_side(question.field.entrants[i], block, i, values[i], codes) for i in pair]
                shown = _comparison(block, column, "rate", sides, both, n_clusters)
                if both.any():
                    difference = stats.rate_difference(a[both], b[both], codes[both])
                    low, high = difference.interval(CONFIDENCE)
                    ends = {"difference": difference.value, "low": low, "high": high}
                    effect = stats.cohens_h(float(a[both].mean()), float(b[both].mean()))
                    note = "" if difference.gains or difference.losses else SAME
                    shown = shown.model_copy(update={**ends, "effect": effect, "note": note})
                    shown = _with_margin(shown, difference, question)
            results.append(_Result(block, metric, pair, p, test, shown))
    return results


def _means(question: Question, block: TaskScores, columns: dict[str, MetricColumn], flips: int) -> list[_Result]:
    codes = codes_of(block)
    metrics = [m for m in columns if m in block.values and not is_rate(block.values[m])]
    if not metrics:
        return []
    cells = [(metric, pair) for metric in metrics for pair in question.family]
    with np.errstate(invalid="ignore"):
        differences = np.stack([block.values[m][b] - block.values[m][a] for m, (a, b) in cells], axis=1)
    infinite = [bool(np.isinf(block.values[m][list(pair)]).any()) for m, pair in cells]
    differences[~np.isfinite(differences)] = np.nan
    sums, counts = stats.cluster_sums(differences, codes)
    clusters = (counts > 0).sum(axis=0)
    p = np.where(clusters >= stats.MIN_CLUSTERS, stats.sign_flip_test(sums, flips=flips), np.nan)
    p[infinite] = np.nan
    results = [
        _Result(block, metric, pair, float(p[i]), "sign flips of clusters", None)
        for i, (metric, pair) in enumerate(cells)
    ]
    reported = [i for i, (metric, pair) in enumerate(cells) if _wanted(question, block, metric, pair)]
    if not reported:
        return results

    shown_metrics = list(dict.fromkeys(cells[i][0] for i in reported))
    own = [(m, e) for m in shown_metrics for e in sorted({e for i in reported for e in cells[i][1]})]
    known = np.stack([np.where(np.isfinite(v := block.values[m][e]), v, np.nan) for m, e in own], axis=1)
    own_sums, own_counts = stats.cluster_sums(known, codes)
    samples = stats.bootstrap_means(
        np.hstack([own_sums, sums[:, reported]]), np.hstack([own_counts, counts[:, reported]])
    )
    sides = {
        (m, e): _mean_side(question.field.entrants[e], block, e, block.values[m][e], sample)
        for (m, e), sample in zip(own, samples, strict=False)
    }
    for i, sample in zip(reported, samples[len(own) :], strict=True):
        metric, pair = cells[i]
        both = ~np.isnan(differences[:, i])
        shown = _comparison(block, columns[metric], "mean", [sides[metric, e] for e in pair], both, int(clusters[i]))
        if infinite[i]:
            shown = shown.model_copy(update={"note": "some values are infinite: their mean is not compared"})
        elif sample is not None:
            low, high = sample.interval(CONFIDENCE)
            effect = stats.cliffs_delta(*(block.values[metric][e][both] for e in pair))
            ends = {"difference": sample.value, "low": finite(low), "high": finite(high)}
            note = "" if differences[both, i].any() else SAME
            shown = shown.model_copy(update={**ends, "effect": effect, "note": note})
            shown = _with_margin(shown, sample, question)
        results[i] = _Result(block, metric, pair, float(p[i]), "sign flips of clusters", shown)
    return results


def _comparison(
    block: TaskScores, column: MetricColumn, kind: Kind, sides: Sequence[Side], both: np.ndarray, n_clusters: int
) -> Comparison:
    return Comparison(
        suite=block.suite,
        task=block.task,
        metric=column.id,
        unit=column.unit,
        direction=column.direction,
        kind=kind,
        a=sides[0],
        b=sides[1],
        difference=None,
        family="exploratory",
        n=int(both.sum()),
        n_clusters=n_clusters,
        without_pair=int((~both).sum()),
        verdict="not tested",
    )


def _with_margin(shown: Comparison, difference: stats.Difference, question: Question) -> Comparison:
    margin = (question.margins or {}).get(shown.metric)
    if margin is None or shown.n_clusters < stats.MIN_CLUSTERS:
        return shown.model_copy(update={"margin": margin})
    return shown.model_copy(update={"margin": margin, "p_equivalent": stats.equivalence_p(difference, margin)})


def _rate_side(entrant: Entrant, block: TaskScores, index: int, values: Floats, codes: np.ndarray) -> Side:
    has = ~np.isnan(values)
    e = stats.rate_interval(values[has], codes[has], confidence=CONFIDENCE)
    return entrant.side(e.value, e.low, e.high, e.n, int(block.failed[index].sum()))


def _mean_side(entrant: Entrant, block: TaskScores, index: int, values: Floats, sample: stats.Bootstrap | None) -> Side:
    failures = int(block.failed[index].sum())
    if sample is None or np.isinf(values).any():
        return entrant.side(None, None, None, int((~np.isnan(values)).sum()), failures)
    return entrant.side(sample.value, *sample.interval(CONFIDENCE), sample.n, failures)


def _concluded(results: list[_Result], corrected: Floats, family: str, question: Question) -> Iterable[Comparison]:
    for result, p in zip(results, corrected, strict=True):
        if result.shown is None:
            continue
        shown = result.shown.model_copy(
            update={"p": finite(result.p), "p_corrected": finite(p), "test": result.test, "family": family}
        )
        yield shown.model_copy(update={"verdict": _verdict(shown, question.alpha)})


def _verdict(c: Comparison, alpha: float) -> Verdict:
    if c.difference is None:
        return "not tested"
    if c.n_clusters < stats.MIN_CLUSTERS:
        return "too few clusters"
    if c.p_equivalent is not None and c.p_equivalent <= alpha:
        return "equivalent"
    if c.p_corrected is None or c.p_corrected > alpha:
        return "inconclusive"
    if c.direction == "none":
        return "different"
    return "better" if (c.difference > 0) == (c.direction == "higher") else "worse"


def _in_order(
    comparisons: list[Comparison], question: Question, blocks: list[TaskScores], columns: dict[str, MetricColumn]
) -> list[Comparison]:
    """By pair, then metric (the primary first), then task."""
    labels = [e.label for e in question.field.entrants]
    pairs = {(labels[a], labels[b]): i for i, (a, b) in enumerate(question.shown)}
    metrics = {m: i for i, m in enumerate([SUCCESS, *(c for c in columns if c != SUCCESS)])}
    tasks = {(t.suite, t.task): i for i, t in enumerate(blocks)}
    return sorted(comparisons, key=lambda c: (pairs[c.a.label, c.b.label], metrics[c.metric], tasks[c.suite, c.task]))


def _rankings(question: Question, primary: list[_Result]) -> Iterable[Ranking]:
    """Ranks per task, where the family holds every pair of at least three entrants."""
    n = len(question.field.entrants)
    if n < 3 or len(question.family) != n * (n - 1) // 2:
        return
    corrected = stats.holm([r.p for r in primary])
    for block in question.field.tasks:
        if SUCCESS not in block.values or (question.tasks and block.task not in question.tasks):
            continue
        values = [float(np.nanmean(v)) if (~np.isnan(v)).any() else float("nan") for v in block.values[SUCCESS]]
        better = np.zeros((n, n), dtype=np.bool_)
        for result, p in zip(primary, corrected, strict=True):
            if result.block is block and p <= question.alpha:
                a, b = result.pair
                winner, loser = (b, a) if values[b] > values[a] else (a, b)
                better[winner, loser] = True
        labels = [e.label for e in question.field.entrants]
        ranks = [
            Rank(label=labels[i], value=finite(values[i]), best=best, worst=worst)
            for i, (best, worst) in enumerate(stats.rank_intervals(better))
        ]
        groups = tuple(tuple(labels[i] for i in group) for group in stats.tie_groups(values, better))
        ranks.sort(key=lambda r: -(r.value if r.value is not None else -math.inf))
        yield Ranking(suite=block.suite, task=block.task, ranks=tuple(ranks), groups=groups)
