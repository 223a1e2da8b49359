"""Ways to run the harness on a small real suite, in this process or as the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qk_bench.manifest import RunSpec
from qk_bench.plugins import find_tasks
from qk_bench.run.execute import Estimate, Options, Result, execute
from qk_bench.run.spec import check_spec, make_metrics, make_models, make_tasks
from qk_bench.store import RunDirectory

HERE = Path(__file__).parent
SQUARES = f"{HERE / 'squares.py'}:SUITE"
FAULTY = f"{HERE / 'faulty.py'}:Faulty"
PAINTER = f"{HERE / 'faulty.py'}:Painter"
YARDSTICKS = HERE / "yardsticks.py"


class Silent:
    """A reporter that remembers its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def planned(self, estimate: Estimate) -> None:
        self.estimate = estimate

    def progress(self, model: str, counts: dict[str, int], total: int) -> None: ...

    def scoring(self, jobs: int) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def make_spec(
    *models: str,
    task: str = f"{SQUARES}/recolour",
    limit: int = 10,
    seeds: tuple[int, ...] = (0,),
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Sequence[str] = ("success",),
    timeout: float | None = None,
    resolution: int = 64,
) -> RunSpec:
    """A spec on the squares."""
    found = find_tasks([task])
    suites, tasks = make_tasks(found, "test", limit)
    spec = RunSpec(
        suites=suites,
        tasks=tasks,
        models=make_models(models or ["no-op"], arguments or {}),
        metrics=make_metrics(metrics)[0],
        seeds=seeds,
        split="test",
        resolution=resolution,
        timeout=timeout,
    )
    check_spec(spec, found)
    return spec


def run_spec(spec: RunSpec, out: Path, reporter: Silent | None = None, **options: Any) -> Result:
    """Run a spec in this process (models and scoring still have their own)."""
    return execute(spec, out, Options(**options), reporter or Silent())


def outcomes(out: Path) -> list[dict[str, Any]]:
    """The outcomes of a run, in the order of the file."""
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]


def same_results(one: Path, other: Path) -> bool:
    """Whether two runs have the same outcomes (in any order), scores and aggregates, byte for byte."""
    lines = [sorted((run / "outcomes.jsonl").read_bytes().splitlines()) for run in (one, other)]
    tables = [[(run / f"{name}.parquet").read_bytes() for name in ("scores", "aggregates")] for run in (one, other)]
    return lines[0] == lines[1] and tables[0] == tables[1]


def as_interrupted(out: Path) -> None:
    """Make a finished run look like one that was killed: no end in the manifest, no tables."""
    run = RunDirectory(out)
    manifest = run.read_manifest()
    assert manifest is not None
    run.write_manifest(manifest.model_copy(update={"status": "running", "files": {}}))
    (out / "scores.parquet").unlink()
    (out / "aggregates.parquet").unlink()


def scores(out: Path) -> list[dict[str, Any]]:
    """The rows of `scores.parquet`."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(out / "scores.parquet").to_pylist()
    return rows


def command(*words: str | Path) -> list[str]:
    """The command line, to be run as a process."""
    return [sys.executable, "-P", "-c", "from qk_bench.cli import main; main()", *map(str, words)]


def qkbench(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process."""
    options = {"timeout": 120, **options}
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, **options)


Cli = Callable[..., tuple[int, str, str]]
"""Arguments of the command line to its exit code, stdout and stderr."""
