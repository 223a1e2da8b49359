"""Metrics of whole sets, such as FID: both values side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qk_bench.compare.records import Comparison, Side
from qk_bench.records import MetricColumn

if TYPE_CHECKING:
    from qk_bench.compare.engine import Question


def set_metrics(question: Question, columns: dict[str, MetricColumn]) -> list[Comparison]:
    """What is asked about metrics of whole sets; they have no paired test."""
    entrants = question.field.entrants
    blocks = {(t.suite, t.task): t for t in question.field.tasks}
    sides: list[dict[tuple[str, str, str], Side]] = [
        {
            (row["suite"], row["task"], row["metric"]): entrant.side(
                row["value"], row["low"], row["high"], row["n"], int(blocks[row["suite"], row["task"]].failed[i].sum())
            )
            for row in entrant.run.aggregates
            if row["model"] == entrant.model and (row["suite"], row["task"]) in blocks
        }
        for i, entrant in enumerate(entrants)
    ]
    result = []
    for first, second in question.shown:
        for key, a in sides[first].items():
            suite, task, metric = key
            b = sides[second].get(key)
            wanted = (not question.tasks or task in question.tasks) and (
                not question.metrics or metric in question.metrics
            )
            if b is None or metric not in columns or not wanted:
                continue
            column = columns[metric]
            known = a.value is not None and b.value is not None
            result.append(
                Comparison(
                    suite=suite,
                    task=task,
                    metric=metric,
                    unit=column.unit,
                    direction=column.direction,
                    kind="set",
                    a=a,
                    b=b,
                    difference=b.value - a.value if a.value is not None and b.value is not None else None,
                    family="exploratory",
                    n=min(a.n, b.n),
                    n_clusters=0,
                    without_pair=0,
                    verdict="not tested",
                    note="a metric of whole sets has no paired test" if known else "no value on one side",
                )
            )
    return result
