"""`qkbench data`: samples on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qk_bench.cli.run import DEFAULT_LIMIT, DEFAULT_RESOLUTION, Resolution, Split

app = typer.Typer(help="Samples on disk.")


@app.callback()
def _data() -> None:
    """Samples on disk."""


@app.command()
def export(
    task: Annotated[str, typer.Argument(help="Task, suite/task, suite, group, suite:FOLDER or file.py:SUITE.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    split: Split = "test",
    limit: Annotated[int, typer.Option(min=1, help="Samples per task.")] = DEFAULT_LIMIT,
    resolution: Resolution = DEFAULT_RESOLUTION,
) -> None:
    """Write samples as a Hugging Face imagefolder (PNGs and metadata.jsonl), to run a model anywhere."""
    from qk_bench.export import export as write
    from qk_bench.plugins import find_tasks
    from qk_bench.run.spec import make_tasks

    found = find_tasks([task])
    suites, tasks = make_tasks(found, split, limit)
    count = write(found, suites, tasks, split, resolution, out)
    print(f"{count} samples in {out}" if count else f"{out} holds this export already")
