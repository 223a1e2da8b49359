"""The leaderboard table: one view per scope and metric, its rows written and drawn to one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from qk_bench.records import FAILURES, SUCCESS, MetricColumn
from qk_bench.stats import Estimate
from qk_leaderboard import scales
from qk_leaderboard.boards import Board, Scope
from qk_leaderboard.results import Cell, Cells
from qk_leaderboard.scales import Scale


@dataclass(frozen=True)
class Row:
    """One model in one view; positions are percent of the axis."""

    model: str
    value: str
    interval: str
    sort: float | None
    at: float | None
    low: float | None
    high: float | None
    n: int
    samples: int
    failures: str
    note: str
    rank: str = ""
    rank_sort: int | None = None


@dataclass(frozen=True)
class View:
    """One metric on one scope.

    Attributes:
        rows: Best first.
        ticks: (position in percent, text) of the axis.
        floor: Where the floor control stands.
        ceiling: Where the ceiling control stands.
    """

    board: str
    scope: Scope
    metric: MetricColumn
    scale: Scale
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    floor: float | None
    ceiling: float | None


def make_views(board: Board, cells: Cells) -> list[View]:
    """Every view that has values: scopes in order, `success` first in each; a metric has one scale on all scopes."""
    names = sorted(board.metrics, key=lambda name: (name != SUCCESS, list(board.metrics).index(name)))
    shown = {name: [c.estimate for c in cells.values() if c.metric == name and c.estimate] for name in names}
    metric_scales = {name: scales.scale_of(board.metrics[name], shown[name]) for name in names}
    views = []
    for scope in board.scopes():
        for name in names:
            found = [cells[scope.id, name, model] for model in board.models if (scope.id, name, model) in cells]
            if any(cell.estimate for cell in found):
                views.append(_view(board, scope, board.metrics[name], metric_scales[name], found))
    return views


def _view(board: Board, scope: Scope, metric: MetricColumn, scale: Scale, cells: list[Cell]) -> View:
    sign = {"higher": -1.0, "lower": 1.0, "none": 0.0}[metric.direction]

    def key(cell: Cell) -> tuple[bool, float]:
        return cell.estimate is None, sign * cell.estimate.value if cell.estimate else 0.0

    roles = {board.entry(cell.model).role: cell for cell in cells if cell.estimate}
    at = {role: scale.at(cell.estimate.value) for role, cell in roles.items() if cell.estimate}
    return View(
        board=board.id,
        scope=scope,
        metric=metric,
        scale=scale,
        rows=tuple(_row(cell, metric, scale) for cell in sorted(cells, key=key)),
        ticks=tuple((scale.at(v), scales.decimal(v * scale.factor, _tick_decimals(scale))) for v in _ticks(scale)),
        floor=at.get("floor"),
        ceiling=at.get("ceiling"),
    )


def _row(cell: Cell, metric: MetricColumn, scale: Scale) -> Row:
    e = cell.estimate
    known = e is not None and not math.isnan(e.low) and not math.isnan(e.high)
    return Row(
        model=cell.model,
        value=scale.text(e.value if e else None),
        interval=scale.interval(e.low, e.high) if e else "",
        sort=e.value if e and math.isfinite(e.value) else None,
        at=scale.at(e.value) if e and math.isfinite(e.value) else None,
        low=scale.at(e.low) if e and known else None,
        high=scale.at(e.high) if e and known else None,
        n=e.n if e else 0,
        samples=cell.samples,
        failures=_listed(cell, failed=True),
        note=note(cell, metric, scale),
    )


def note(cell: Cell, metric: MetricColumn, scale: Scale) -> str:
    """What a number rests on, in one or two sentences: N, clusters, interval, definition."""
    e = cell.estimate
    definition = metric.description
    if e is None:
        return f"No value. {cell.reason} {definition}".strip()
    if cell.whole_set:
        how = f"over a set of {scales.count(e.n)}, {cell.full_id}"
    else:
        clusters = f" in {scales.count(e.n_clusters)} clusters" if e.n_clusters and e.n_clusters != e.n else ""
        how = f"from {scales.count(e.n)} outputs of {scales.count(cell.samples)} samples{clusters}"
    interval = f"; 95 % interval {scale.interval(e.low, e.high)}" if scale.interval(e.low, e.high) else ""
    left_out = _left_out(cell)
    return f"{scale.text(e.value)} {scale.unit} {how}{interval}.{left_out} {definition}".strip()


def _left_out(cell: Cell) -> str:
    failed, rest = _listed(cell, failed=True), _listed(cell, failed=False)
    fate = "counted as not successful" if cell.metric == SUCCESS else "left out"
    what = "verdict" if cell.metric == SUCCESS else "value"
    said = f" Without output: {failed} ({fate})." if failed else ""
    return f"{said} No {what}, left out: {rest}." if rest else said


def _listed(cell: Cell, *, failed: bool) -> str:
    """The outcomes without a value: the model's failures, or those that say nothing about it."""
    held = ((status, n) for status, n in cell.without.items() if (status in FAILURES) == failed)
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in held)


def _ticks(scale: Scale) -> list[float]:
    if scale.unit == "%":
        return [share * scale.high for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    step = scales.nice_step(scale.high - scale.low)
    first = math.ceil(scale.low / step - 1e-9)
    ticks = [step * k for k in range(first, math.floor(scale.high / step + 1e-9) + 1)]
    return ticks[:: math.ceil(len(ticks) / 5)]


def _tick_decimals(scale: Scale) -> int:
    if scale.unit == "%":
        return 0 if scale.high == 1.0 else 2
    step = scales.nice_step(scale.high - scale.low)
    return max(0, -math.floor(math.log10(step) + 1e-9))


def with_ranks(view: View, ranks: dict[str, tuple[int, int]]) -> View:
    """The view with rank intervals entered."""
    rows = []
    for row in view.rows:
        best, worst = ranks.get(row.model, (None, None))
        text = "" if best is None else str(best) if best == worst else f"{best}–{worst}"
        rows.append(replace(row, rank=text, rank_sort=best))
    return replace(view, rows=tuple(rows))


def as_data(view: View) -> dict[str, Any]:
    """The view as its page's script reads it."""
    return {
        "unit": view.scale.unit,
        "about": view.metric.description,
        "direction": view.metric.direction,
        "ticks": view.ticks,
        "floor": view.floor,
        "ceiling": view.ceiling,
        "rows": [
            [r.model, r.value, r.interval, r.sort, r.at, r.low, r.high, r.n, r.failures, r.note, r.rank, r.rank_sort]
            for r in view.rows
        ],
    }


def estimate_of(cells: Cells, scope: str, metric: str, model: str) -> Estimate | None:
    """The estimate of a cell, if there is one."""
    cell = cells.get((scope, metric, model))
    return cell.estimate if cell else None
