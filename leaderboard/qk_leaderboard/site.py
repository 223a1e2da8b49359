"""What the pages share: boards, their numbers, the names of files, and the template engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qk_bench.claims.records import ClaimReport
from qk_leaderboard import scales
from qk_leaderboard.boards import Board, Entry
from qk_leaderboard.costs import Cost, make_costs
from qk_leaderboard.duels import Duels, make_duels
from qk_leaderboard.gallery import Gallery
from qk_leaderboard.reading import Run
from qk_leaderboard.results import Cells, make_cells
from qk_leaderboard.table import View, make_views, with_ranks
from qk_leaderboard.text import file_name, shown
from qk_leaderboard.training import Training

PAGES = (
    ("Leaderboard", "index.html"),
    ("Pairwise", "pairs.html"),
    ("Gallery", "gallery.html"),
    ("Models", "models/index.html"),
    ("Tasks", "tasks/index.html"),
    ("Compute", "compute.html"),
    ("Claims", "claims.html"),
    ("Versions", "versions.html"),
    ("Provenance", "provenance.html"),
    ("Downloads", "downloads.html"),
)


@cache
def templates() -> Environment:
    """The template engine, which keeps what it has compiled."""
    return Environment(
        loader=PackageLoader("qk_leaderboard"), autoescape=True, finalize=shown, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


class Site:
    """Everything that is computed once and shown on several pages.

    Args:
        boards: The boards, the first of which is shown first.
        out: The folder to write to.
        trainings: Training records by the hash of the weights they made.
        claims: Verdicts on published claims.
    """

    def __init__(
        self, boards: Sequence[Board], out: Path, trainings: dict[str, Training], claims: Sequence[ClaimReport]
    ) -> None:
        self.boards, self.out, self.trainings, self.claims = boards, out, trainings, claims
        self.cells: dict[str, Cells] = {board.id: make_cells(board) for board in boards}
        self.costs: dict[str, dict[str, Cost]] = {board.id: make_costs(board) for board in boards}
        self.duels: dict[str, Duels | None] = {board.id: make_duels(board) for board in boards}
        self.views: dict[str, list[View]] = {board.id: self._views(board) for board in boards}
        for board in boards:  # values that one model alone has are nothing to compare
            duels = self.duels[board.id]
            if duels and not any(duels.on(view.scope, view.metric.id) for view in self.views[board.id]):
                self.duels[board.id] = None
        self.galleries: dict[str, Gallery] = {}
        self.pages: set[str] = set()

    def _views(self, board: Board) -> list[View]:
        duels = self.duels[board.id]
        views = []
        for view in make_views(board, self.cells[board.id]):
            primary = view.metric.id == "success" and duels is not None
            views.append(with_ranks(view, duels.ranks(view.scope)[0]) if primary and duels else view)
        return views

    @cached_property
    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        entries = [e for b in self.boards for held in (*b.entries.values(), *b.earlier.values()) for e in held]
        runs = {id(entry.run): entry.run for entry in entries}
        return sorted(runs.values(), key=lambda run: (run.started, run.label))

    @cached_property
    def models(self) -> dict[str, Entry]:
        """Every model, as it stands on the first board that has it."""
        found: dict[str, Entry] = {}
        for board in self.boards:
            for name in board.models:
                found.setdefault(name, board.entry(name))
        return found

    def gallery_href(self, board: Board) -> str:
        """The gallery page of a board."""
        return "gallery.html" if board is self.boards[0] else f"gallery-{board.id}.html"

    def pairs_href(self, board: Board) -> str:
        """The pairwise page of a board that has one: the first such page is the one in the navigation."""
        first = next((other for other in self.boards if self.duels[other.id]), None)
        return "pairs.html" if board is first else f"pairs-{board.id}.html"

    def pair_href(self, board: Board, a: str, b: str) -> str:
        """The page of two models."""
        return f"pairs/{board.id}/{file_name(a)}_vs_{file_name(b)}.html"

    def task_href(self, board: Board, task: str) -> str:
        """The page of a task."""
        return f"tasks/{file_name(f'{board.id}-{task}')}.html"

    def model_href(self, name: str) -> str:
        """The page of a model."""
        return f"models/{file_name(name)}.html"

    def render(self, template: str, path: str, **context: Any) -> None:
        """Write one page."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        runs = [{"label": run.label, "anchor": anchor(run), "finished": run.finished} for run in self.runs]
        nav = [{"title": title, "href": href} for title, href in PAGES if href in self.pages]
        text = (
            templates()
            .get_template(template)
            .render(root="../" * path.count("/"), here=path, nav=nav, runs=runs, **context)
        )
        target.write_text(text + "\n", encoding="utf-8")

    def model(self, board: Board, name: str) -> dict[str, Any]:
        """What is shown of a model beside its results."""
        entry = board.entry(name)
        cost = self.costs[board.id].get(name)
        return {
            "name": name,
            "href": self.model_href(name),
            "role": entry.role,
            "privileged": entry.card.privileged,
            "unseeded": entry.card.unseeded,
            "uses_region": entry.card.uses_region,
            "parameters": scales.size(entry.card.parameters),
            "time": milliseconds(cost),
            "cost_note": cost_note(cost),
        }

    def view(self, board: Board, scope: str, metric: str) -> View | None:
        """The view of a scope and metric, if it has values."""
        wanted = (scope, metric)
        return next((view for view in self.views[board.id] if (view.scope.id, view.metric.id) == wanted), None)


def anchor(run: Run) -> str:
    """Where the provenance page tells of a run."""
    return f"run-{run.manifest.digest[:12]}"


def milliseconds(cost: Cost | None) -> str:
    """The median time an image, in ms."""
    return scales.milliseconds(cost.median) if cost else scales.MISSING


def cost_note(cost: Cost | None) -> str:
    """What a time rests on, in one sentence."""
    if cost is None:
        return ""
    low, median, high = (" ".join(scales.duration(v)) for v in (cost.low, cost.median, cost.high))
    return f"median {median}, 5th to 95th percentile {low} to {high}, from {scales.count(cost.n)} images"
