"""Merges runs into boards: results that were made on the same samples and may stand in one table.

A board is one suite (by the hash of its content and the version of its verifier), split and resolution; of a suite whose
samples keep the size of their pictures, the resolution of a run decides nothing and tells no boards apart. Where several
runs hold the same model on the same board, the newest stands on the board and the others are its earlier versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pandas as pd

from qk_bench.manifest import ModelSpec, TaskSpec
from qk_bench.records import MetricColumn, ModelCard
from qk_bench.run.spec import CONTROLS
from qk_leaderboard.reading import Run
from qk_leaderboard.suites import installed
from qk_leaderboard.text import file_name

_ROLES: Final = {"no-op": "floor", "oracle": "ceiling", "noise": "control"}


@dataclass(frozen=True)
class Entry:
    """One model in one run: a version of it, with the tasks that the run has scores of."""

    run: Run
    spec: ModelSpec
    tasks: tuple[TaskSpec, ...]

    @property
    def card(self) -> ModelCard:
        """What the model declares of itself."""
        return self.spec.card

    @property
    def role(self) -> str:
        """`floor`, `ceiling` or `control` for the controls that ship with the project, else nothing."""
        return _ROLES.get(self.spec.ref, "") if self.spec.ref in CONTROLS else ""


@dataclass(frozen=True)
class Scope:
    """A task, or a group of tasks whose samples are pooled."""

    id: str
    title: str
    tasks: tuple[str, ...]

    @property
    def is_group(self) -> bool:
        """Whether it pools several tasks."""
        return len(self.tasks) > 1


@dataclass
class Board:
    """Everything made on the same samples and judged by the same rules.

    Attributes:
        suite_ref: How the suite is named, to load it.
        verifier: Version of the suite's verifier, as runs record it.
        mark: What tells it from another board of the same name: the first digits of `digest`, the verifier, or both.
        resolution: Pixels a side; of a suite with `own_size`, what the newest run was asked for, without effect.
        own_size: Whether samples keep the size of their pictures.
        tasks: The tasks of the entries.
        entries: Per model, in order of appearance, the versions on the board: one, or several that did different tasks.
        earlier: Per model, the versions that a newer run replaced, oldest first.
        scores: Score rows of the entries.
        outcomes: Outcome rows of the entries, with the position of their run in `runs`.
    """

    suite: str
    version: str
    digest: str
    verifier: str
    suite_ref: str
    split: str
    resolution: int
    own_size: bool = False
    mark: str = ""
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    metrics: dict[str, MetricColumn] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    earlier: dict[str, list[Entry]] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    outcomes: pd.DataFrame = field(default_factory=pd.DataFrame)
    aggregates: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def id(self) -> str:
        """Safe in file names and URLs."""
        size = "own-sizes" if self.own_size else self.resolution
        name = f"{self.suite}-{self.version}-{self.split}-{size}"
        mark = self.mark.removeprefix("content ").replace(",", "").replace(" ", "-")
        return file_name(f"{name}-{mark}" if mark else name)

    @property
    def title(self) -> str:
        """One line."""
        mark = f" ({self.mark})" if self.mark else ""
        size = "own sizes" if self.own_size else f"{self.resolution} px"
        return f"{self.suite} {self.version}{mark}, {self.split} split, {size}"

    @property
    def models(self) -> list[str]:
        """Names of the models, in order of appearance."""
        return list(self.entries)

    def entry(self, model: str) -> Entry:
        """The version of a model that stands on the board."""
        return self.entries[model][0]

    def covering(self, scope: Scope) -> list[str]:
        """The models that did every task of a scope: the others have neither value nor rank there."""
        done = {model: {task.task for entry in held for task in entry.tasks} for model, held in self.entries.items()}
        return [model for model in self.models if set(scope.tasks) <= done[model]]

    def scopes(self) -> list[Scope]:
        """The groups that the suite names, as far as they are here, all tasks but diagnostics, and each task."""
        names = tuple(name for name, task in self.tasks.items() if not task.diagnostic)
        groups: dict[tuple[str, ...], Scope] = {}
        for group, members in self._groups().items():
            present = tuple(task for task in names if task in members)
            if len(present) > 1 and len(present) == len(members):
                groups.setdefault(present, Scope(group, f"{group} ({len(present)} tasks)", present))
        if len(names) > 1 and names not in groups:
            groups = {names: Scope("all", f"all {len(names)} tasks", names), **groups}
        single = [*names, *(name for name in self.tasks if name not in names)]
        return [*groups.values(), *(Scope(task, task, (task,)) for task in single)]

    def _groups(self) -> dict[str, tuple[str, ...]]:
        suite = installed(self.suite_ref, self.digest)
        return dict(suite.groups) if suite else {}


def make_boards(runs: Sequence[Run]) -> list[Board]:
    """The boards of runs, the largest first.

    Args:
        runs: The runs, oldest first.
    """
    boards: dict[tuple[str, str, str, str, int | None], Board] = {}
    for run in reversed(runs):
        spec = run.manifest.spec
        scored = {tuple(row) for row in run.scores[["model", "suite", "task"]].drop_duplicates().to_numpy()}
        for suite in spec.suites:
            content = (suite.digest, suite.verifier)
            key = (suite.name, *content, spec.split, None if suite.own_size else spec.resolution)
            made = Board(suite.name, suite.version, *content, suite.ref, spec.split, spec.resolution, suite.own_size)
            board = boards.setdefault(key, made)
            for column in (column for metric in spec.metrics for column in metric.columns):
                board.metrics.setdefault(column.id, column)
            for model in spec.models:
                own = [task for task in spec.tasks if (model.card.name, suite.name, task.task) in scored]
                if own:
                    _place(board, Entry(run, model, tuple(own)))
    boards = {key: board for key, board in boards.items() if board.entries}
    _mark(list(boards.values()))
    for board in boards.values():
        _fill(board)
    return sorted(
        boards.values(),
        key=lambda b: (-len(b.scores), b.suite, b.version, b.split, b.resolution, b.digest, b.verifier),
    )


def _mark(boards: Sequence[Board]) -> None:
    """Tell boards of one name apart by what they differ in."""
    by_name: dict[str, list[Board]] = {}
    for board in boards:
        by_name.setdefault(board.title, []).append(board)
    for alike in by_name.values():
        for board in alike:
            marks = [f"content {board.digest[:8]}"] if len({b.digest for b in alike}) > 1 else []
            if len({b.verifier for b in alike}) > 1:
                version, _, file = board.verifier.partition(" ")
                marks.append(f"verifier {version or 'not recorded'}{f' of file {file[:8]}' if file else ''}")
            board.mark = ", ".join(marks)


def _place(board: Board, entry: Entry) -> None:
    """Put a model of an older run on the board if it adds tasks to the same version, else among the earlier ones."""
    name = entry.card.name
    held = board.entries.setdefault(name, [])
    covered = {task.task for other in held for task in other.tasks}
    fresh = tuple(task for task in entry.tasks if task.task not in covered)
    if not held or (fresh and entry.card == held[0].card):
        held.append(Entry(entry.run, entry.spec, fresh))
    if (held[0].run is not entry.run and len(fresh) < len(entry.tasks)) or entry.card != held[0].card:
        board.earlier.setdefault(name, []).insert(0, entry)


def _fill(board: Board) -> None:
    """Collect the tasks and rows of the versions that stand on the board."""
    scores, outcomes, aggregates = [], [], []
    for held in board.entries.values():
        for entry in held:
            board.tasks |= {task.task: task for task in entry.tasks if task.task not in board.tasks}
            scores.append(rows_of(entry.run.scores, board.suite, entry))
            outcomes.append(rows_of(entry.run.outcomes, board.suite, entry).assign(run=entry.run.label))
            if len(entry.run.aggregates):
                aggregates.append(rows_of(entry.run.aggregates, board.suite, entry))
    board.scores = pd.concat(scores, ignore_index=True)
    board.outcomes = pd.concat(outcomes, ignore_index=True)
    board.aggregates = pd.concat(aggregates, ignore_index=True) if aggregates else pd.DataFrame()


def rows_of(frame: pd.DataFrame, suite: str, entry: Entry) -> pd.DataFrame:
    """The rows of one model's tasks."""
    tasks = [task.task for task in entry.tasks]
    mask = (frame["model"] == entry.card.name) & (frame["suite"] == suite) & frame["task"].isin(tasks)
    return frame[mask]
