"""Prints a summary as a table, as Markdown or as JSON.

The JSON has these keys, which stay: `status` (complete or partial), `requests`, `done`, `scored`, `spec_digest`,
`split`, `resolution`, `seeds`, `problems`, `unavailable_metrics`, `judge_errors` (`metric`, `outputs` that it could not
measure, and the first `reason`), `models` and `aggregates` (the rows of `aggregates.parquet`). Each entry of `models` has `model`, `privileged`, `unseeded`, `outcomes` (count per status), `results` and
`efficiency` (null where nothing was timed; the fields of `qk_bench.metrics.efficiency.Efficiency`, measured, so that
they differ from run to run); each of `results` has `task` (or `all`), `metric`, `value`, `low`, `high` (95 % interval),
`n` (outcomes that `value` is over; for `success` failures are among them), `clusters` and `without_value` (count per
status). What has no value, or none that is finite, is null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qk_bench.records import SUCCESS
from qk_bench.run.summary import ALL_TASKS, Line, Summary
from qk_bench.text import markdown_safe, markdown_table, plain
from qk_bench.training import Table as TextTable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from qk_bench.records import ModelCard


def print_summary(summary: Summary, form: str) -> None:
    """Print a summary to stdout as `table`, `json` or `markdown`."""
    if form == "json":
        print(json.dumps(as_json(summary), indent=2, ensure_ascii=False))
    elif form == "markdown":
        print(_markdown(summary))
    else:
        _print_table(summary)


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON values, with the keys the module lists."""
    manifest = summary.manifest
    return {
        "status": "partial" if summary.partial else "complete",
        "requests": manifest.requests,
        "done": summary.done,
        "scored": summary.scored,
        "spec_digest": manifest.spec_digest,
        "split": manifest.spec.split,
        "resolution": manifest.spec.resolution,
        "seeds": list(manifest.spec.seeds),
        "problems": list(summary.problems),
        "unavailable_metrics": manifest.unavailable_metrics,
        "judge_errors": [asdict(errors) for errors in summary.judge_errors],
        "models": [
            {
                "model": model.card.name,
                "privileged": model.card.privileged,
                "unseeded": model.card.unseeded,
                "outcomes": summary.counts.get(model.card.name, {}),
                "results": [_result(line) for line in summary.lines if line.model == model.card.name],
                "efficiency": asdict(cost) if (cost := summary.costs.get(model.card.name)) else None,
            }
            for model in manifest.spec.models
        ],
        "aggregates": [{name: _number(value) for name, value in row.items()} for row in summary.aggregates],
    }


