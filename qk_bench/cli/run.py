"""`qkbench run`: generate, store and score."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qk_bench.errors import UsageError

if TYPE_CHECKING:
    from qk_bench.plugins import FoundTask

DEFAULT_LIMIT = 100
DEFAULT_RESOLUTION = 64
SHOWN_PROBLEMS = 20

Tasks = Annotated[
    list[str],
    typer.Option(
        "--task", help="Task, suite/task, suite, group (such as edit), suite:FOLDER or file.py:SUITE. Repeatable."
    ),
]
Seeds = Annotated[str, typer.Option(help="Seed indices, such as 0,1,2.")]
Resolution = Annotated[int, typer.Option(min=1, help="Pixels a side.")]
Split = Annotated[str, typer.Option(help="Split of the suite.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Metric besides success, a group (pixel, perceptual, distribution) or all; the default ones if none is "
        "named. Repeatable.",
    ),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds a request may take.")]
MaxFailures = Annotated[
    int | None, typer.Option(min=1, help="Stop as soon as this many requests have failed (exit code 1).")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete the run in --out and start over.")]
Page = Annotated[bool, typer.Option("--page/--no-page", help="Build the page of the run.")]
ScoreWorkers = Annotated[int | None, typer.Option(min=1, help="Scoring processes; one less than the cores by default.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; runs/<task>-<hash of the spec> by default.")]


def run(
    task: Tasks,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="NAME, NAME:ARGUMENT or file.py:Class; the controls if none. Repeatable."),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--model-arg", help="key=value for the model; MODEL.key=value where there are several. Repeatable."
        ),
    ] = None,
    seeds: Seeds = "0",
    limit: Annotated[int, typer.Option(min=1, help="Samples per task.")] = DEFAULT_LIMIT,
    resolution: Resolution = DEFAULT_RESOLUTION,
    split: Split = "test",
    out: Out = None,
    metric: Metrics = None,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    fresh: Fresh = False,
    score_workers: ScoreWorkers = None,
    page: Page = True,
) -> None:
    """Run models on tasks: generate, store, score. The same command again continues where it stopped.

    Exit codes: 0 done, 5 done with failed outcomes or a judge that failed, 1 stopped by --max-failures, 2 bad input,
    3 damaged run, 130 stopped by Ctrl-C.
    """
    from qk_bench.cli.execution import perform
    from qk_bench.manifest import RunSpec
    from qk_bench.plugins import find_tasks
    from qk_bench.run.spec import (
        CONTROLS,
        check_spec,
        in_split,
        make_metrics,
        make_models,
        make_tasks,
        without_unusable,
    )

    refs = list(dict.fromkeys(model or CONTROLS))
    numbers = parse_seeds(seeds)
    check_timeout(timeout)
    found = find_tasks(task)
    left_out = say_of_suites(found)
    found, empty = in_split(found, split)
    if empty:
        print(f"no samples in split {split}, left out: {', '.join(empty)}", file=sys.stderr)
    suites, tasks = make_tasks(found, split, limit)
    found, tasks, problems = without_unusable(found, tasks, split, resolution)
    left_out += say_left_out(problems)
    metrics, unavailable = make_metrics(metric or [])
    spec = RunSpec(
        suites=suites,
        tasks=tasks,
        models=make_models(refs, model_arguments(model_arg or [], refs)),
        metrics=metrics,
        seeds=numbers,
        split=split,
        resolution=resolution,
        timeout=timeout,
    )
    check_spec(spec, found)
    perform(
        spec,
        out,
        name="+".join(task),
        fresh=fresh,
        max_failures=max_failures,
        score_workers=score_workers,
        unavailable_metrics=unavailable,
        page=page,
        left_out=left_out,
    )


def say_of_suites(found: Sequence[FoundTask]) -> int:
    """Say on stderr what suites tell of the user's data; gives how many items of it they left out."""
    suites = {id(item.suite): item.suite for item in found}.values()
    for suite in suites:
        for line in suite.notes:
            print(f"{suite.name}: {line}", file=sys.stderr)
    return say_left_out([line for suite in suites for line in suite.problems])


def say_left_out(problems: Sequence[str]) -> int:
    """Say on stderr which items of the user's data are left out and why; gives their number."""
    for line in problems[:SHOWN_PROBLEMS]:
        print(f"left out: {line}", file=sys.stderr)
    if len(problems) > SHOWN_PROBLEMS:
        print(f"left out: {len(problems) - SHOWN_PROBLEMS} more", file=sys.stderr)
    return len(problems)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seed indices from `0,1,2`.

    Raises:
        UsageError: Something else, or one is named twice.
    """
    from qk_bench.records import MAX_SEED_INDEX

    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds {text!r} is not a list of numbers", "such as 0,1,2") from None
    if not all(0 <= seed <= MAX_SEED_INDEX for seed in seeds):
        raise UsageError(f"--seeds {text}: seed indices start at 0 and end at {MAX_SEED_INDEX}")
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds {text} names one twice")
    return seeds


def check_timeout(timeout: float | None) -> None:
    """Refuse a time limit that is none.

    Raises:
        UsageError: It is not a positive number.
    """
    if timeout is not None and not 0 < timeout < float("inf"):
        raise UsageError(f"--timeout {timeout} must be a positive number of seconds")


def model_arguments(pairs: list[str], models: list[str]) -> dict[str, dict[str, Any]]:
    """`--model-arg` values by model: `key=value` for the only model, `MODEL.key=value` for one of several.

    A value is read as JSON where it is JSON (numbers, true, false, null, lists), else as text.

    Raises:
        UsageError: A pair cannot be read, a number is not finite, or it is not clear which model it is for.
    """
    import json

    arguments: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        owners = [ref for ref in models if name.startswith(f"{ref}.")]
        owner = max(owners, key=len, default=models[0] if len(models) == 1 else None)
        if owner is None:
            raise UsageError(f"--model-arg {pair}: which model?", f"write MODEL.key=value; models: {', '.join(models)}")
        key = name.removeprefix(f"{owner}.")
        if not separator or not key.isidentifier():
            raise UsageError(f"--model-arg {pair} is not key=value")
        if key in arguments.setdefault(owner, {}):
            raise UsageError(f"--model-arg {key} is given twice for {owner}")
        try:
            arguments[owner][key] = json.loads(text)
        except ValueError:
            arguments[owner][key] = text
        try:
            json.dumps(arguments[owner][key], allow_nan=False)
        except ValueError:
            raise UsageError(f"--model-arg {pair}: numbers must be finite", "the manifest holds no others") from None
    return arguments
