"""The first page: the leaderboard table, and the data its filters need."""

from __future__ import annotations

from typing import Any

from qk_bench.records import SUCCESS
from qk_leaderboard import scales
from qk_leaderboard.boards import Board
from qk_leaderboard.costs import Cost
from qk_leaderboard.site import Site, cost_note, milliseconds
from qk_leaderboard.table import as_data
from qk_leaderboard.text import script


def write(site: Site) -> None:
    """Write `index.html` and `data/leaderboard.js`."""
    boards = [board for board in site.boards if site.views[board.id]]
    board = boards[0] if boards else site.boards[0]
    view = site.views[board.id][0] if boards else None
    (site.out / "data" / "leaderboard.js").write_text(script("leaderboard", _data(site, boards)))
    models: dict[str, dict[str, Any]] = {}
    for other in boards:
        for name in other.models:
            models.setdefault(name, site.model(other, name))
    site.render(
        "index.html",
        "index.html",
        title="Leaderboard",
        lead=_lead(site, board),
        finding=_finding(site, board),
        boards=boards,
        view=view,
        blank={"low": None, "high": None, "at": None},
        models=models,
        shown={row.model for row in view.rows} if view else set(),
        ranked=any(row.rank for views in site.views.values() for other in views for row in other.rows),
        caption=f"{view.scope.title}; {board.title}" if view else "",
        definition=f"{view.metric.id}: {view.metric.description}" if view else "",
        by_task=_by_task(site, board),
    )


def _lead(site: Site, board: Board) -> str:
    runs = list({id(entry.run): entry.run for held in board.entries.values() for entry in held}.values())
    counts = sorted({len(run.manifest.spec.seeds) for run in runs})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    tasks = f"{len(board.tasks)} task{'s' if len(board.tasks) != 1 else ''}"
    samples = scales.count(site.galleries[board.id].count)
    unfinished = [
        f" Run {run.label} is not finished: {scales.count(run.done)} of {scales.count(run.manifest.requests)} requests."
        for run in runs
        if not run.finished
    ]
    return (
        f"{len(board.models)} models on {samples} samples of {tasks} ({board.title}),"
        f" {seeds} seed{'s' if seeds != '1' else ''} each.{''.join(unfinished)}"
    )


def _finding(site: Site, board: Board) -> dict[str, Any] | None:
    """What the first view shows about the top: who leads, and who cannot be told from the leader."""
    duels = site.duels[board.id]
    scope = board.scopes()[0]
    if duels is None:
        return None
    ranks, groups = duels.ranks(scope)
    if not groups:
        return None
    return {
        "href": site.pairs_href(board), "scope": scope.title, "first": groups[0], "rest": groups[1:],
        "apart": len(groups) == len(ranks),
    }  # fmt: skip


def _data(site: Site, boards: list[Board]) -> dict[str, Any]:
    listed = []
    for board in boards:
        scopes: dict[str, dict[str, Any]] = {}
        for view in site.views[board.id]:
            scope = {"id": view.scope.id, "title": view.scope.title, "metrics": []}
            scopes.setdefault(view.scope.id, scope)["metrics"].append(view.metric.id)
        costs = {name: _cost(cost) for name, cost in site.costs[board.id].items()}
        listed.append({"id": board.id, "title": board.title, "scopes": list(scopes.values()), "costs": costs})
    views = {f"{v.board}|{v.scope.id}|{v.metric.id}": as_data(v) for b in boards for v in site.views[b.id]}
    parameters = {name: entry.card.parameters for name, entry in site.models.items()}
    return {"boards": listed, "views": views, "models": parameters}


def _cost(cost: Cost) -> list[Any]:
    return [milliseconds(cost), cost.median, cost_note(cost)]


def _by_task(site: Site, board: Board) -> dict[str, Any] | None:
    """Success on each scope, models in the order of the first scope that has them."""
    views = [view for view in site.views[board.id] if view.metric.id == SUCCESS]
    if len(views) < 2:
        return None
    rows = {view.scope.id: {row.model: row for row in view.rows} for view in views}
    models = dict.fromkeys(model for held in rows.values() for model in held)
    blank = {"value": scales.MISSING, "interval": "", "note": "", "rank": ""}
    lines = [{"model": model, "cells": [rows[view.scope.id].get(model, blank) for view in views]} for model in models]
    scopes = [
        {"title": v.scope.title, "href": "" if v.scope.is_group else site.task_href(board, v.scope.id)} for v in views
    ]
    return {"title": "Success by task", "scopes": scopes, "lines": lines}
