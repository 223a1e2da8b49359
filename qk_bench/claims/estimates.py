"""What a run measured of what a claim speaks of: metrics of single samples, metrics of whole sets, and exact figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from qk_bench import stats
from qk_bench.claims.records import Says
from qk_bench.compare.align import Entrant, align
from qk_bench.compare.engine import is_rate
from qk_bench.compare.records import ALL_TASKS
from qk_bench.compare.scores import Floats, Run, TaskScores, codes_of, pooled
from qk_bench.errors import DamagedRunError, NotComparableError
from qk_bench.manifest import Timing
from qk_bench.metrics.efficiency import efficiency
from qk_bench.stats import Estimate
from qk_bench.store import TIMINGS, read_lines

CONFIDENCE = 0.95
LATENCY, PARAMETERS, MEMORY = "latency", "parameters", "peak-memory"
MEANS_OF_SAMPLES = "stability["
"""What the id of a metric of whole sets begins with that is a mean over samples, so that tasks can be pooled."""


@dataclass(frozen=True)
class Absent:
    """Why a run cannot test a claim."""

    reason: str


@dataclass(frozen=True)
class Found:
    """What was measured, and on what."""

    estimate: Estimate
    metric: str
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def estimate(run: Run, says: Says, models: list[str]) -> Found | Absent:
    """The value, difference or relative change that a claim speaks of, or why the run has none."""
    if says.metric == PARAMETERS:
        return _parameters(run, says, models)
    if says.metric == MEMORY:
        return _peak_memory(run, says, models)
    sets = [row for row in run.aggregates if _fits(says.metric, row["metric"])]
    if sets:
        return _set_metric(run, says, models, sets)
    return _sample_metric(run, says, models)


def _sample_metric(run: Run, says: Says, models: list[str]) -> Found | Absent:
    """A metric of single samples, or the seconds they took: on the samples that all models have."""
    part = replace(run, tasks={key: t for key, t in run.tasks.items() if _on(says, key[1])})
    if not part.tasks:
        return Absent(f"{run.path} has no task {says.task}")
    try:
        field = align(tuple(Entrant(part, m, m) for m in models), intersect=True)
    except NotComparableError as error:
        return Absent(str(error))
    tasks = field.tasks
    if says.metric == LATENCY:
        tasks = tuple(_with_latency(run, task, models) for task in tasks)
    block = pooled(tasks, ALL_TASKS) if len(tasks) > 1 else tasks[0]
    fitting = [m for m in block.values if _fits(says.metric, m)]
    if not fitting:
        return Absent(f"{run.path} has no metric {says.metric} on {says.task}")
    if len(fitting) > 1:
        return _ambiguous(run, says, fitting)
    metric = fitting[0]
    values = block.values[metric]
    rows = np.isfinite(values).all(axis=0)
    codes = codes_of(block)[rows]
    n_clusters = np.unique(codes).size
    if n_clusters < stats.MIN_CLUSTERS:
        return Absent(f"{run.path} has {n_clusters} clusters for it, fewer than {stats.MIN_CLUSTERS}")
    suites = tuple(sorted({t.suite for t in tasks}))
    return Found(_interval(says, values[:, rows], codes), metric, suites, tuple(t.task for t in tasks), field.notes)


def _on(says: Says, task: str) -> bool:
    """Whether a claim speaks of a task."""
    return says.task == ALL_TASKS or _fits(says.task, task)


def _ambiguous(run: Run, says: Says, fitting: list[str]) -> Absent:
    return Absent(f"{says.metric} fits several metrics of {run.path}: {', '.join(fitting)}; the claim must name one")


def _fits(pattern: str, name: str) -> bool:
    """Whether a metric's id fits; only `*` is special, since ids hold brackets."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _interval(says: Says, values: Floats, codes: np.ndarray) -> Estimate:
    rate = is_rate(values)
    if says.measure == "value":
        if rate:
            return stats.rate_interval(values[0], codes, confidence=CONFIDENCE)
        return stats.mean_interval(values[0], codes, confidence=CONFIDENCE)
    b, a = values
    if says.measure == "relative change":
        return stats.relative_change(a, b, codes, confidence=CONFIDENCE)
    if not rate:
        return stats.mean_interval(b - a, codes, confidence=CONFIDENCE)
    difference = stats.rate_difference(a, b, codes)
    return Estimate(difference.value, *difference.interval(CONFIDENCE), difference.n, difference.n_clusters)


