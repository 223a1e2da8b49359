"""What `run` and `score` share: run a spec with progress on stderr, then print what came of it."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

from qk_bench.cli.page import PageBuilder
from qk_bench.cli.progress import make_reporter
from qk_bench.errors import QKBenchError
from qk_bench.manifest import RunSpec
from qk_bench.run.environment import cores
from qk_bench.run.execute import Options, execute
from qk_bench.run.plan import segments_of
from qk_bench.store import RunDirectory

MAX_NAME: Final = 100  # characters of a default folder's name before the hash


def perform(
    spec: RunSpec,
    out: Path | None,
    *,
    name: str,
    fresh: bool,
    max_failures: int | None,
    score_workers: int | None,
    unavailable_metrics: dict[str, str],
    page: bool,
    left_out: int = 0,
    after: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Run a spec, print its summary and where its page is, and leave with the exit code that fits.

    Args:
        spec: What to run.
        out: Folder of the run; None for `runs/<name>-<hash of the spec>`.
        name: What the default folder is called.
        fresh: Whether to delete the run that is there.
        max_failures: How many failed outcomes end the run.
        score_workers: Number of scoring processes.
        unavailable_metrics: Metrics that cannot run here, and why.
        page: Whether to build the page of the run.
        left_out: How many items of the user's data could not be used.
        after: Called with the folder once the run is done.
    """
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:MAX_NAME].strip("-.")
    folder = out or Path("runs") / f"{short}-{spec.digest()[:8]}"
    for metric, mend in unavailable_metrics.items():
        print(f"metric {metric} is not computed: {mend}", file=sys.stderr)
    with PageBuilder(folder, sum(map(len, segments_of(spec)))) if page else contextlib.nullcontext() as builder:
        options = Options(
            fresh=fresh,
            max_failures=max_failures,
            score_workers=score_workers or max(1, cores() - 1),
            command=shlex.join(["qkbench", *sys.argv[1:]]),
            unavailable_metrics=unavailable_metrics,
            beside=builder.start if builder else lambda: None,
        )
        try:
            with make_reporter() as reporter:
                result = execute(spec, folder, options, reporter)
        except KeyboardInterrupt:
            print(f"stopped; what is done is in {folder}: run the same command again to continue", file=sys.stderr)
            raise typer.Exit(130) from None
        from qk_bench.cli.tables import print_summary
        from qk_bench.run.summary import summarise

        done = any(sum(counts.values()) for counts in result.manifest.counts.values())
        if builder and done:
            builder.build()  # while the summary is drawn up
        after(folder)
        summary = summarise(RunDirectory(folder))
        print_summary(summary, "table")
        print(f"run: {folder}", flush=True)
        built = builder.finish() if builder and done else None
    if built is not None:
        print(f"page: {built}")
    if result.load_failures:
        model, reason = next(iter(result.load_failures.items()))
        more = f" (and {len(result.load_failures) - 1} more models)" if len(result.load_failures) > 1 else ""
        raise QKBenchError(
            f"model {model} cannot be used: {reason}{more}; its requests are left open",
            "mend it and run the same command again",
        )
    if result.stopped:
        print(
            f"error: stopped after {result.failures} failed outcomes (--max-failures {max_failures})", file=sys.stderr
        )
        raise typer.Exit(1)
    if left_out:
        print(f"{left_out} item{'s' if left_out > 1 else ''} of the data left out, as listed above", file=sys.stderr)
    raise typer.Exit(5 if result.failures or summary.judge_errors or left_out else 0)
