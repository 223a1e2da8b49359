"""The versions page: the same model in several runs, over time."""

from __future__ import annotations

import math
from typing import Any

from qk_bench.records import SUCCESS
from qk_leaderboard import charts, scales
from qk_leaderboard.boards import Board, Entry
from qk_leaderboard.duels import Change, changes, shared_tasks
from qk_leaderboard.site import Site, anchor


def has_versions(site: Site) -> bool:
    """Whether any model was run more than once on the same samples."""
    return any(board.earlier for board in site.boards)


def write(site: Site) -> None:
    """Write `versions.html`, if a model has several versions."""
    if not has_versions(site):
        return
    parts = [_part(board, name) for board in site.boards for name in board.models if board.earlier.get(name)]
    site.render("versions.html", "versions.html", title="Versions", parts=parts)


def _part(board: Board, name: str) -> dict[str, Any]:
    versions = [*board.earlier[name], board.entry(name)]
    found = changes(board, versions)
    metrics = [m for m in board.metrics if any(m in change.estimates or m in change.comparisons for change in found)]
    metrics.sort(key=lambda metric: metric != SUCCESS)
    return {
        "board": board,
        "model": name,
        "versions": [_version(entry) for entry in versions],
        "tasks": shared_tasks(versions),
        "trends": [_trend(board, metric, versions, found) for metric in metrics],
    }


def _version(entry: Entry) -> dict[str, Any]:
    return {
        "label": entry.run.label, "anchor": anchor(entry.run), "version": entry.card.version,
        "weights": entry.card.weights[:12], "samples": sum(b - a for task in entry.tasks for a, b in task.indices),
    }  # fmt: skip


def _trend(board: Board, metric: str, versions: list[Entry], found: list[Change]) -> dict[str, Any]:
    column = board.metrics[metric]
    estimates = [change.estimates.get(metric) for change in found]
    scale = scales.scale_of(column, [e for e in estimates if e])
    points = [
        charts.Point(f"{number}: {entry.run.started[:10]} v{entry.card.version}", 0, e.value * scale.factor,
                     y_low=e.low * scale.factor, y_high=e.high * scale.factor)
        for number, (entry, e) in enumerate(zip(versions, estimates, strict=True), start=1)
        if e and math.isfinite(e.value)
    ]  # fmt: skip
    title = f"{metric}, {scale.unit}" if scale.unit else metric
    rows = [
        {
            "value": scale.text(e.value if e else None),
            "interval": scale.interval(e.low, e.high) if e else "",
            "n": scales.count(e.n) if e else "0",
            "change": change.texts(metric, scale),
        }
        for e, change in zip(estimates, found, strict=True)
    ]
    svg = charts.trend(points, title, share=scales.is_share(column)) if len(points) > 1 else ""
    return {"metric": column, "title": title, "rows": rows, "svg": svg}
