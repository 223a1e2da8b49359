"""`qkbench train`: train a model of the project, or one of a plug-in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qk_bench.errors import UsageError


def train(
    model: Annotated[str, typer.Argument(help="What to train, such as query-kontext.")],
    preset: Annotated[str, typer.Option(help="Size of the model.")] = "micro",
    stage: Annotated[str, typer.Option(help="One stage, such as pretrain, 1, 2, 3, or all.")] = "all",
    max_steps: Annotated[int | None, typer.Option(min=1, help="At most this many steps of each stage.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the training; runs/train-<model>-<preset> by default.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="path=value: another value of the preset, such as model.gate.enabled=false. Repeatable."
        ),
    ] = None,
) -> None:
    """Train. The same command again goes on where it stopped, to the same result. Progress goes to stderr.

    The trained model is in OUT/model, with its config, weights, training record and model card.
    """
    from qk_bench.plugins import load_trainer

    folder = out or Path("runs") / f"train-{model}-{preset}"
    trained = load_trainer(model).train(
        preset, stage=stage, max_steps=max_steps, out=folder, overrides=parse_overrides(set_ or [])
    )
    print(f"model: {trained}" if trained else f"training: {folder}")


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`path=value` pairs; a value is read as JSON where it is JSON, else as text.

    Raises:
        UsageError: A pair cannot be read, or a path is named twice.
    """
    import json

    values: dict[str, Any] = {}
    for pair in pairs:
        path, separator, text = pair.partition("=")
        if not separator or not path:
            raise UsageError(f"--set {pair} is not path=value", "such as model.gate.enabled=false")
        if path in values:
            raise UsageError(f"--set {path} is given twice")
        try:
            values[path] = json.loads(text)
        except ValueError:
            values[path] = text
    return values
