"""`qkbench show`: the summary of a run, or what a model of the project consists of."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Format(enum.StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    markdown = "markdown"


def show(
    run: Annotated[Path, typer.Argument(help="Folder of the run, or a model with presets, such as query-kontext.")],
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
    preset: Annotated[str | None, typer.Option(help="Size of the model to show.")] = None,
) -> None:
    """Print a run: success with intervals, the other metrics, failures by status. Works on unfinished runs.

    Every stored image is checked against its hash. A damaged run is shown as far as it is whole, with exit code 3.
    Given a model with presets instead, print its parts: parameters, memory, tokens.
    """
    if preset is not None or not (run / "manifest.json").exists():
        from qk_bench.plugins import load_trainer, names

        if preset is not None or str(run) in names("trainer"):
            from qk_bench.cli.tables import print_tables

            print_tables(load_trainer(str(run)).tables(preset or "micro"), format.value)
            return
    from qk_bench.cli.tables import print_summary
    from qk_bench.errors import DamagedRunError
    from qk_bench.run.summary import summarise
    from qk_bench.store import RunDirectory

    summary = summarise(RunDirectory(run))
    print_summary(summary, format.value)
    if summary.problems:
        more = f" and {len(summary.problems) - 3} more" if len(summary.problems) > 3 else ""
        raise DamagedRunError(
            f"{run} is damaged: {'; '.join(summary.problems[:3])}{more}; what is shown is what is whole",
            "run the command that made it again: it sets the damage aside",
        )
