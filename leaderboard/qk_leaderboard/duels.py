"""Paired comparisons of a board's models, and the ranks they leave open. Every number is `qk_bench.compare`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qk_bench import stats
from qk_bench.compare.align import Entrant, Field
from qk_bench.compare.engine import Question, compare
from qk_bench.compare.records import ALL_TASKS, Comparison, Report
from qk_bench.compare.scores import TaskScores, load_run
from qk_bench.records import SUCCESS, MetricColumn
from qk_leaderboard import scales
from qk_leaderboard.boards import Board, Entry, Scope, rows_of
from qk_leaderboard.results import aggregates_of, cells_of
from qk_leaderboard.scales import Scale

ALPHA: Final = 0.05


@dataclass(frozen=True)
class Duels:
    """What the pairs of a board's models show.

    Attributes:
        report: The comparison of all tasks, apart and together.
        groups: For each scope that pools tasks, the comparisons on them together.
        field: The aligned scores.
    """

    board: Board
    report: Report
    groups: dict[str, tuple[Comparison, ...]]
    field: Field

    def on(self, scope: Scope, metric: str) -> list[Comparison]:
        """The comparisons of every pair on a scope and metric."""
        if scope.is_group:
            return [c for c in self.groups[scope.id] if c.metric == metric]
        return [c for c in self.report.comparisons if c.task == scope.id and c.metric == metric]

    def of_pair(self, a: str, b: str) -> list[tuple[Scope, Comparison]]:
        """Everything on one pair: scopes in order, `success` first in each."""
        found = []
        for scope in self.board.scopes():
            held = self.groups[scope.id] if scope.is_group else self.report.comparisons
            for c in held:
                if (c.a.label, c.b.label) == (a, b) and (scope.is_group or c.task == scope.id):
                    found.append((scope, c))
        return found

    def ranks(self, scope: Scope) -> tuple[dict[str, tuple[int, int]], list[list[str]]]:
        """Rank intervals and tie groups by success, among the models that are not controls.

        On a task, the pairs are corrected over all pairs and tasks. On tasks together they are corrected over the pairs
        of that one table (Holm), which is exploratory.
        """
        models = self.board.covering(scope)
        pairs = [c for c in self.on(scope, SUCCESS) if c.difference is not None and {c.a.label, c.b.label} <= {*models}]
        corrected = stats.holm([c.p if c.p is not None else np.nan for c in pairs])
        values = {c_side.label: c_side.value for c in pairs for c_side in (c.a, c.b) if c_side.value is not None}
        contenders = [name for name in models if name in values and not self.board.entry(name).role]
        if len(contenders) < 2:
            return {}, []
        better = np.zeros((len(contenders), len(contenders)), dtype=np.bool_)
        for c, p in zip(pairs, corrected, strict=True):
            level = p if scope.is_group else c.p_corrected
            known = c.a.label in contenders and c.b.label in contenders
            if known and level is not None and level <= ALPHA and c.difference:
                a, b = contenders.index(c.a.label), contenders.index(c.b.label)
                better[(b, a) if c.difference > 0 else (a, b)] = True
        intervals = stats.rank_intervals(better)
        groups = stats.tie_groups([values[name] for name in contenders], better)
        return dict(zip(contenders, intervals, strict=True)), [[contenders[i] for i in group] for group in groups]


@dataclass(frozen=True)
class _Question(Question):
    """A question about every metric of a board: one that a run lacks is still compared between the others."""

    every: Mapping[str, MetricColumn] | None = None

    def columns(self) -> dict[str, MetricColumn]:
        """All of them, if the runs declare alike what they share."""
        super().columns()
        return dict(self.every or {})


def make_duels(board: Board) -> Duels | None:
    """Compare every pair of models on a board; None if there is but one."""
    if len(board.models) < 2:
        return None
    field = _field(board)
    if not field.tasks:
        return None
    pairs = tuple(combinations(range(len(field.entrants)), 2))
    question = _Question(field, pairs, pairs, alpha=ALPHA, every=board.metrics)
    report = compare(question)
    groups = {}
    for scope in board.scopes():
        if scope.is_group:
            whole = len(scope.tasks) == len(field.tasks)
            tasks = tuple(t for t in field.tasks if t.task in scope.tasks)
            part = report if whole else compare(replace(question, field=replace(field, tasks=tasks)))
            groups[scope.id] = tuple(c for c in part.comparisons if c.task == ALL_TASKS)
    return Duels(board, report, groups, field)


def _field(board: Board) -> Field:
    """The board's scores, aligned: models of other runs and tasks without a model have no value there."""
    runs = {id(entry.run): load_run(entry.run.directory.path) for held in board.entries.values() for entry in held}
    entrants = tuple(Entrant(runs[id(board.entry(name).run)], name, name) for name in board.models)
    tasks = []
    for task in board.tasks:
        parts: list[TaskScores | None] = []
        places: list[int] = []
        for name in board.models:
            entry = next((e for e in board.entries[name] if task in {t.task for t in e.tasks}), None)
            run = runs[id(entry.run)] if entry else None
            parts.append(run.tasks.get((board.suite, task)) if run else None)
            places.append(run.models.index(name) if run else 0)
        tasks.append(_joined(parts, places))
    return Field(entrants, tuple(tasks), ())


