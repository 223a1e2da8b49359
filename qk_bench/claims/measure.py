"""What a run says of a claim: the value, difference or relative change, with its interval."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from qk_bench import stats
from qk_bench.claims.records import Claim, ClaimFile, Measurement, Role, Says
from qk_bench.compare.engine import is_rate
from qk_bench.compare.records import ALL_TASKS
from qk_bench.compare.scores import Entrant, Floats, Run, TaskScores, align, codes_of, pooled
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
class _Found:
    """What was measured, and on what."""

    estimate: Estimate
    metric: str
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def measure(claim: Claim, file: ClaimFile, run: Run, names: dict[str, str]) -> Measurement | Absent:
    """Measure a claim on a run.

    Args:
        claim: A claim with `says`.
        file: The file it stands in.
        run: The run.
        names: By role, the model that stands for it, where the user says so.
    """
    says = claim.says
    assert says is not None
    models: list[str] = []
    for role in (says.model, says.baseline):
        if role is not None:
            model = _model(run, file.roles[role], role, names.get(role))
            if isinstance(model, Absent):
                return model
            models.append(model)
    if len(set(models)) < len(models):
        both = f"{models[0]} stands for both {says.model} and {says.baseline} in {run.path}"
        return Absent(f"{both}: say which model is which with --model {says.baseline}=MODEL")
    other = _other_size(run, models[0], file.roles[says.model])
    if says.metric in (PARAMETERS, MEMORY) and other:
        return Absent(f"{other}: its size says nothing of the published model's")
    found = _values(run, says, models)
    if isinstance(found, Absent):
        return found
    estimate = found.estimate
    if not math.isfinite(estimate.value):
        return Absent(f"{found.metric} has no finite value in {run.path}")
    scale = _scale(claim, file, run, models, found)
    return Measurement(
        run=str(run.path),
        metric=found.metric,
        model=models[0],
        baseline=models[1] if len(models) > 1 else None,
        suites=found.suites,
        tasks=found.tasks,
        value=estimate.value,
        low=estimate.low if math.isfinite(estimate.low) else None,
        high=estimate.high if math.isfinite(estimate.high) else None,
        n=estimate.n,
        n_clusters=estimate.n_clusters,
        kind="analogue" if scale else "replication",
        scale=scale,
    )


def _model(run: Run, role: Role, name: str, named: str | None) -> str | Absent:
    for pattern in (named,) if named is not None else role.models:
        matches = [m for m in run.models if m == pattern] or fnmatch.filter(run.models, pattern)
        if len(matches) > 1:
            several = f"{run.path} has several models for {name}: {', '.join(matches)}"
            return Absent(f"{several}; say which with --model {name}=MODEL")
        if matches:
            return matches[0]
    return Absent(f"no model of {run.path} stands for {name}")


def _values(run: Run, says: Says, models: list[str]) -> _Found | Absent:
    if says.metric == PARAMETERS:
        return _parameters(run, says, models)
    if says.metric == MEMORY:
        return _peak_memory(run, says, models)
    sets = [row for row in run.aggregates if _fits(says.metric, row["metric"])]
    if sets:
        return _set_metric(run, says, models, sets)
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
    return _Found(_estimate(says, values[:, rows], codes), metric, suites, tuple(t.task for t in tasks), field.notes)


def _on(says: Says, task: str) -> bool:
    """Whether a claim speaks of a task."""
    return says.task == ALL_TASKS or _fits(says.task, task)


def _ambiguous(run: Run, says: Says, fitting: list[str]) -> Absent:
    return Absent(f"{says.metric} fits several metrics of {run.path}: {', '.join(fitting)}; the claim must name one")


def _fits(pattern: str, name: str) -> bool:
    """Whether a metric's id fits; only `*` is special, since ids hold brackets."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _estimate(says: Says, values: Floats, codes: np.ndarray) -> Estimate:
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


def _parameters(run: Run, says: Says, models: list[str]) -> _Found | Absent:
    counts = [run.card(m).parameters for m in models]
    if any(count is None for count in counts):
        return Absent(f"{models[counts.index(None)]} does not declare its parameters in {run.path}")
    return _Found(_exact(says, [float(count) for count in counts if count is not None]), PARAMETERS)


def _peak_memory(run: Run, says: Says, models: list[str]) -> _Found | Absent:
    """Of the accelerator where there is one, else of the process that generated."""
    timings = list(_timings(run))
    costs = [efficiency(timings, run.card(m)) for m in models]
    device = [cost.device_peak_memory for cost in costs if cost and cost.device_peak_memory is not None]
    if len(device) == len(models):
        return _Found(_exact(says, [float(peak) for peak in device]), MEMORY)
    process = [cost.peak_memory for cost in costs if cost and cost.peak_memory is not None]
    if len(process) == len(models):
        notes = ("memory of the process, not of an accelerator",)
        return _Found(_exact(says, [float(peak) for peak in process]), MEMORY, notes=notes)
    return Absent(f"{run.path} does not record the peak memory of {' and '.join(models)}")


def _exact(says: Says, values: list[float]) -> Estimate:
    """A figure that is known, not sampled."""
    value = values[0] if says.measure == "value" else values[0] - values[1]
    if says.measure == "relative change":
        value = value / values[1] if values[1] else float("nan")
    return Estimate(value, value, value, 1, 1)


def _set_metric(run: Run, says: Says, models: list[str], rows: list[dict[str, Any]]) -> _Found | Absent:
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
    return _Found(Estimate(value, low, high, n, n), ids[0], suites, tasks, notes)


def _scale(claim: Claim, file: ClaimFile, run: Run, models: list[str], found: _Found) -> str:
    """What the test differs in from what the claim was made with; empty if in nothing."""
    says = claim.says
    assert says is not None
    parts = []
    if not claim.suites or not set(found.suites) <= set(claim.suites):
        parts.append(f"data: {', '.join(found.suites) or 'none'} at {run.manifest.spec.resolution} px")
    for role, model in zip((says.model, says.baseline), models, strict=False):
        assert role is not None
        mine = run.card(model).parameters
        if file.roles[role].parameters is None or mine is None:
            parts.append(f"{model} ({'size not declared' if mine is None else f'{mine / 1e6:.3g} M parameters'})")
        elif other := _other_size(run, model, file.roles[role]):
            parts.append(other)
    return "; ".join([*parts, *found.notes])


def _other_size(run: Run, model: str, role: Role) -> str:
    """How a model's size differs from the published one by more than a factor of two; empty if it does not."""
    mine, published = run.card(model).parameters, role.parameters
    if mine is None or published is None or 0.5 <= mine / published <= 2:
        return ""
    return f"{model} has {mine / 1e6:.3g} M parameters instead of {published / 1e6:.3g} M"
