"""`qkbench compare`: is B better than A, and has it dropped?"""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Format(enum.StrEnum):
    """How a report is printed."""

    table = "table"
    json = "json"
    markdown = "markdown"
    junit = "junit"


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Baseline: RUN or RUN:MODEL. Alone, a run of several models.")],
    b: Annotated[str | None, typer.Argument(metavar="B", help="RUN or RUN:MODEL. Differences are B - A.")] = None,
    baseline: Annotated[str | None, typer.Option(help="With one run: the model all others are held against.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Show only this metric; may be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Show only this task, or `all`; may be repeated.")] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="Largest difference that does not matter: success=0.02,drift=0.5. A bare number: success."),
    ] = None,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Level of the tests.")] = 0.05,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 1 on a significant drop beyond a margin, 4 if N cannot tell.")
    ] = False,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Where samples or tasks differ, compare what all have in common.")
    ] = False,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
) -> None:
    """Compare models: paired differences with intervals, corrected p-values, effect sizes and verdicts.

    `compare A B`, `compare A:model B:model`, or `compare RUN --baseline MODEL`. Unlike suites, verifiers, resolutions or
    samples are refused with exit code 3. The definition of every number is in docs/statistics.md.
    """
    from qk_bench.compare.engine import compare as answer
    from qk_bench.compare.gate import evaluate
    from qk_bench.compare.render import junit, markdown, print_table
    from qk_bench.compare.select import Options, between, parse_margins, within_run
    from qk_bench.errors import UsageError

    options = Options(
        tasks=frozenset(task or ()),
        metrics=frozenset(metric or ()),
        margins=parse_margins(margin or []),
        alpha=alpha,
        intersect=intersect,
    )
    if b is not None and baseline is not None:
        raise UsageError("--baseline is for one run; with two, the first is the baseline")
    question = within_run(a, baseline, options) if b is None else between(a, b, options)
    verdict = evaluate(question) if gate else None
    report = answer(question).model_copy(update={"gate": verdict})
    if format is Format.json:
        print(report.model_dump_json(indent=2))
    elif format is Format.markdown:
        print(markdown(report))
    elif format is Format.junit:
        print(junit(report), end="")
    else:
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_terminal:  # a table in a file or a pipe must not be folded
            console = Console(highlight=False, width=10_000)
        print_table(report, console)
    if verdict is not None and verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
