"""`qkbench sheet`: a picture of what a model makes of some samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qk_bench.cli.run import Resolution, Split, Tasks


def sheet(
    model: Annotated[str, typer.Argument(help="NAME, NAME:ARGUMENT or file.py:Class.")],
    task: Tasks,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("sheet.png"),
    model_arg: Annotated[
        list[str] | None, typer.Option("--model-arg", help="key=value for the model. Repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Samples per task.")] = 4,
    split: Split = "test",
    resolution: Resolution = 64,
) -> None:
    """Draw a contact sheet: source, target, output and, if the model shows one, its gate, under each instruction.

    A frame tells whether the task's own judge calls the output a success.
    """
    from qk_bench.cli.run import model_arguments
    from qk_bench.contact_sheet import draw_sheet
    from qk_bench.plugins import find_tasks, load_model

    loaded = load_model(model, model_arguments(model_arg or [], [model]).get(model))
    cells = draw_sheet(loaded, [found.task for found in find_tasks(task)], split, limit, resolution, out)
    print(f"{out}: {cells} samples")