def _result(line: Line) -> dict[str, Any]:
    e = line.estimate
    return {
        "task": line.task,
        "metric": line.metric,
        "value": None if e is None else _number(e.value),
        "low": None if e is None else _number(e.low),
        "high": None if e is None else _number(e.high),
        "n": 0 if e is None else e.n,
        "clusters": 0 if e is None else e.n_clusters,
        "without_value": line.without_value,
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Success per model and task, with N and failures by status."""
    tasks = [f"{task.suite}/{task.task}" for task in summary.manifest.spec.tasks]
    rows = []
    for model in summary.manifest.spec.models:
        for task in [*tasks, *([ALL_TASKS] if len(tasks) > 1 else [])]:
            line = summary.line(model.card.name, task, SUCCESS)
            if line is not None:
                failed = ", ".join(f"{n} {status}" for status, n in line.without_value.items())
                rows.append([_name(model.card), task, *_rate(line), failed or "0"])
    return ["model", "task", "success", "95 % interval", "n", "failures"], rows


def _other_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The other metrics over all tasks: a row per metric, a column per model."""
    task = ALL_TASKS if len(summary.manifest.spec.tasks) > 1 else None
    models = [model.card for model in summary.manifest.spec.models]
    metrics = dict.fromkeys(line.metric for line in summary.lines if line.metric != SUCCESS and line.estimate)
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    columns = {c.id: c for metric in summary.manifest.spec.metrics for c in metric.columns}
    rows = []
    for metric in metrics:
        lines = {line.model: line for line in summary.lines if line.metric == metric and task in (None, line.task)}
        cells = [_mean(lines.get(card.name)) for card in models]
        rows.append([f"{metric}{arrows[columns[metric].direction]}", *cells])
    sets: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in summary.aggregates:
        sets.setdefault((row["metric"], row["column"], row["task"]), {})[row["model"]] = _set_value(row)
    for (metric, column, task_name), values in sets.items():
        cells = [values.get(card.name, "") for card in models]
        rows.append([f"{metric}{arrows[columns[column].direction]} ({task_name})", *cells])
    return ["metric", *(_name(card) for card in models)], rows


def _name(card: ModelCard) -> str:
    marks = [mark for mark in ("privileged", "unseeded") if getattr(card, mark)]
    return f"{card.name} ({', '.join(marks)})" if marks else card.name


def _rate(line: Line) -> tuple[str, str, str]:
    if line.estimate is None:
        return "-", "-", "0"
    e = line.estimate
    return f"{e.value:.1%}", f"[{e.low:.1%}, {e.high:.1%}]", str(e.n)


def _mean(line: Line | None) -> str:
    if line is None or line.estimate is None:
        return "-"
    e = line.estimate
    left_out = f" ({sum(line.without_value.values())} without)" if line.without_value else ""
    return f"{e.value:.4g} [{e.low:.4g}, {e.high:.4g}]{left_out}"


def _set_value(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"- ({row['reason']})"
    interval = "" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{row['value']:.4g}{interval} n={row['n']}"


def _cost_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """What each model cost where it ran: measured, so no part of the scores."""
    rows = []
    for model in summary.manifest.spec.models:
        cost = summary.costs.get(model.card.name)
        if cost is not None:
            rows.append(
                [
                    _name(model.card),
                    f"{cost.latency_median:.4g} s",
                    f"{cost.latency_p95:.4g} s",
                    "-" if cost.throughput is None else f"{cost.throughput:.4g}/s",
                    _memory(cost.peak_memory),
                    _memory(cost.device_peak_memory),
                    "-" if cost.parameters is None else f"{cost.parameters:,}",
                    str(cost.requests),
                ]
            )
    head = ["measured", "latency", "p95", "images", "peak memory", "on device", "parameters", "n"]
    return head, rows


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:,.0f} MiB"


def _heading(summary: Summary) -> str:
    spec = summary.manifest.spec
    seeds = f"{len(spec.seeds)} seed{'s' if len(spec.seeds) > 1 else ''}"
    text = f"split {spec.split}, {spec.sizes}, {seeds}"
    if summary.partial:
        text += f"; PARTIAL: {summary.done} of {summary.manifest.requests} requests done, {summary.scored} scored"
    return text


def _notes(summary: Summary) -> list[str]:
    notes = [f"not computed: {name}: {mend}" for name, mend in summary.manifest.unavailable_metrics.items()]
    for errors in summary.judge_errors:
        outputs = f"{errors.outputs} output{'s' if errors.outputs > 1 else ''}"
        notes.append(
            f"metric {errors.metric}: judge_error on {outputs}, the first: {errors.reason}; "
            "the command of the run, given again, asks for these alone"
        )
    known = {line.metric for line in summary.lines if line.estimate}
    if valueless := [m for m in dict.fromkeys(line.metric for line in summary.lines) if m not in known]:
        notes.append(f"no output has a value of: {', '.join(valueless)}")
    return notes


def _markdown(summary: Summary) -> str:
    parts = [markdown_safe(_heading(summary)), "", *markdown_table(*_rows(summary))]
    for head, rows in (_other_rows(summary), _cost_rows(summary)):
        if rows:
            parts += ["", *markdown_table(head, rows)]
    notes = [f"- {markdown_safe(note)}" for note in _notes(summary)]
    return "\n".join([*parts, *(["", *notes] if notes else [])])


def make_console() -> Console:
    """A console on stdout that folds nothing where stdout is a file or a pipe."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=10_000)


def make_table(head: list[str], rows: list[list[str]]) -> Table:
    """A table of plain text."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in head:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    return table


def _print_table(summary: Summary) -> None:
    console = make_console()
    console.print(_heading(summary), markup=False)
    for head, rows in (_rows(summary), _other_rows(summary), _cost_rows(summary)):
        if rows:
            console.print(make_table(head, rows))
    for note in _notes(summary):
        console.print(plain(note), markup=False)


def print_tables(tables: list[TextTable], form: str) -> None:
    """Print tables to stdout as `table`, `json` or `markdown`."""
    if form == "json":
        values = [
            {"title": t.title, "rows": [dict(zip(t.columns, row, strict=True)) for row in t.rows]} for t in tables
        ]
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    for table in tables:
        if form == "markdown":
            rows = [list(row) for row in table.rows]
            lines = [f"**{markdown_safe(table.title)}**", "", *markdown_table(list(table.columns), rows), ""]
            print("\n".join(lines))
        else:
            console = make_console()
            console.print(f"\n{table.title}", markup=False)
            console.print(make_table(list(table.columns), [list(row) for row in table.rows]))
