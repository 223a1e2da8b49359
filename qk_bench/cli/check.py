"""`qkbench check`: whether a plug-in keeps its promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qk_bench.cli.run import Resolution

if TYPE_CHECKING:
    from qk_bench.conformance import Check
    from qk_bench.plugins import FoundTask

app = typer.Typer(help="Check that a model or a task keeps its promises.")


@app.command()
def model(
    name: Annotated[str, typer.Argument(help="NAME, NAME:ARGUMENT or file.py:Class.")],
    task: Annotated[str, typer.Option(help="Task whose samples are used; the first one that fits if not named.")] = "",
    model_arg: Annotated[list[str] | None, typer.Option("--model-arg", help="key=value. Repeatable.")] = None,
    resolution: Resolution = 64,
) -> None:
    """Check a model: output size and mode, determinism, seeds, independence of the batch. Exit code 1 if one fails."""
    import contextlib
    import sys

    from qk_bench.cli.run import model_arguments
    from qk_bench.conformance import check_model
    from qk_bench.errors import UsageError
    from qk_bench.plugins import find_tasks, load_model
    from qk_bench.run.plan import SampleReader

    loaded = load_model(name, model_arguments(model_arg or [], [name]).get(name, {}))
    tasks = [found.task for found in (find_tasks([task]) if task else _installed())]
    fitting = [candidate for candidate in tasks if candidate.kind in loaded.card.kinds]
    if not fitting:
        raise UsageError(
            f"model {name} does {', '.join(loaded.card.kinds)}; no task is of such a kind", "name a --task"
        )
    split = "test" if "test" in fitting[0].splits else fitting[0].splits[0]
    reader = SampleReader(fitting[0], split, resolution)
    samples = [reader.read(index)[0] for index in range(max(2, min(4, loaded.card.batch_size)))]
    if len({(sample.width, sample.height) for sample in samples}) > 1:
        raise UsageError(
            f"the first samples of {fitting[0].suite}/{fitting[0].name} differ in size", "name a --task of one size"
        )
    with contextlib.redirect_stdout(sys.stderr):
        checks = check_model(loaded, samples)
    _report(checks)


@app.command()
def task(
    name: Annotated[str, typer.Argument(help="Task, suite/task, suite, group, suite:FOLDER or file.py:SUITE.")],
    resolution: Resolution = 64,
    count: Annotated[int, typer.Option(min=2, help="Samples per split.")] = 32,
) -> None:
    """Check tasks: purity, ids, masks, splits, and that the answer passes and the source does not."""
    from qk_bench.conformance import check_task
    from qk_bench.plugins import find_tasks

    checks = []
    found = find_tasks([name])
    for item in found:
        if len(found) > 1:
            print(f"{item.suite.name}/{item.task.name}")
        checks += _print(check_task(item, resolution=resolution, count=count))
    _finish(checks)


def _installed() -> list[FoundTask]:
    """The tasks of every suite that loads."""
    import contextlib

    from qk_bench.errors import UsageError
    from qk_bench.plugins import find_tasks, names

    tasks = []
    for suite in names("task"):
        with contextlib.suppress(UsageError):
            tasks += find_tasks([suite])
    return tasks


def _report(checks: list[Check]) -> None:
    _finish(_print(checks))


def _print(checks: list[Check]) -> list[Check]:
    for check in checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.name}")
        if not check.passed:
            print(f"      {check.reason}\n      mend: {check.mend}")
    return checks


def _finish(checks: list[Check]) -> None:
    failed = sum(not check.passed for check in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    raise typer.Exit(1 if failed else 0)
