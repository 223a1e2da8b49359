"""Metrics of whole sets, such as FID: both values side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qk_bench.compare.records import Comparison, Side
from qk_bench.records import MetricColumn

if TYPE_CHECKING:
    from qk_bench.compare.engine import Question


@dataclass(frozen=True)
class _Value:
    """A model's value of one metric on one task."""

    id: str  # of the value: the column's, completed with what only the set tells, such as its size
    side: Side
    whole: bool  # whether the set holds more than the rows that are compared


def set_metrics(question: Question, columns: dict[str, MetricColumn]) -> tuple[list[Comparison], list[str]]:
    """What is asked about metrics of whole sets, which have no paired test, and notes on values that do not compare."""
    values = [_values(question, i) for i in range(len(question.field.entrants))]
    found, notes = [], []
    for first, second in question.shown:
        for key, a in values[first].items():
            suite, task, metric = key
            b = values[second].get(key)
            wanted = (not question.tasks or task in question.tasks) and (
                not question.metrics or metric in question.metrics
            )
            if b is None or metric not in columns or not wanted:
                continue
            if a.id != b.id:
                notes.append(
                    f"{suite}/{task}: {a.id} of {a.side.label} and {b.id} of {b.side.label} are of unlike sets, "
                    "and not compared"
                )
                continue
            difference = None
            note = f"{a.id} has no value on one side"
            if a.side.value is not None and b.side.value is not None:
                difference = b.side.value - a.side.value
                note = f"{a.id} has no paired test"
            if a.whole or b.whole:
                note += "; of the whole sets, not of the rows in common"
            found.append(
                Comparison(
                    suite=suite,
                    task=task,
                    metric=metric,
                    unit=columns[metric].unit,
                    direction=columns[metric].direction,
                    kind="set",
                    a=a.side,
                    b=b.side,
                    difference=difference,
                    family="exploratory",
                    n=min(a.side.n, b.side.n),
                    n_clusters=0,
                    without_pair=0,
                    verdict="not tested",
                    note=note,
                )
            )
    return found, notes


def _values(question: Question, index: int) -> dict[tuple[str, str, str], _Value]:
    """What an entrant has, by suite, task and column."""
    entrant = question.field.entrants[index]
    blocks = {(t.suite, t.task): t for t in question.field.tasks}
    model = entrant.run.models.index(entrant.model)
    found = {}
    for row in entrant.run.aggregates:
        key = row["suite"], row["task"]
        if row["model"] == entrant.model and key in blocks:
            failures = int(blocks[key].failed[index].sum())
            side = entrant.side(row["value"], row["low"], row["high"], row["n"], failures)
            whole = int(entrant.run.tasks[key].present[model].sum()) > blocks[key].samples.size
            found[*key, row["column"]] = _Value(row["metric"], side, whole)
    return found
