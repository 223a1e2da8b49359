"""The regression gate: fails only on a significant drop beyond the stated margin, and says when N cannot tell."""

from __future__ import annotations

import numpy as np

from qk_bench import stats
from qk_bench.compare.engine import Pair, Question, blocks_of, check_names, is_rate
from qk_bench.compare.records import Gate, GateCell, GateVerdict, finite
from qk_bench.compare.scores import TaskScores, codes_of, image_hashes
from qk_bench.errors import UsageError
from qk_bench.records import MetricColumn


def evaluate(question: Question) -> Gate:
    """Test every stated metric of every shown pair on every task, and on all tasks together.

    A drop is shown where its one-sided p-value against the margin, Holm-corrected over all cells, is at most alpha. The
    gate passes if every cell is shown to be non-inferior, each at alpha: passing needs all of them, which needs no
    correction (Berger, Technometrics 24, 1982). Where every output is byte for byte the same, the cell is non-inferior
    at once.

    Raises:
        UsageError: No margin is stated, a metric cannot be gated, or a task is not there.
    """
    columns = _gated(question)
    blocks = blocks_of(question.field)
    check_names(question, question.columns(), blocks)
    cells: list[GateCell] = []
    for pair in question.shown:
        same = _identical_outputs(question, pair)
        for metric, column in columns.items():
            for block, identical in zip(blocks, same, strict=True):
                if not question.tasks or block.task in question.tasks:
                    cells.append(_cell(question, block, column, metric, pair, identical))
    corrected = stats.holm([1.0 if c.p_drop is None else c.p_drop for c in cells])
    decided = [_decided(cell, float(p), question.alpha) for cell, p in zip(cells, corrected, strict=True)]
    verdicts = {c.verdict for c in decided}
    overall: GateVerdict = "drop" if "drop" in verdicts else "non-inferior"
    if overall == "non-inferior" and "inconclusive" in verdicts:
        overall = "inconclusive"
    return Gate(verdict=overall, cells=tuple(decided))


def _gated(question: Question) -> dict[str, MetricColumn]:
    columns = question.columns()
    if not question.margins:
        raise UsageError("a gate needs the largest drop you accept", "state it, such as --margin success=0.02")
    for name in question.margins:
        if not any(name in task.values for task in question.field.tasks):
            known = {m for task in question.field.tasks for m in task.values}
            raise UsageError(f"metric {name!r} has no value per sample here", f"known: {', '.join(sorted(known))}")
        if columns[name].direction == "none":
            raise UsageError(f"metric {name!r} has no better or worse", "gate another metric")
    return {name: columns[name] for name in question.margins}


def _identical_outputs(question: Question, pair: Pair) -> list[bool]:
    """For each block whether every output of B is that of A."""
    a, b = (question.field.entrants[i] for i in pair)
    of_a, of_b = image_hashes(a.run, a.model), image_hashes(b.run, b.model)
    same = []
    for task in question.field.tasks:
        keys = [(task.suite, task.task, s, int(k)) for s, k in zip(task.samples.tolist(), task.seeds, strict=True)]
        same.append(all(key in of_a and of_a[key] == of_b.get(key) for key in keys))
    return [*same, all(same)] if len(same) > 1 else same


def _cell(
    question: Question, block: TaskScores, column: MetricColumn, metric: str, pair: Pair, identical: bool
) -> GateCell:
    entrants = question.field.entrants
    assert question.margins is not None
    margin = question.margins[metric]
    cell = GateCell(
        suite=block.suite,
        task=block.task,
        metric=metric,
        a=entrants[pair[0]].label,
        b=entrants[pair[1]].label,
        margin=margin,
        difference=None,
        n=0,
        n_clusters=0,
        identical=identical,
        verdict="inconclusive",
    )
    if metric not in block.values:
        return cell.model_copy(update={"note": "the metric has no value here"})
    a, b = block.values[metric][list(pair)]
    rate = is_rate(block.values[metric])
    with np.errstate(invalid="ignore"):
        both = np.isfinite(b - a)
    infinite = int((np.isinf(a) | np.isinf(b)).sum())
    codes = codes_of(block)[both]
    counted = {"n": int(both.sum()), "n_clusters": int(np.unique(codes).size)}
    cell = cell.model_copy(update=counted)
    if cell.n == 0 or (infinite and not identical):
        return cell.model_copy(update={"note": "some values are infinite" if infinite else "no pair has a value"})
    difference: stats.Difference
    if rate:
        difference = stats.rate_difference(a[both], b[both], codes)
    else:
        sums, counts = stats.cluster_sums((b - a)[both][:, None], stats.cluster_codes(codes))
        sample = stats.bootstrap_means(sums, counts)[0]
        assert sample is not None  # there are pairs
        difference = sample
    low, high = difference.interval(1 - 2 * question.alpha)
    ends = {"difference": difference.value, "low": finite(low), "high": finite(high)}
    cell = cell.model_copy(update=ends)
    if identical:
        return cell
    if cell.n_clusters < stats.MIN_CLUSTERS:
        return cell.model_copy(update={"note": f"too few clusters: {cell.n_clusters} of {stats.MIN_CLUSTERS}"})
    higher = column.direction == "higher"
    tests = {
        "p_drop": stats.drop_p(difference, margin, higher_is_better=higher),
        "p_non_inferior": stats.non_inferiority_p(difference, margin, higher_is_better=higher),
    }
    return cell.model_copy(update=tests)


def _decided(cell: GateCell, corrected: float, alpha: float) -> GateCell:
    if cell.identical:
        return cell.model_copy(update={"verdict": "non-inferior", "note": "identical outputs"})
    if cell.p_drop is None or cell.p_non_inferior is None:
        return cell
    verdict = "drop" if corrected <= alpha else "non-inferior" if cell.p_non_inferior <= alpha else "inconclusive"
    return cell.model_copy(update={"p_drop": corrected, "verdict": verdict})
