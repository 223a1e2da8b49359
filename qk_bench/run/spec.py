"""Makes the spec of a run from what a user names, and says how two specs differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from qk_bench.errors import UsageError
from qk_bench.interfaces import SetMetric
from qk_bench.manifest import MetricSpec, ModelSpec, RunSpec, SuiteSpec, TaskSpec
from qk_bench.metrics import expand
from qk_bench.plugins import FoundTask, file_digest, load_metric, load_model, names
from qk_bench.run.plan import SampleReader, ranges

CONTROLS = ("no-op", "oracle", "noise")
MAX_REQUESTS: Final = 10**8
"""A run holds 8 bytes a request in memory and a line of each on disk."""


def make_models(refs: Sequence[str], arguments: Mapping[str, Mapping[str, JsonValue]]) -> tuple[ModelSpec, ...]:
    """The models of a run by how they are named, each with its constructor's keyword arguments.

    Raises:
        UsageError: A model cannot be made, or two have the same name.
    """
    specs: dict[str, ModelSpec] = {}
    for ref in refs:
        given = dict(arguments.get(ref, {}))
        card = load_model(ref, given).card  # says what is wrong where there is no such file
        spec = ModelSpec(ref=ref, code=file_digest(ref), arguments=given, card=card)
        other = specs.setdefault(spec.card.name, spec)
        if other is not spec:
            raise UsageError(f"models {other.ref} and {ref} are both called {spec.card.name}", "name each model once")
    return tuple(specs.values())


def make_metrics(refs: Sequence[str]) -> tuple[tuple[MetricSpec, ...], dict[str, str]]:
    """The metrics of a run, and those that cannot run here with the reason and the mend.

    Args:
        refs: The metrics the user asked for besides `success`, groups of them, or `all`; every default metric where
            it is empty.

    Raises:
        UsageError: There is no such metric, or two produce the same column.
    """
    installed = names("metric")
    wanted = list(dict.fromkeys(["success", *(expand(refs, installed) or installed)]))
    specs: list[MetricSpec] = []
    unavailable: dict[str, str] = {}
    producer: dict[str, str] = {}
    for ref in wanted:
        try:
            metric = load_metric(ref)
        except UsageError as error:
            if ref in refs:
                raise
            unavailable[ref] = str(error)
            continue
        if not refs and not metric.default:
            continue
        available, mend = metric.availability()
        if not available:
            unavailable[ref] = mend
            continue
        for column in metric.columns:
            other = producer.setdefault(column.id, ref)
            if other != ref:
                raise UsageError(f"metrics {other} and {ref} both produce the column {column.id}")
        specs.append(
            MetricSpec(
                ref=ref,
                code=file_digest(ref),
                whole_set=isinstance(metric, SetMetric),
                kinds=tuple(sorted(metric.kinds)),
                columns=metric.columns,
            )
        )
    return tuple(specs), unavailable


def in_split(found: Sequence[FoundTask], split: str) -> tuple[list[FoundTask], list[str]]:
    """The tasks that have samples in a split, and the names of the others; all of them where none has any.

    A user's folder need not hold every kind of item in every split.
    """
    there = [item for item in found if split in item.task.splits and item.task.size(split) != 0]
    if not there:
        return list(found), []
    return there, [f"{item.suite.name}/{item.task.name}" for item in found if item not in there]


def make_tasks(
    found: Sequence[FoundTask], split: str, limit: int, indices: Mapping[str, Sequence[tuple[int, int]]] | None = None
) -> tuple[tuple[SuiteSpec, ...], tuple[TaskSpec, ...]]:
    """The suites and tasks of a run.

    Args:
        found: The tasks.
        split: The split they are drawn from.
        limit: How many samples of each task: the first ones of the split, or all if it has fewer.
        indices: Ranges of sample indices by task name, in place of the limit.

    Raises:
        UsageError: A task has no such split, or no samples in it; or a diagnostic is named beside tasks that are scored.
    """
    diagnostic = [item.task.name in item.suite.diagnostics for item in found]
    if any(diagnostic) and not all(diagnostic):
        alone = found[diagnostic.index(True)]
        raise UsageError(
            f"{alone.suite.name}/{alone.task.name} is no part of what {alone.suite.name} scores",
            "give it a run of its own, since a run's tasks are pooled",
        )
    suites: dict[str, SuiteSpec] = {}
    tasks: list[TaskSpec] = []
    for item in found:
        suite, task = item.suite, item.task
        if split not in task.splits:
            raise UsageError(f"task {suite.name}/{task.name} has no split {split!r}; it has: {', '.join(task.splits)}")
        if suite.name not in suites:
            suites[suite.name] = SuiteSpec(
                ref=item.suite_ref,
                name=suite.name,
                version=suite.version,
                digest=suite.digest(),
                verifier=f"{suite.verifier_version} {file_digest(item.suite_ref)}".strip(),
                own_size=suite.own_size,
            )
        size = task.size(split)
        chosen = ((0, limit if size is None else min(limit, size)),) if indices is None else tuple(indices[task.name])
        if not sum(stop - start for start, stop in chosen):
            raise UsageError(f"task {suite.name}/{task.name} has no samples in split {split}")
        if size is not None and chosen[-1][1] > size:
            raise UsageError(f"task {suite.name}/{task.name} has {size} samples in split {split}, not {chosen[-1][1]}")
        aside = task.name in suite.diagnostics
        tasks.append(TaskSpec(suite=suite.name, task=task.name, kind=task.kind, indices=chosen, diagnostic=aside))
    return tuple(suites.values()), tuple(tasks)


def _each(task: TaskSpec) -> Iterator[int]:
    """The indices one by one: there may be more than memory holds, of which nobody asks."""
    return itertools.chain.from_iterable(itertools.starmap(range, task.indices))


def without_unusable(
    found: Sequence[FoundTask], tasks: Sequence[TaskSpec], split: str, resolution: int
) -> tuple[list[FoundTask], tuple[TaskSpec, ...], list[str]]:
    """The tasks without the samples that cannot be made, and one line for each of those.

    Raises:
        UsageError: Nothing is left.
    """
    kept: list[tuple[FoundTask, TaskSpec]] = []
    problems: list[str] = []
    for item, task in zip(found, tasks, strict=True):
        faults = item.task.unusable(split, _each(task), resolution)
        problems += faults.values()
        if faults:
            left = ranges([index for index in _each(task) if index not in faults])
            task = task.model_copy(update={"indices": left})
        if task.indices:
            kept.append((item, task))
    problems = list(dict.fromkeys(problems))  # one picture may be asked about by several tasks
    if not kept:
        raise UsageError(f"no sample can be used; the first problem: {problems[0]}")
    return [item for item, _ in kept], tuple(task for _, task in kept), problems


def check_spec(spec: RunSpec, found: Sequence[FoundTask]) -> None:
    """Refuse a spec that cannot be run, before anything is written.

    Raises:
        UsageError: A model does not do a task's kind, a task cannot be drawn at the resolution, or there are more than
            `MAX_REQUESTS` requests.
    """
    samples = sum(stop - start for task in spec.tasks for start, stop in task.indices)
    requests = samples * len(spec.seeds) * len(spec.models)
    if requests > MAX_REQUESTS:
        raise UsageError(
            f"this would be {requests:,} requests, and a run has at most {MAX_REQUESTS:,}", "lower --limit"
        )
    if len(set(spec.seeds)) != len(spec.seeds):
        raise UsageError(f"seeds {', '.join(map(str, spec.seeds))} name one twice")
    for model in spec.models:
        for task in spec.tasks:
            if task.kind not in model.card.kinds:
                does = ", ".join(model.card.kinds)
                raise UsageError(
                    f"model {model.card.name} does not do {task.suite}/{task.task} ({task.kind}; it does {does})"
                )
    for item, task in zip(found, spec.tasks, strict=True):
        SampleReader(item.task, spec.split, spec.resolution).read(task.indices[0][0])


def differences(old: RunSpec, new: RunSpec) -> list[str]:
    """How two specs differ, as `field: old → new`."""
    before, after = _named(old.model_dump(mode="json")), _named(new.model_dump(mode="json"))
    return [line for name in before for line in _differences(name, before[name], after[name])]


def _named(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with its lists of records keyed by name, so that a difference names what differs."""
    return {
        **spec,
        "suites": {suite["name"]: {**suite, "ref": ""} for suite in spec["suites"]},
        "tasks": {f"{task['suite']}/{task['task']}": task for task in spec["tasks"]},
        "models": {model["card"]["name"]: {**model, "ref": ""} for model in spec["models"]},
        "metrics": {metric["ref"]: metric for metric in spec["metrics"]},
    }


def _differences(where: str, old: Any, new: Any) -> list[str]:
    if old == new:
        return _order(where, old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{where}.{name}"
            if name not in new:
                found.append(f"{inner}: there → not there")
            elif name not in old:
                found.append(f"{inner}: not there → there")
            else:
                found += _differences(inner, old[name], new[name])
        return found
    return [f"{where}: {_short(old)} → {_short(new)}"]


def _order(where: str, old: Any, new: Any) -> list[str]:
    if where in ("tasks", "models", "metrics") and list(old) != list(new):
        return [f"{where}: order {', '.join(old)} → {', '.join(new)}"]
    return []


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
