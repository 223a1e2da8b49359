"""The task pages: definition, results on every metric, examples, how outputs failed."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

from qk_bench.interfaces import Task
from qk_bench.records import SUCCESS
from qk_leaderboard import scales
from qk_leaderboard.boards import Board
from qk_leaderboard.difference import LABELS
from qk_leaderboard.gallery import kind_of_reason
from qk_leaderboard.site import Site
from qk_leaderboard.suites import installed


def write(site: Site) -> None:
    """Write `tasks/index.html` and a page per task."""
    listed = []
    for board in site.boards:
        suite = installed(board.suite_ref, board.digest)
        for name, spec in board.tasks.items():
            samples = sum(stop - start for start, stop in spec.indices)
            task = suite.tasks.get(name) if suite else None
            about = task.description if task else ""
            href = site.task_href(board, name)
            listed.append(
                {"board": board, "name": name, "about": about, "samples": scales.count(samples), "href": href}
            )
            _write_task(site, board, name, task, samples)
    site.render("tasks.html", "tasks/index.html", title="Tasks", tasks=listed)


def _write_task(site: Site, board: Board, name: str, task: Task | None, samples: int) -> None:
    views = [view for view in site.views[board.id] if view.scope.id == name]
    site.render(
        "task.html",
        site.task_href(board, name),
        title=name,
        board=board,
        task=task,
        judged=_judged(task),
        samples=f"{scales.count(samples)} sample{'s' if samples != 1 else ''}",
        spec=board.tasks[name],
        views=views,
        models={model: site.model(board, model) for model in board.models},
        reasons=_reasons(board, name),
        operations=_operations(board, name),
        examples=site.galleries[board.id].examples[name],
        cards=[site.model(board, model) for model in board.models],
        gallery=site.gallery_href(board),
        size=site.galleries[board.id].size,
        labels=list(LABELS.values()),
    )


def _judged(task: Task | None) -> str:
    """What the task says of its verifier: its rule, or the docstring of `verify` unless it is only inherited."""
    text = task.rule or type(task).verify.__doc__ if task else None
    return inspect.cleandoc(text).partition("\n\nArgs:")[0] if text else ""


def _reasons(board: Board, name: str) -> dict[str, Any]:
    """Per model, how many outputs failed for which kind of reason."""
    rows = board.scores[(board.scores["task"] == name) & (board.scores["metric"] == SUCCESS)]
    wrong = rows[(rows["value"] == 0) & (rows["status"] == "ok")]
    kinds = wrong["reason"].astype(str).map(kind_of_reason)
    per_model = {model: Counter(kinds[(wrong["model"] == model).to_numpy()].tolist()) for model in board.models}
    total: Counter[str] = sum(per_model.values(), Counter())
    names = [kind for kind, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))][:12]
    return {
        "kinds": names,
        "counts": {model: [counter[kind] for kind in names] for model, counter in per_model.items()},
    }


def _operations(board: Board, name: str) -> dict[str, int]:
    """Samples per operation."""
    rows = board.scores[board.scores["task"] == name][["operation", "sample_id"]].drop_duplicates()
    counts = rows["operation"].astype(str).value_counts()
    return {str(operation): int(n) for operation, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}