def _joined(parts: list[TaskScores | None], places: list[int]) -> TaskScores:
    """One task's scores of several runs on the union of their rows."""
    distinct = list({id(part): part for part in parts if part is not None}.values())
    first = distinct[0]
    alike = all(np.array_equal(p.samples, first.samples) and np.array_equal(p.seeds, first.seeds) for p in distinct)
    if not alike:
        first = _union(distinct)
    keys = _keys(first)
    n = len(keys)
    metrics = dict.fromkeys(metric for part in distinct for metric in part.values)
    values = {metric: np.full((len(parts), n), np.nan) for metric in metrics}
    failed, present = np.zeros((len(parts), n), np.bool_), np.zeros((len(parts), n), np.bool_)
    for number, (part, place) in enumerate(zip(parts, places, strict=True)):
        if part is not None:
            rows = np.arange(n) if alike else np.searchsorted(keys, _keys(part))
            for metric, held in part.values.items():
                values[metric][number, rows] = held[place]
            failed[number, rows], present[number, rows] = part.failed[place], part.present[place]
    return replace(first, values=values, failed=failed, present=present)


def _keys(part: TaskScores) -> NDArray[np.str_]:
    return np.char.add(np.char.add(part.samples, "\x1f"), np.char.zfill(part.seeds.astype(np.str_), 10))


def _union(parts: list[TaskScores]) -> TaskScores:
    """The rows of all parts, in order of sample and seed; values are left to the caller."""
    keys = np.concatenate([_keys(part) for part in parts])
    _, first = np.unique(keys, return_index=True)
    samples, seeds, clusters = (
        np.concatenate([getattr(part, name) for part in parts])[first] for name in ("samples", "seeds", "clusters")
    )
    return replace(parts[0], samples=samples, seeds=seeds, clusters=clusters, values={})


@dataclass(frozen=True)
class Change:
    """One version of a model, and how it differs from the one before.

    Attributes:
        estimates: Value and interval per metric, on the tasks that all versions have, together.
        comparisons: Per metric, this version against the one before; empty for the first.
    """

    estimates: dict[str, stats.Estimate]
    comparisons: dict[str, Comparison]

    def texts(self, metric: str, scale: Scale) -> dict[str, str]:
        """The change in one metric, written."""
        c = self.comparisons.get(metric)
        if c is None or c.difference is None:
            return {"difference": "", "interval": "", "verdict": "", "p": ""}
        low, high = (scales.decimal((v or 0.0) * scale.factor, scale.decimals, sign=True) for v in (c.low, c.high))
        return {
            "difference": scales.decimal(c.difference * scale.factor, scale.decimals, sign=True),
            "interval": "" if c.low is None else f"[{low}, {high}]",
            "verdict": c.verdict,
            "p": "" if c.p_corrected is None else scales.probability(c.p_corrected),
        }


def changes(board: Board, versions: Sequence[Entry]) -> list[Change]:
    """How a model's versions differ, each from the one before, on the rows they have in common.

    Args:
        board: The board.
        versions: The versions, oldest first.
    """
    tasks = shared_tasks(versions)
    found = []
    for number, entry in enumerate(versions):
        comparisons: dict[str, Comparison] = {}
        if number:
            comparisons = _change(board, versions[number - 1], entry)
        found.append(Change(_estimates(board, entry, tasks), comparisons))
    return found


def shared_tasks(versions: Sequence[Entry]) -> tuple[str, ...]:
    """The tasks that all versions have: what values of different versions may be put side by side on."""
    others = [{task.task for task in entry.tasks} for entry in versions]
    return tuple(task.task for task in versions[-1].tasks if all(task.task in held for held in others))


def _change(board: Board, old: Entry, new: Entry) -> dict[str, Comparison]:
    runs = [load_run(entry.run.directory.path) for entry in (old, new)]
    name = old.card.name
    parts = [
        [run.tasks[board.suite, t.task] for run in runs]
        for t in new.tasks
        if all((board.suite, t.task) in r.tasks for r in runs)
    ]
    tasks = tuple(_joined(list(pair), [run.models.index(name) for run in runs]) for pair in parts)
    if not tasks:
        return {}
    field = Field((Entrant(runs[0], name, "before"), Entrant(runs[1], name, "after")), tasks, ())
    report = compare(Question(field, ((0, 1),), ((0, 1),), alpha=ALPHA))
    whole = ALL_TASKS if len(tasks) > 1 else tasks[0].task
    return {c.metric: c for c in report.comparisons if c.task == whole and c.kind != "set"}


def _estimates(board: Board, entry: Entry, tasks: tuple[str, ...]) -> dict[str, stats.Estimate]:
    scope = Scope("shared", "shared", tasks)
    part = rows_of(entry.run.scores, board.suite, entry)
    cells = cells_of(part[part["task"].isin(tasks)], scope)
    if len(entry.run.aggregates):
        cells += aggregates_of(rows_of(entry.run.aggregates, board.suite, entry), scope)
    return {cell.metric: cell.estimate for cell in cells if cell.estimate}
