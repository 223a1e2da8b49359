"""What a run shows: success with intervals and failures, and the means of the other metrics, per model and task."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from qk_bench.errors import DamagedRunError
from qk_bench.inspection import Inspection, inspect
from qk_bench.manifest import Manifest, Timing
from qk_bench.metrics.efficiency import Efficiency, efficiency
from qk_bench.run.plan import segments_of
from qk_bench.run.tables import Journal, score_batches
from qk_bench.stats import Estimate, mean_interval, rate_interval
from qk_bench.store import AGGREGATES, JOURNAL, OUTCOMES, SCORES, TIMINGS, LineReader, RunDirectory, read_lines

if TYPE_CHECKING:
    import pyarrow as pa

ALL_TASKS: Final = "all"
SUCCESS: Final = "success"


@dataclass
class _Values:
    """The values of one (model, task, metric)."""

    values: list[float] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)
    """How many outcomes have no value, per status."""
    without_clusters: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One metric of one model on one task, or on all of them."""

    model: str
    privileged: bool
    task: str
    metric: str
    estimate: Estimate | None
    """None where no outcome has a value."""
    n: int
    without_value: dict[str, int]


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
    values: dict[tuple[str, str, str], _Values] = {}
    scored = 0
    for table in _tables(run, manifest, found):
        rows = table.select(["model", "suite", "task", "cluster", "metric", "value", "status"]).to_pydict()
        for model, suite, task, cluster, metric, value, status in zip(*rows.values(), strict=True):
            scored += metric == SUCCESS
            entry = values.setdefault((model, f"{suite}/{task}", metric), _Values())
            if value is None:
                entry.without[status] += 1
                entry.without_clusters.append(cluster)
            else:
                entry.values.append(value)
                entry.clusters.append(cluster)
    return Summary(
        manifest=manifest,
        counts={model: dict(sorted(count.items())) for model, count in found.counts.items()},
        done=found.done,
        scored=scored,
        problems=tuple(problems),
        lines=tuple(_lines(manifest, values)),
        aggregates=() if AGGREGATES in found.changed_files else tuple(_aggregates(run)),
        costs=_costs(run, manifest),
    )


def _tables(run: RunDirectory, manifest: Manifest, found: Inspection) -> Iterator[pa.Table]:
    """The rows of `scores.parquet`; those of the journal while a run is not finished."""
    if SCORES in found.changed_files:
        return
    if (run.path / SCORES).exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(run.path / SCORES) as file:
                for batch in file.iter_batches():
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, OSError) as error:
            raise DamagedRunError(f"{run.path / SCORES} cannot be read: {str(error).splitlines()[0]}") from None
    elif (run.path / JOURNAL).exists():
        journal = Journal(run, segments_of(manifest.spec), found.offsets)
        outcomes, scores = LineReader(run.path / OUTCOMES), LineReader(run.path / JOURNAL)
        try:
            journal.load(outcomes)
            yield from score_batches(manifest.spec, journal.entries(scores))
        finally:
            outcomes.close()
            scores.close()


def _lines(manifest: Manifest, values: dict[tuple[str, str, str], _Values]) -> Iterator[Line]:
    """A line per model, task and metric in plan order; with several tasks, one more over all of them."""
    tasks = [f"{task.suite}/{task.task}" for task in manifest.spec.tasks]
    metrics = [column.id for metric in manifest.spec.metrics if not metric.whole_set for column in metric.columns]
    for model in manifest.spec.models:
        name = model.card.name
        for metric in metrics:
            found = {task: values[name, task, metric] for task in tasks if (name, task, metric) in values}
            for task, entry in found.items():
                yield _line(name, model.card.privileged, task, metric, entry)
            if len(tasks) > 1 and found:
                yield _line(name, model.card.privileged, ALL_TASKS, metric, _pooled(found))


def _pooled(found: dict[str, _Values]) -> _Values:
    """All tasks together; clusters of one suite are shared between its tasks."""
    whole = _Values()
    for task, entry in found.items():
        suite = task.partition("/")[0]
        whole.values += entry.values
        whole.clusters += [f"{suite}/{cluster}" for cluster in entry.clusters]
        whole.without += entry.without
        whole.without_clusters += [f"{suite}/{cluster}" for cluster in entry.without_clusters]
    return whole


def _line(model: str, privileged: bool, task: str, metric: str, entry: _Values) -> Line:
    values, clusters = entry.values, entry.clusters
    if metric == SUCCESS:
        # a failed outcome is an edit that did not succeed; a score that could not be computed says nothing
        failed = sum(n for status, n in entry.without.items() if status != "unavailable")
        if failed == entry.without.total():
            values, clusters = values + [0.0] * failed, clusters + entry.without_clusters
        estimate = rate_interval(values, clusters) if values else None
    else:
        estimate = _mean(values, clusters)
    return Line(model, privileged, task, metric, estimate, len(values), dict(sorted(entry.without.items())))


def _mean(values: Sequence[float], clusters: Sequence[str]) -> Estimate | None:
    if not values:
        return None
    if not all(map(math.isfinite, values)):  # such as the PSNR of identical images: no interval
        mean = math.fsum(values) / len(values) if len({*filter(math.isinf, values)}) < 2 else math.nan
        return Estimate(mean, mean, mean, len(values), len(set(clusters)))
    return mean_interval(values, clusters)


def _costs(run: RunDirectory, manifest: Manifest) -> dict[str, Efficiency]:
    """From the timings of requests that gave an image: a failure at once would look fast."""
    rows: dict[str, list[Timing]] = {model.card.name: [] for model in manifest.spec.models}
    failed = {
        (o["model"], o["suite"], o["task"], o["sample_id"], o["seed"])
        for o in _json_lines(run, OUTCOMES)
        if o.get("status") != "ok" and "seed" in o
    }
    for line in _json_lines(run, TIMINGS):
        try:
            row = Timing.model_validate(line)
        except ValidationError:
            continue
        if row.model in rows and (row.model, row.suite, row.task, row.sample_id, row.seed) not in failed:
            rows[row.model].append(row)
    found = {model.card.name: efficiency(rows[model.card.name], model.card) for model in manifest.spec.models}
    return {name: cost for name, cost in found.items() if cost is not None}


def _json_lines(run: RunDirectory, name: str) -> Iterator[dict[str, Any]]:
    """Whole lines of a file; what is torn or damaged is passed over, since `inspect` reports it."""
    for _, line in read_lines(run.path / name):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _aggregates(run: RunDirectory) -> Iterable[dict[str, Any]]:
    if not (run.path / AGGREGATES).exists():
        return []
    import pyarrow.parquet as pq

    with pq.ParquetFile(run.path / AGGREGATES) as file:
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows
