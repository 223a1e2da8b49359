"""`qkbench score`: images made elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from qk_bench.cli.list import Format
from qk_bench.cli.run import (
    DEFAULT_RESOLUTION,
    Fresh,
    MaxFailures,
    Metrics,
    Out,
    Page,
    ScoreWorkers,
    parse_seeds,
    say_left_out,
    say_of_suites,
)

SHOWN: Final = 5


def score(
    folder: Annotated[Path, typer.Argument(help="Folder with <sample id>.png or <sample id>-seed<K>.png.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="Task, suite/task, suite, group (such as edit) or file.py:SUITE the images answer. Repeatable.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Instead of --task: a folder of images of any names to compare with.")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="How to print a comparison with --reference.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="The export the images were made from: sets what is expected.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the model; precomputed:FOLDER by default.")] = "",
    seeds: Annotated[
        str | None, typer.Option(help="Seed indices; by default those of the files that answer a sample.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Samples expected per task.")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Pixels a side of the samples; 64 by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the samples; test by default.")] = None,
    out: Out = None,
    metric: Metrics = None,
    max_failures: MaxFailures = None,
    fresh: Fresh = False,
    score_workers: ScoreWorkers = None,
    page: Page = True,
) -> None:
    """Score a folder of images: by sample id, just as a run scores its own, or against another folder.

    With --task, what is expected comes from --samples, or from --limit; with neither, it is every sample of each task up to the
    highest one found in the folder. An expected image that is not there is a failed outcome (`missing`).

    With --reference, the folders are compared as sets (FID, KID, precision and recall), and file by file where names
    match; all metrics are computed unless some are named. Files that cannot be read are left out and named.

    Exit codes: as for run; 5 also where files of either folder could not be read.
    """
    from qk_bench.errors import UsageError

    if reference is not None:
        given = {
            "--task": task, "--samples": samples, "--name": name, "--seeds": seeds, "--limit": limit,
            "--resolution": resolution, "--split": split, "--out": out, "--max-failures": max_failures,
            "--fresh": fresh, "--score-workers": score_workers,
        }  # fmt: skip
        clash = [option for option, value in given.items() if value]
        if clash:
            raise UsageError(f"--reference compares two plain folders; {', '.join(clash)} cannot be given beside it")
        from qk_bench.cli.folders import compare_folders

        raise typer.Exit(compare_folders(folder, reference, metric or ["all"], format or Format.table))
    if not task:
        raise UsageError("score against what?", "name --task, or --reference for a plain folder of images")
    if format is not None:
        raise UsageError("--format goes with --reference", "qkbench show RUN --format prints a run")
    from qk_bench.cli.execution import perform
    from qk_bench.export import read_export
    from qk_bench.manifest import RunSpec
    from qk_bench.outputs import expected_indices, image_files, seeds_in
    from qk_bench.plugins import find_tasks
    from qk_bench.run.spec import check_spec, make_metrics, make_models, make_tasks, without_unusable

    files = image_files(folder)
    models = make_models([f"precomputed:{folder}"], {f"precomputed:{folder}": {"name": name} if name else {}})
    found = find_tasks(task)
    left_out = say_of_suites(found)
    if samples is not None:
        given = {"--limit": limit, "--resolution": resolution, "--split": split}
        clash = [option for option, value in given.items() if value is not None]
        if clash:
            raise UsageError(f"--samples says what is expected already; {', '.join(clash)} cannot be given beside it")
        exported = read_export(samples)
        exported.check(found)
        split, resolution, indices = exported.split, exported.resolution, dict(exported.indices)
    else:
        split, resolution = split or "test", resolution or DEFAULT_RESOLUTION
        indices = {} if limit else expected_indices(files, found, split, resolution)
    for task_name, ((start, stop), *_) in ({} if samples else indices).items():
        print(f"expected: samples {start} to {stop - 1} of {task_name}, as found in {folder}", file=sys.stderr)
    suites, tasks = make_tasks(found, split, limit or 1, indices or None)
    found, tasks, problems = without_unusable(found, tasks, split, resolution)
    left_out += say_left_out(problems)
    metrics, unavailable = make_metrics(metric or [])
    spec = RunSpec(
        suites=suites,
        tasks=tasks,
        models=models,
        metrics=metrics,
        seeds=parse_seeds("0" if seeds is None else seeds),
        split=split,
        resolution=resolution,
    )
    check_spec(spec, found)
    if seeds is None:
        spec = spec.model_copy(update={"seeds": seeds_in(files, found, spec)})
        check_spec(spec, found)
    perform(
        spec,
        out,
        name=f"score-{folder.resolve().name}",
        fresh=fresh,
        max_failures=max_failures,
        score_workers=score_workers,
        unavailable_metrics=unavailable,
        page=page,
        left_out=left_out,
        after=lambda run: _report(folder, run),
    )


def _report(folder: Path, run: Path) -> None:
    """Say which files were missing and which were not asked for."""
    from qk_bench.outputs import image_files, report
    from qk_bench.store import UNEXPECTED, RunDirectory

    missing, unexpected = report(image_files(folder), RunDirectory(run))
    for what, names, where in (
        ("missing", missing, "outcomes of status missing"),
        ("unexpected", unexpected, f"all are listed in {run / UNEXPECTED}"),
    ):
        if names:
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            print(f"{len(names)} {what} file{'s' if len(names) > 1 else ''}: {shown} ({where})", file=sys.stderr)
