"""What a run shows: success with intervals and failures, and the means of the other metrics, per model and task."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from qk_bench.errors import DamagedRunError
from qk_bench.inspection import Inspection, inspect
from qk_bench.manifest import Aggregate, Manifest, Timing
from qk_bench.metrics.efficiency import Efficiency, efficiency
from qk_bench.records import JUDGE_ERROR
from qk_bench.run.cells import Cell, pooled
from qk_bench.run.plan import segments_of
from qk_bench.run.tables import Journal, score_batches
from qk_bench.stats import Estimate
from qk_bench.store import AGGREGATES, JOURNAL, OUTCOMES, SCORES, TIMINGS, LineReader, RunDirectory, read_lines

if TYPE_CHECKING:
    import pyarrow as pa

ALL_TASKS: Final = "all"
_COLUMNS: Final = ["model", "suite", "task", "cluster", "metric", "value", "status", "reason"]


@dataclass(frozen=True)
class Line:
    """One metric of one model on one task, or on all of them."""

    model: str
    privileged: bool
    task: str
    metric: str
    estimate: Estimate | None
    """None where no outcome has a value."""
    without_value: dict[str, int]


@dataclass(frozen=True)
class JudgeErrors:
    """Outputs that a metric could not measure because its judge failed. That says nothing about the model."""

    metric: str  # as named on the command line
    outputs: int
    reason: str  # of the first of them


@dataclass(frozen=True)
class Summary:
    """A run, condensed."""

    manifest: Manifest
    counts: dict[str, dict[str, int]]
    """Outcomes per model and status."""
    done: int
    scored: int
    problems: tuple[str, ...]
    lines: tuple[Line, ...]
    judge_errors: tuple[JudgeErrors, ...]
    """One for each metric that has any."""
    aggregates: tuple[dict[str, Any], ...]
    costs: dict[str, Efficiency]
    """What each model cost, where it was timed. Measured: it differs from run to run, and is no score."""

    @property
    def partial(self) -> bool:
        """Whether requests are missing."""
        return self.manifest.status != "complete" or bool(self.problems)

    def line(self, model: str, task: str, metric: str) -> Line | None:
        """The line of a model, task and metric."""
        wanted = (model, task, metric)
        return next((line for line in self.lines if (line.model, line.task, line.metric) == wanted), None)


def read_manifest(run: RunDirectory) -> Manifest:
    """The manifest of a run.

    Raises:
        DamagedRunError: The folder is not a run, or its manifest is damaged.
    """
    manifest = run.read_manifest()
    if manifest is None:
        raise DamagedRunError(
            f"{run.path} is not a run: it has no manifest.json", "name a folder that `qkbench run` wrote"
        )
    return manifest


def summarise(run: RunDirectory) -> Summary:
    """Condense a run, whole or not. Rows are streamed; what is held is one number per score."""
    manifest = read_manifest(run)
    found = inspect(run, segments_of(manifest.spec), manifest)
    problems = list(found.problems)
    if found.torn is not None and manifest.status != "running":
        problems.append(f"{OUTCOMES}: its last line is torn")
    cells, reasons = _cells(_tables(run, manifest, found))
    return Summary(
        manifest=manifest,
        counts={model: dict(sorted(count.items())) for model, count in found.counts.items()},
        done=found.done,
        scored=sum(len(cell.clusters) for cell in cells.values()),
        problems=tuple(problems),
        lines=tuple(_lines(manifest, cells)),
        judge_errors=tuple(_judge_errors(manifest, cells, reasons)),
        aggregates=() if AGGREGATES in found.changed_files else tuple(_aggregates(run)),
        costs=_costs(run, manifest, found),
    )


def _tables(run: RunDirectory, manifest: Manifest, found: Inspection) -> Iterator[pa.Table]:
    """The rows of `scores.parquet`; those of the journal while a run is not finished."""
    if SCORES in found.changed_files:
        return
    if (run.path / SCORES).exists():
        yield from _read_table(run.path / SCORES, _COLUMNS)
    elif (run.path / JOURNAL).exists() and (run.path / OUTCOMES).exists():
        journal = Journal(run, segments_of(manifest.spec), found.offsets)
        outcomes, scores = LineReader(run.path / OUTCOMES), LineReader(run.path / JOURNAL)
        try:
            journal.load(outcomes)
            yield from score_batches(manifest.spec, journal.entries(scores))
        finally:
            outcomes.close()
            scores.close()


def _read_table(path: Path, columns: Collection[str]) -> Iterator[pa.Table]:
    """A table of the run, piece by piece.

    Raises:
        DamagedRunError: It cannot be read, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if lacking := set(columns) - set(file.schema_arrow.names):
                raise DamagedRunError(f"{path} has no column {min(lacking)}", "run the command that made it again")
            for batch in file.iter_batches():
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DamagedRunError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _cells(tables: Iterable[pa.Table]) -> tuple[dict[tuple[str, str], Cell], dict[str, str]]:
    """The scores by (model, suite/task), and the reason of each metric's first `judge_error`."""
    cells: dict[tuple[str, str], Cell] = {}
    reasons: dict[str, str] = {}
    numbers: dict[tuple[str, str], int] = {}  # of clusters, which the tasks of a suite share
    for table in tables:
        rows = table.select(_COLUMNS).to_pydict()
        for model, suite, task, cluster, metric, value, status, reason in zip(*rows.values(), strict=True):
            name = (model, f"{suite}/{task}")
            if name not in cells:
                cells[name] = Cell()
            cells[name].add(numbers.setdefault((suite, cluster), len(numbers)), metric, value, status)
            if status == JUDGE_ERROR:
                reasons.setdefault(metric, reason)
    return cells, reasons


