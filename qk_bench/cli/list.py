"""`qkbench list`: what there is to run."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer


class What(enum.StrEnum):
    """What to list."""

    models = "models"
    tasks = "tasks"
    metrics = "metrics"


class Format(enum.StrEnum):
    """How a list is printed."""

    table = "table"
    json = "json"


def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
) -> None:
    """List the models, tasks or metrics that are installed. A broken plug-in is listed with its problem."""
    rows = {What.models: _models, What.tasks: _tasks, What.metrics: _metrics}[what]()
    if format is Format.json:
        import json

        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print(rows)


def _models() -> list[dict[str, Any]]:
    """Names and cards. A model that needs an argument to be made, or that is broken, is listed without a card."""
    from qk_bench.errors import QKBenchError
    from qk_bench.plugins import load_model, model_maker, names, needs_argument

    rows = []
    for name in names("model"):
        row: dict[str, Any] = {"name": name, "description": "", "kinds": [], "privileged": False, "problem": ""}
        try:
            kind = model_maker(name)
            row["description"] = (kind.__doc__ or "").strip().partition("\n")[0]
            if needs_argument(name):
                row["name"] = f"{name}:ARGUMENT"
            else:
                card = load_model(name).card
                row |= {"description": card.description or row["description"], "kinds": list(card.kinds)}
                row["privileged"] = card.privileged
        except QKBenchError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _tasks() -> list[dict[str, Any]]:
    from qk_bench.errors import QKBenchError
    from qk_bench.plugins import folder_suites, load_suite, names, suite_description

    rows: list[dict[str, Any]] = []
    folders = folder_suites()
    for name in names("task"):
        if name in folders:
            row = {"name": f"{name}:FOLDER", "kind": "", "groups": [], "splits": [], "problem": ""}
            rows.append({**row, "description": suite_description(name)})
            continue
        try:
            suite = load_suite(name)
        except QKBenchError as error:
            rows.append(
                {"name": name, "kind": "", "groups": [], "splits": [], "description": "", "problem": str(error)}
            )
            continue
        for task in suite.tasks.values():
            groups = [group for group, members in suite.groups.items() if task.name in members]
            rows.append(
                {
                    "name": f"{name}/{task.name}",
                    "kind": task.kind,
                    "groups": groups,
                    "splits": list(task.splits),
                    "description": task.description,
                    "problem": "",
                }
            )
    return rows


def _metrics() -> list[dict[str, Any]]:
    from qk_bench.errors import QKBenchError
    from qk_bench.plugins import load_metric, names

    rows: list[dict[str, Any]] = []
    for name in names("metric"):
        try:
            metric = load_metric(name)
        except QKBenchError as error:
            rows.append({"name": name, "columns": [], "default": False, "problem": str(error)})
            continue
        available, mend = metric.availability()
        columns = [column.model_dump(mode="json") for column in metric.columns]
        rows.append({"name": name, "columns": columns, "default": metric.default, "problem": "" if available else mend})
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    names = list(rows[0]) if rows else ["name"]
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=10_000)
    console.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, list):
        value = ", ".join(item["id"] if isinstance(item, dict) else item for item in value)
    if isinstance(value, bool):
        value = "yes" if value else ""
    return escape(str(value))
