"""Estimates with intervals, per scope, metric and model. Every statistic is `qk_bench.stats`'s."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qk_bench.records import FAILURES, SUCCESS
from qk_bench.stats import Estimate, mean_intervals, rate_interval
from qk_leaderboard.boards import Board, Scope


@dataclass(frozen=True)
class Cell:
    """One metric of one model on one scope.

    Attributes:
        estimate: Value and interval; None where no outcome has a value.
        without: How many outcomes have no value, per status.
        samples: Number of samples.
        whole_set: Whether it is a metric of a whole set.
        reason: Why there is no value.
        full_id: Of a metric of a whole set, its id with what only the set tells, such as how many images.
    """

    model: str
    scope: Scope
    metric: str
    estimate: Estimate | None
    without: dict[str, int]
    samples: int
    whole_set: bool = False
    reason: str = ""
    full_id: str = ""


Cells = dict[tuple[str, str, str], Cell]
"""By (scope id, metric, model)."""


def make_cells(board: Board) -> Cells:
    """All cells of a board."""
    cells: Cells = {}
    for scope in board.scopes():
        part = board.scores[board.scores["task"].isin(scope.tasks)]
        part = part[part["model"].isin(board.covering(scope))]
        for cell in (*cells_of(part, scope), *aggregates_of(board.aggregates, scope)):
            cells[scope.id, cell.metric, cell.model] = cell
    return cells


def cells_of(part: pd.DataFrame, scope: Scope) -> list[Cell]:
    """The cells of score rows that were already chosen for a scope."""
    return [*_rates(part, scope), *_means(part, scope)]


def counted(rows: pd.DataFrame) -> pd.Series[float]:
    """Success values in which a failed outcome is 0; NaN where no judgement was possible."""
    failed = rows["value"].isna() & rows["status"].isin(FAILURES)
    return rows["value"].mask(failed, 0.0).astype(float)


def _without(rows: pd.DataFrame) -> dict[str, int]:
    statuses = rows.loc[rows["value"].isna(), "status"].astype(str)
    return {str(name): int(n) for name, n in sorted(statuses.value_counts().items())}


def _rates(part: pd.DataFrame, scope: Scope) -> Iterator[Cell]:
    rows = part[part["metric"] == SUCCESS]
    for model, own in rows.groupby("model", observed=True, sort=False):
        values = counted(own)
        known = values.notna().to_numpy()
        clusters = own["cluster"].astype(str).to_numpy()[known]
        estimate = rate_interval(values.to_numpy()[known], clusters) if known.any() else None
        samples = own[["task", "sample_id"]].drop_duplicates().shape[0]
        yield Cell(str(model), scope, SUCCESS, estimate, _without(own), samples)


def _means(part: pd.DataFrame, scope: Scope) -> Iterator[Cell]:
    """Means of all other metrics. All models and metrics share one bootstrap: rows are (task, sample, seed)."""
    rows = part[part["metric"] != SUCCESS]
    if not len(rows):
        return
    keys = rows["task"].astype(str) + "\0" + rows["sample_id"].astype(str)
    row_codes, row_keys = pd.factorize(keys + "\0" + rows["seed"].astype(str))
    names = pd.MultiIndex.from_arrays([rows["model"].astype(str), rows["metric"].astype(str)])
    column_codes, columns = pd.factorize(names)
    matrix = np.full((len(row_keys), len(columns)), np.nan)
    matrix[row_codes, column_codes] = rows["value"].to_numpy(float, na_value=np.nan)
    clusters = np.empty(len(row_keys), dtype=object)
    clusters[row_codes] = rows["cluster"].astype(str).to_numpy()
    finite = np.isfinite(matrix)
    estimates = mean_intervals(np.where(finite, matrix, np.nan), clusters.astype(str))
    samples = keys.groupby([rows["model"].astype(str), rows["metric"].astype(str)]).nunique()
    groups = dict(iter(rows.groupby(["model", "metric"], observed=True, sort=False)))
    for number, (model, metric) in enumerate(columns):
        estimate: Estimate | None = estimates[number]
        infinite = np.isinf(matrix[:, number])
        if infinite.any():  # such as the PSNR of identical images: a mean without interval
            mean = float(np.nanmean(matrix[:, number]))
            estimate = Estimate(mean, mean, mean, int((~np.isnan(matrix[:, number])).sum()), 0)
        if estimate is not None and estimate.n == 0:
            estimate = None
        own = groups[model, metric]
        reason = "" if estimate is not None else next(iter(own["reason"].astype(str)), "")
        yield Cell(str(model), scope, str(metric), estimate, _without(own), int(samples[model, metric]), reason=reason)


def aggregates_of(rows: pd.DataFrame, scope: Scope) -> Iterator[Cell]:
    """The cells of metrics of whole sets, which do not pool: there are none on a group."""
    if scope.is_group or not len(rows):
        return
    for row in rows[rows["task"].isin(scope.tasks)].to_dict("records"):
        value = row["value"]
        estimate = None
        if value is not None and not math.isnan(value):
            low, high = (math.nan if row[end] is None else float(row[end]) for end in ("low", "high"))
            estimate = Estimate(float(value), low, high, int(row["n"]), int(row["n"]))
        n, reason = int(row["n"]), str(row["reason"] or "")
        yield Cell(row["model"], scope, row["column"], estimate, {}, n, True, reason, row["metric"])