def _timings(run: Run) -> Iterator[Timing]:
    """The lines of `timings.jsonl`; a last line that was torn off is left out.

    Raises:
        DamagedRunError: A line is not a timing.
    """
    for offset, line in read_lines(run.path / TIMINGS):
        if line.endswith(b"\n"):
            try:
                yield Timing.model_validate_json(line)
            except ValidationError:
                raise DamagedRunError(f"{run.path / TIMINGS}: the line at byte {offset} is not a timing") from None


def _with_latency(run: Run, task: TaskScores, models: list[str]) -> TaskScores:
    """The task with the seconds an image took as one more metric; a failure has none, as in `qkbench show`."""
    rows = {(s, int(k)): i for i, (s, k) in enumerate(zip(task.samples.tolist(), task.seeds, strict=True))}
    seconds = np.full((len(models), len(rows)), np.nan)
    for timing in _timings(run):
        place = rows.get((timing.sample_id, timing.seed))
        if timing.model in models and (timing.suite, timing.task) == (task.suite, task.task) and place is not None:
            seconds[models.index(timing.model), place] = timing.seconds / max(1, timing.requests)
    seconds[task.failed] = np.nan
    if np.isnan(seconds).all():
        return task
    return replace(task, values={**task.values, LATENCY: seconds})


def _parameters(run: Run, says: Says, models: list[str]) -> Found | Absent:
    counts = [run.card(m).parameters for m in models]
    if any(count is None for count in counts):
        return Absent(f"{models[counts.index(None)]} does not declare its parameters in {run.path}")
    return Found(_exact(says, [float(count) for count in counts if count is not None]), PARAMETERS)


def _peak_memory(run: Run, says: Says, models: list[str]) -> Found | Absent:
    """Of the accelerator where there is one, else of the process that generated."""
    timings = list(_timings(run))
    costs = [efficiency(timings, run.card(m)) for m in models]
    device = [cost.device_peak_memory for cost in costs if cost and cost.device_peak_memory is not None]
    if len(device) == len(models):
        return Found(_exact(says, [float(peak) for peak in device]), MEMORY)
    process = [cost.peak_memory for cost in costs if cost and cost.peak_memory is not None]
    if len(process) == len(models):
        notes = ("memory of the process, not of an accelerator",)
        return Found(_exact(says, [float(peak) for peak in process]), MEMORY, notes=notes)
    return Absent(f"{run.path} does not record the peak memory of {' and '.join(models)}")


def _exact(says: Says, values: list[float]) -> Estimate:
    """A figure that is known, not sampled."""
    value = values[0] if says.measure == "value" else values[0] - values[1]
    if says.measure == "relative change":
        value = value / values[1] if values[1] else float("nan")
    return Estimate(value, value, value, 1, 1)


def _set_metric(run: Run, says: Says, models: list[str], rows: list[dict[str, Any]]) -> Found | Absent:
    """A metric of whole sets: intervals are combined by their ends, which errs on the wide side."""
    columns = sorted({row["column"] for row in rows})
    if len(columns) > 1:
        return _ambiguous(run, says, columns)
    rows = [row for row in rows if row["model"] in models and _on(says, row["task"])]
    keys = dict.fromkeys((row["suite"], row["task"]) for row in rows)
    tasks = tuple(task for _, task in keys)
    if len(tasks) > 1 and not columns[0].startswith(MEANS_OF_SAMPLES):
        return Absent(f"{columns[0]} is there per task in {run.path} ({', '.join(tasks)}): the claim must name one")
    ids = sorted({row["metric"] for row in rows})
    if len(ids) > 1:
        return Absent(f"{' and '.join(ids)} in {run.path} are of unlike sets, and do not compare")
    sides, sizes = [], []
    for model in models:
        own = [row for row in rows if row["model"] == model]
        if len(own) != max(1, len(tasks)) or any(row[k] is None for row in own for k in ("value", "low", "high")):
            return Absent(f"{run.path} has no {says.metric} of {model} with an interval on {says.task}")
        counts = [row["n"] for row in own]
        sides.append([float(np.average([row[k] for row in own], weights=counts)) for k in ("value", "low", "high")])
        sizes.append(sum(counts))
    n = min(sizes)
    (value, low, high), *rest = sides
    if rest:
        base, base_low, base_high = rest[0]
        if says.measure == "difference":
            value, low, high = value - base, low - base_high, high - base_low
        elif base_low <= 0:
            return Absent(f"{says.metric} of {models[1]} may be 0 in {run.path}: no relative change")
        else:
            value, low, high = value / base - 1, low / base_high - 1, high / base_low - 1
    suites = tuple(sorted({suite for suite, _ in keys}))
    notes = () if run.manifest.status == "complete" else (f"the run in {run.path} is {run.manifest.status}",)
    return Found(Estimate(value, low, high, n, n), ids[0], suites, tasks, notes)
