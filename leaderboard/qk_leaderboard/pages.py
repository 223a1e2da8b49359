"""Renders the pages of a site from its boards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qk_leaderboard import scales
from qk_leaderboard.boards import SUCCESS, Board
from qk_leaderboard.costs import Cost, make_costs
from qk_leaderboard.difference import LABELS
from qk_leaderboard.gallery import Gallery, write_gallery
from qk_leaderboard.reading import Run
from qk_leaderboard.results import Cells, make_cells
from qk_leaderboard.table import View, as_data, make_views
from qk_leaderboard.text import script, shown


class Site:
    """Everything that is computed once and shown on several pages.

    Args:
        boards: The boards, the first of which is shown first.
        out: The folder to write to.
    """

    def __init__(self, boards: Sequence[Board], out: Path) -> None:
        self.boards, self.out = boards, out
        self.cells: dict[str, Cells] = {board.id: make_cells(board) for board in boards}
        self.costs: dict[str, dict[str, Cost]] = {board.id: make_costs(board) for board in boards}
        self.views: dict[str, list[View]] = {board.id: make_views(board, self.cells[board.id]) for board in boards}
        runs = {entry.run.label: entry.run for b in boards for held in b.entries.values() for entry in held}
        runs |= {entry.run.label: entry.run for b in boards for held in b.earlier.values() for entry in held}
        self.runs: list[Run] = sorted(runs.values(), key=lambda run: (run.started, run.label))
        self.galleries: dict[str, Gallery] = {}
        self._environment = Environment(
            loader=PackageLoader("qk_leaderboard"), autoescape=True, finalize=shown, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip

    def write(self) -> None:
        """Write every page and data file."""
        data = self.out / "data"
        data.mkdir()
        for board in self.boards:
            self.galleries[board.id] = write_gallery(board, self.out / "images", data / board.id)
        (data / "leaderboard.js").write_text(script("leaderboard", self._leaderboard_data()))
        self._write_index()
        for board in self.boards:
            self._write_gallery(board)

    def gallery_href(self, board: Board) -> str:
        """The gallery page of a board."""
        return "gallery.html" if board is self.boards[0] else f"gallery-{board.id}.html"

    def navigation(self) -> list[dict[str, str]]:
        """The pages that there are."""
        return [{"title": "Leaderboard", "href": "index.html"}, {"title": "Gallery", "href": "gallery.html"}]

    def render(self, template: str, path: str, **context: Any) -> None:
        """Write one page."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        runs = [{"label": run.label, "anchor": f"run-{run.manifest.spec_digest[:12]}"} for run in self.runs]
        text = self._environment.get_template(template).render(
            root="../" * path.count("/"), here=path, nav=self.navigation(), runs=runs, **context
        )
        target.write_text(text + "\n", encoding="utf-8")

    def model(self, board: Board, name: str) -> dict[str, Any]:
        """What is shown of a model beside its results."""
        entry = board.entry(name)
        cost = self.costs[board.id].get(name)
        return {
            "name": name,
            "href": "",
            "role": entry.role,
            "privileged": entry.card.privileged,
            "parameters": scales.size(entry.card.parameters),
            "time": scales.significant(cost.median * 1000) if cost else scales.MISSING,
            "cost_note": cost_note(cost),
        }

    def _leaderboard_data(self) -> dict[str, Any]:
        boards = []
        for board in self.boards:
            scopes: dict[str, dict[str, Any]] = {}
            for view in self.views[board.id]:
                scope = {"id": view.scope.id, "title": view.scope.title, "metrics": []}
                scopes.setdefault(view.scope.id, scope)["metrics"].append(view.metric.id)
            costs = {name: _cost_data(cost) for name, cost in self.costs[board.id].items()}
            boards.append({"id": board.id, "title": board.title, "scopes": list(scopes.values()), "costs": costs})
        views = {f"{v.board}|{v.scope.id}|{v.metric.id}": as_data(v) for b in self.boards for v in self.views[b.id]}
        parameters = {name: board.entry(name).card.parameters for board in self.boards for name in board.models}
        return {"boards": boards, "views": views, "models": parameters}

    def _write_index(self) -> None:
        board = self.boards[0]
        view = self.views[board.id][0]
        models: dict[str, dict[str, Any]] = {}
        for other in self.boards:
            for name in other.models:
                models.setdefault(name, self.model(other, name))
        seeds = sorted({seed for run in self.runs for seed in run.manifest.spec.seeds})
        self.render(
            "index.html",
            "index.html",
            title="Leaderboard",
            lead=(
                f"{len(board.models)} models on {self.galleries[board.id].count} samples of {len(board.tasks)} tasks"
                f" ({board.title}), {len(seeds)} seed{'s' if len(seeds) != 1 else ''}."
            ),
            boards=self.boards,
            view=view,
            blank={"low": None, "high": None, "at": None},
            models=models,
            shown={row.model for row in view.rows},
            ranked=any(row.rank for row in view.rows),
            caption=f"{view.scope.title}; {board.title}",
            definition=f"{view.metric.id}: {view.metric.description}",
            by_task=self._by_task(board),
        )

    def _by_task(self, board: Board) -> dict[str, Any] | None:
        """Success on each scope, models in the order of the first."""
        views = [view for view in self.views[board.id] if view.metric.id == SUCCESS]
        if len(views) < 2:
            return None
        rows = {view.scope.id: {row.model: row for row in view.rows} for view in views}
        blank = {"value": scales.MISSING, "interval": "", "note": ""}
        lines = [
            {"model": row.model, "cells": [rows[view.scope.id].get(row.model, blank) for view in views]}
            for row in views[0].rows
        ]
        scopes = [{"title": view.scope.title, "href": ""} for view in views]
        return {"title": "Success by task", "scopes": scopes, "lines": lines}

    def _write_gallery(self, board: Board) -> None:
        gallery = self.galleries[board.id]
        self.render(
            "gallery.html",
            self.gallery_href(board),
            title="Gallery",
            board=board,
            count=scales.count(gallery.count),
            galleries=[{"title": other.title, "href": self.gallery_href(other)} for other in self.boards],
            labels=list(LABELS.values()),
            models=[self.model(board, name) for name in board.models],
            examples=[sample for samples in gallery.examples.values() for sample in samples],
        )


def cost_note(cost: Cost | None) -> str:
    """What a time rests on, in one sentence."""
    if cost is None:
        return ""
    low, median, high = (" ".join(scales.duration(v)) for v in (cost.low, cost.median, cost.high))
    return f"median {median}, 5th to 95th percentile {low} to {high}, from {scales.count(cost.n)} requests"


def _cost_data(cost: Cost) -> list[Any]:
    return [scales.significant(cost.median * 1000), cost.median, cost_note(cost)]
