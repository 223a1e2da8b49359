"""`qkbench power`: how many samples does a difference need?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qk_bench.cli.show import Format

if TYPE_CHECKING:
    from qk_bench.compare.planning import Needed, Plan


def power(
    a: Annotated[str, typer.Argument(metavar="A", help="Pilot: RUN:MODEL, or RUN with --baseline.")],
    b: Annotated[str | None, typer.Argument(metavar="B", help="RUN:MODEL to hold against A.")] = None,
    baseline: Annotated[str | None, typer.Option(help="With a run of two models: the baseline.")] = None,
    metric: Annotated[str, typer.Option(help="Metric to plan for.")] = "success",
    task: Annotated[str | None, typer.Option(help="Task to plan for; all together by default.")] = None,
    difference: Annotated[
        list[float] | None, typer.Option(help="A true difference: how many samples does it need? May be repeated.")
    ] = None,
    samples: Annotated[
        list[int] | None, typer.Option(min=10, help="Samples: which difference do they show? May be repeated.")
    ] = None,
    seeds: Annotated[list[int] | None, typer.Option(min=1, help="Seeds a sample; may be repeated.")] = None,
    margin: Annotated[
        float | None, typer.Option(min=1e-9, help="How many samples does the gate need to pass an unchanged model?")
    ] = None,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Level of the test.")] = 0.05,
    target: Annotated[float, typer.Option("--power", min=0.05, max=0.999, help="Wanted power.")] = 0.8,
    plot: Annotated[Path | None, typer.Option(help="Also draw it: a file that ends in .svg or .png.")] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
) -> None:
    """Plan a run from a pilot: the samples a difference needs, and the difference that samples can show.

    Items and seeds are told apart: more seeds lower the share of the spread that comes from seeds and no other.
    """
    from qk_bench.compare.engine import blocks_of
    from qk_bench.compare.planning import draw, plan
    from qk_bench.compare.select import Options, between, within_run
    from qk_bench.errors import UsageError
    from qk_bench.text import markdown_table

    options = Options(metrics=frozenset([metric]), alpha=alpha)
    question = within_run(a, baseline, options) if b is None else between(a, b, options)
    if len(question.shown) != 1:
        raise UsageError("a plan is about two models", "name them, RUN:MODEL RUN:MODEL")
    if any(d == 0 for d in difference or ()):
        raise UsageError("no number of samples shows a difference of 0")
    found = plan(
        question,
        metric=metric,
        task=task or blocks_of(question.field)[-1].task,
        differences=difference or (),
        samples=samples or (),
        seeds=seeds or (),
        margin=margin,
        power=target,
    )
    if plot is not None:
        draw(question, found, plot)
    if format is Format.json:
        print(found.model_dump_json(indent=2))
        return
    print(_heading(found))
    for title, head, rows in _tables(found):
        if format is Format.markdown:
            print("\n".join(["", f"### {title}", "", *markdown_table(head, rows)]))
        else:
            widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
            lines = ("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows])
            print("\n".join(["", title, *lines]))


def _heading(p: Plan) -> str:
    from qk_bench.text import plain

    share = "" if p.seed_share is None else f", {p.seed_share:.0%} of a row's spread comes from seeds"
    return plain(
        f"{p.metric} on {p.task}, B = {p.b} against A = {p.a}: {_number(p, p.pilot_difference)} in the pilot of "
        f"{p.pilot_samples} samples in {p.pilot_clusters} clusters, {p.pilot_seeds:g} seeds{share}.\n"
        f"Power {p.power:.0%} at α = {p.alpha:g}, one comparison; for a difference in a family of m, divide α by m."
    )


def _tables(p: Plan) -> list[tuple[str, list[str], list[list[str]]]]:
    def needed(rows: tuple[Needed, ...]) -> list[list[str]]:
        shown = []
        for row in rows:
            count = "more than 10,000,000" if row.samples is None else f"{row.samples:,}"
            shown.append([_number(p, row.difference), str(row.seeds), count])
        return shown

    visible = []
    for v in p.visible:
        smallest = "none: too few" if v.difference is None else _number(p, v.difference).lstrip("+")
        visible.append([f"{v.samples:,}", str(v.seeds), smallest])
    tables = [
        ("Samples that a difference needs", ["difference", "seeds", "samples"], needed(p.needed)),
        ("Smallest difference that samples show", ["samples", "seeds", "difference"], visible),
    ]
    if p.needed_for_margin:
        title = "Samples of each task with which the gate passes an unchanged model (every task must pass)"
        tables.append((title, ["margin", "seeds", "samples"], needed(p.needed_for_margin)))
    return tables


def _number(p: Plan, value: float) -> str:
    return f"{100 * value:+.2f} points" if p.kind == "rate" else f"{value:+.4g}"