def _judge_errors(
    manifest: Manifest, cells: dict[tuple[str, str], Cell], reasons: dict[str, str]
) -> Iterator[JudgeErrors]:
    """Where an output lacks several columns of a metric, it counts once."""
    for metric in manifest.spec.metrics:
        columns = [column.id for column in metric.columns if column.id in reasons]
        if columns:
            failed = (max(cell.judge_errors(column) for column in columns) for cell in cells.values())
            yield JudgeErrors(metric.ref, sum(failed), reasons[columns[0]])


def _lines(manifest: Manifest, cells: dict[tuple[str, str], Cell]) -> Iterator[Line]:
    """A line per model, metric and task in plan order; with several tasks, one more over all of them."""
    tasks = [f"{task.suite}/{task.task}" for task in manifest.spec.tasks]
    metrics = [column.id for metric in manifest.spec.metrics if not metric.whole_set for column in metric.columns]
    for card in (model.card for model in manifest.spec.models):
        found = {task: cells[card.name, task] for task in tasks if (card.name, task) in cells}
        if len(tasks) > 1 and found:
            found[ALL_TASKS] = pooled(list(found.values()))
        estimates = {task: cell.estimates() for task, cell in found.items()}
        for metric in metrics:
            for task, cell in found.items():
                if metric in cell.values:
                    without = dict(sorted(cell.without[metric].items()))
                    yield Line(card.name, card.privileged, task, metric, estimates[task][metric], without)


def _costs(run: RunDirectory, manifest: Manifest, found: Inspection) -> dict[str, Efficiency]:
    """From the timings of requests that gave an image: a failure at once would look fast."""
    rows: dict[str, list[Timing]] = {model.card.name: [] for model in manifest.spec.models}
    failed = set()
    for offset, line in read_lines(run.path / OUTCOMES):
        if offset not in found.dropped and offset != found.torn:
            outcome = json.loads(line)
            if outcome["status"] != "ok":
                failed.add(tuple(outcome[name] for name in ("model", "suite", "task", "sample_id", "seed")))
    for _, line in read_lines(run.path / TIMINGS):
        try:
            row = Timing.model_validate_json(line)
        except ValidationError:  # a torn or damaged line costs its measurement only
            continue
        if row.model in rows and (row.model, row.suite, row.task, row.sample_id, row.seed) not in failed:
            rows[row.model].append(row)
    costs = {model.card.name: efficiency(rows[model.card.name], model.card) for model in manifest.spec.models}
    return {name: cost for name, cost in costs.items() if cost is not None}


def _aggregates(run: RunDirectory) -> Iterator[dict[str, Any]]:
    if (run.path / AGGREGATES).exists():
        for table in _read_table(run.path / AGGREGATES, Aggregate.model_fields):
            yield from table.to_pylist()
