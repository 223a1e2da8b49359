"""Metrics of whole sets, such as FID: both values side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qk_bench.compare.records import Comparison, Side, finite
from qk_bench.records import MetricColumn

if TYPE_CHECKING:
    from qk_bench.compare.engine import Question


def set_metrics(question: Question, columns: dict[str, MetricColumn]) -> list[Comparison]:
    """What is asked about metrics of whole sets; they have no paired test."""
    entrants = question.field.entrants
    shared = {(t.suite, t.task) for t in question.field.tasks}
    result = []
    for pair in question.shown:
        found: list[dict[tuple[str, str, str], Side]] = []
        for entrant in (entrants[i] for i in pair):
            card = entrant.run.card(entrant.model)
            found.append(
                {
                    (row["suite"], row["task"], row["metric"]): Side(
                        run=str(entrant.run.path),
                        model=entrant.model,
                        label=entrant.label,
                        privileged=card.privileged,
                        uses_region=card.uses_region,
                        unseeded=card.unseeded,
                        value=finite(row["value"]),
                        low=finite(row["low"]),
                        high=finite(row["high"]),
                        n=row["n"],
                        failures=0,
                    )
                    for row in entrant.run.aggregates
                    if row["model"] == entrant.model
                }
            )
        for key, a in found[0].items():
            suite, task, metric = key
            b = found[1].get(key)
            wanted = (not question.tasks or task in question.tasks) and (
                not question.metrics or metric in question.metrics
            )
            if b is None or metric not in columns or not wanted or (suite, task) not in shared:
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
