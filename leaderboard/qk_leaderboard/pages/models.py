"""The model pages: what a model is, its results, its cost, its training."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from qk_leaderboard import charts, scales
from qk_leaderboard.boards import Board, Entry
from qk_leaderboard.site import Site, anchor, cost_note, milliseconds
from qk_leaderboard.training import Training


def write(site: Site) -> None:
    """Write `models/index.html` and a page per model."""
    listed = []
    for name, entry in site.models.items():
        board = next(board for board in site.boards if name in board.entries)
        listed.append({**site.model(board, name), "about": entry.card.description})
        _write_model(site, name, entry)
    site.render("models.html", "models/index.html", title="Models", models=listed)


def _write_model(site: Site, name: str, entry: Entry) -> None:
    boards = [board for board in site.boards if name in board.entries]
    card = entry.card
    training = site.trainings.get(card.weights) if card.weights else None
    site.render(
        "model.html",
        site.model_href(name),
        title=name,
        model=site.model(boards[0], name),
        card=card,
        ref=entry.spec.ref,
        constructor=json.dumps(entry.spec.arguments, sort_keys=True) if entry.spec.arguments else "",
        arguments={key: json.dumps(value) for key, value in sorted(card.arguments.items())},
        parameters=scales.count(card.parameters) if card.parameters is not None else scales.MISSING,
        results=[_results(site, board, name) for board in boards],
        run={"label": entry.run.label, "anchor": anchor(entry.run)},
        training=_training(training) if training else None,
    )


def _results(site: Site, board: Board, name: str) -> dict[str, Any]:
    views = [view for view in site.views[board.id] if any(row.model == name for row in view.rows)]
    scopes = list({view.scope.id: view.scope for view in views}.values())
    metrics = list({view.metric.id: view for view in views}.values())
    by_key = {(v.scope.id, v.metric.id): next(row for row in v.rows if row.model == name) for v in views}
    cost = site.costs[board.id].get(name)
    return {
        "board": board,
        "scopes": scopes,
        "metrics": [{"id": v.metric.id, "unit": v.scale.unit, "about": v.metric.description} for v in metrics],
        "rows": by_key,
        "cost": cost,
        "time": milliseconds(cost),
        "cost_note": cost_note(cost),
        "throughput": scales.significant(cost.throughput) if cost else scales.MISSING,
        "peak": f"{cost.peak_bytes / 2**20:,.0f}".replace(",", "\u202f") if cost and cost.peak_bytes else "",
        "gallery": site.gallery_href(board),
        "unjudged": site.galleries[board.id].unjudged,
        "place": board.models.index(name),
        "runs": [{"label": entry.run.label, "anchor": anchor(entry.run)} for entry in board.entries[name]],
        "card": board.entry(name).card,
    }


def _training(training: Training) -> dict[str, Any]:
    record = training.record
    drawings: list[tuple[str, Markup]] = []
    for stage in training.stages:
        names = [n for n in _names(training, stage) if "loss" in n][:4]
        series = {n: training.curve(stage, n) for n in names}
        series = {n: line for n, line in series.items() if len(line) > 1}
        if series:
            drawings.append((stage, charts.curves(series, "step", "loss")))
    seconds = record.get("measured", {}).get("seconds", {})
    return {
        "command": record.get("command", ""),
        "preset": record.get("preset", ""),
        "parameters": {k: scales.count(int(v)) for k, v in record.get("parameters", {}).items()},
        "samples": {k: scales.count(int(v)) for k, v in record.get("samples", {}).items()},
        "seconds": {k: " ".join(scales.duration(float(v))) for k, v in seconds.items()},
        "revision": record.get("git", {}).get("revision", ""),
        "drawings": drawings,
    }


def _names(training: Training, stage: str) -> list[str]:
    held = [line for line in training.log if line.get("stage") == stage]
    names = dict.fromkeys(key for line in held for key, value in line.items() if isinstance(value, int | float))
    return [name for name in names if name not in ("step", "seconds")]
