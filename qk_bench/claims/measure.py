"""What a run says of a claim: the value, difference or relative change, with its interval."""

from __future__ import annotations

import fnmatch
import json
import math
import re
from dataclasses import dataclass

import numpy as np

from qk_bench import stats
from qk_bench.claims.records import Claim, ClaimFile, Measurement, Role, Says
from qk_bench.compare.engine import is_rate
from qk_bench.compare.records import ALL_TASKS
from qk_bench.compare.scores import Entrant, Floats, Run, TaskScores, align, codes_of, pooled
from qk_bench.stats import Estimate
from qk_bench.store import TIMINGS, read_lines

CONFIDENCE = 0.95
LATENCY, PARAMETERS = "latency", "parameters"


@dataclass(frozen=True)
class Absent:
    """Why a run cannot test a claim."""

    reason: str


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
            found = _model(run, file.roles[role], names.get(role))
            if found is None:
                return Absent(f"no model of {run.path} stands for {role}")
            models.append(found)
    if says.metric == PARAMETERS and (other := _other_size(run, models[0], file.roles[says.model])):
        return Absent(f"{other}: its size says nothing of the published model's")
    found_values = _values(run, says, models)
    if isinstance(found_values, Absent):
        return found_values
    estimate, suites = found_values
    if not math.isfinite(estimate.value):
        return Absent(f"{says.metric} has no finite value in {run.path}")
    scale = _scale(claim, file, run, models, suites)
    return Measurement(
        run=str(run.path),
        model=models[0],
        baseline=models[1] if len(models) > 1 else None,
        suites=suites,
        value=estimate.value,
        low=estimate.low if math.isfinite(estimate.low) else None,
        high=estimate.high if math.isfinite(estimate.high) else None,
        n=estimate.n,
        n_clusters=estimate.n_clusters,
        kind="analogue" if scale else "replication",
        scale=scale,
    )


def _model(run: Run, role: Role, named: str | None) -> str | None:
    for pattern in (named,) if named is not None else role.models:
        if matches := fnmatch.filter(run.models, pattern):
            return sorted(matches)[0]
    return None


def _values(run: Run, says: Says, models: list[str]) -> tuple[Estimate, tuple[str, ...]] | Absent:
    if says.metric == PARAMETERS:
        return _parameters(run, says, models)
    sets = [row for row in run.aggregates if _fits(says.metric, row["metric"])]
    if sets:
        return _set_metric(run, says, models, sets)
    field = align(tuple(Entrant(run, m, m) for m in models), intersect=True)
    tasks = tuple(t for t in field.tasks if says.task in (t.task, ALL_TASKS))
    if not tasks:
        return Absent(f"{run.path} has no task {says.task}")
    if says.metric == LATENCY:
        tasks = tuple(_with_latency(run, task, models) for task in tasks)
    block = pooled(tasks, ALL_TASKS) if len(tasks) > 1 else tasks[0]
    metric = next((m for m in block.values if _fits(says.metric, m)), None)
    if metric is None:
        return Absent(f"{run.path} has no metric {says.metric}")
    values = block.values[metric]
    rows = np.isfinite(values).all(axis=0)
    codes = codes_of(block)[rows]
    n_clusters = np.unique(codes).size
    if n_clusters < stats.MIN_CLUSTERS:
        return Absent(f"{run.path} has {n_clusters} clusters for it, fewer than {stats.MIN_CLUSTERS}")
    return _estimate(says, values[:, rows], codes), tuple(sorted({t.suite for t in tasks}))


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


def _with_latency(run: Run, task: TaskScores, models: list[str]) -> TaskScores:
    """The task with the seconds an image took as one more metric."""
    rows = {(s, int(k)): i for i, (s, k) in enumerate(zip(task.samples.tolist(), task.seeds, strict=True))}
    seconds = np.full((len(models), len(rows)), np.nan)
    for _, line in read_lines(run.path / TIMINGS):
        timing = json.loads(line)
        place = rows.get((timing["sample_id"], timing["seed"]))
        if timing["model"] in models and timing["task"] == task.task and place is not None:
            seconds[models.index(timing["model"]), place] = timing["seconds"] / timing["requests"]
    if np.isnan(seconds).all():
        return task
    return TaskScores(**{**task.__dict__, "values": {**task.values, LATENCY: seconds}})


def _parameters(run: Run, says: Says, models: list[str]) -> tuple[Estimate, tuple[str, ...]] | Absent:
    counts = [run.card(m).parameters for m in models]
    if any(count is None for count in counts):
        return Absent(f"{models[counts.index(None)]} does not declare its parameters in {run.path}")
    exact = [float(count) for count in counts if count is not None]
    value = exact[0] if says.measure == "value" else exact[0] - exact[1]
    if says.measure == "relative change":
        value /= exact[1]
    return Estimate(value, value, value, 1, 1), ()


def _set_metric(
    run: Run, says: Says, models: list[str], rows: list[dict[str, object]]
) -> tuple[Estimate, tuple[str, ...]] | Absent:
    """A metric of whole sets: intervals are combined by their ends, which errs on the wide side."""
    found = [r for m in models for r in rows if r["model"] == m and says.task in (r["task"], ALL_TASKS)]
    if len(found) != len(models) or any(r[k] is None for r in found for k in ("value", "low", "high")):
        return Absent(f"{run.path} has no {says.metric} with an interval on {says.task}")
    (value, low, high), *rest = [(float(str(r["value"])), float(str(r["low"])), float(str(r["high"]))) for r in found]
    suites = tuple(sorted({str(r["suite"]) for r in found}))
    if rest:
        base, base_low, base_high = rest[0]
        if says.measure == "difference":
            value, low, high = value - base, low - base_high, high - base_low
        elif base_low <= 0:
            return Absent(f"{says.metric} of {models[1]} may be 0 in {run.path}: no relative change")
        else:
            value, low, high = value / base - 1, low / base_high - 1, high / base_low - 1
    n = min(int(str(r["n"])) for r in found)
    return Estimate(value, low, high, n, n), suites


def _scale(claim: Claim, file: ClaimFile, run: Run, models: list[str], suites: tuple[str, ...]) -> str:
    """What the test differs in from what the claim was made with; empty if in nothing."""
    says = claim.says
    assert says is not None
    parts = []
    if not claim.suites or not set(suites) <= set(claim.suites):
        parts.append(f"data: {', '.join(suites) or 'none'} at {run.manifest.spec.resolution} px")
    for role, model in zip((says.model, says.baseline), models, strict=False):
        assert role is not None
        mine = run.card(model).parameters
        if file.roles[role].parameters is None or mine is None:
            parts.append(f"{model} ({'size not declared' if mine is None else f'{mine / 1e6:.3g} M parameters'})")
        elif other := _other_size(run, model, file.roles[role]):
            parts.append(other)
    return "; ".join(parts)


def _other_size(run: Run, model: str, role: Role) -> str:
    """How a model's size differs from the published one by more than a factor of two; empty if it does not."""
    mine, published = run.card(model).parameters, role.parameters
    if mine is None or published is None or 0.5 <= mine / published <= 2:
        return ""
    return f"{model} has {mine / 1e6:.3g} M parameters instead of {published / 1e6:.3g} M"
