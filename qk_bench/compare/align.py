"""Brings models of one run or several together on the same (sample, seed), or says why they cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qk_bench.compare.records import Side, finite
from qk_bench.compare.scores import Run, TaskScores
from qk_bench.errors import NotComparableError
from qk_bench.manifest import SuiteSpec


@dataclass(frozen=True)
class Entrant:
    """A model of a run, under a label that is unique in the comparison."""

    run: Run
    model: str
    label: str

    def side(self, value: float | None, low: float | None, high: float | None, n: int, failures: int) -> Side:
        """This model's value with its interval, as a record."""
        card = self.run.card(self.model)
        return Side(
            run=str(self.run.path),
            model=self.model,
            label=self.label,
            privileged=card.privileged,
            uses_region=card.uses_region,
            unseeded=card.unseeded,
            value=finite(value),
            low=finite(low),
            high=finite(high),
            n=n,
            failures=failures,
        )


@dataclass(frozen=True)
class Field:
    """Entrants with their scores aligned task by task; index i of every (M, n) array is entrant i."""

    entrants: tuple[Entrant, ...]
    tasks: tuple[TaskScores, ...]
    notes: tuple[str, ...]


def align(entrants: tuple[Entrant, ...], *, intersect: bool) -> Field:
    """Bring entrants together on the same (sample, seed) rows.

    Args:
        entrants: Models, of one run or of several.
        intersect: Whether to compare on the rows that all have, instead of refusing where they differ.

    Raises:
        NotComparableError: Suites, their verifiers, splits, resolutions or samples differ; the message names the first difference.
    """
    runs = list({id(e.run): e.run for e in entrants}.values())
    for other in runs[1:]:
        _check_alike(runs[0], other)
    shared = [key for key in runs[0].tasks if all(key in run.tasks for run in runs)]
    every = list(dict.fromkeys(key for run in runs for key in run.tasks))
    notes = [
        f"the runs do not say by which version of its verifier suite {suite.name} was judged"
        for suite in runs[0].manifest.spec.suites
        if runs[1:] and not suite.verifier and any(name == suite.name for name, _ in shared)
    ]
    for run in runs:
        if run.manifest.status != "complete":
            if not intersect:
                raise NotComparableError(
                    f"the run in {run.path} is {run.manifest.status}",
                    "finish it, or pass --intersect to use what there is",
                )
            notes.append(f"the run in {run.path} is {run.manifest.status}")
    if left_out := [f"{suite}/{task}" for suite, task in every if (suite, task) not in shared]:
        if not intersect or not shared:
            holders = [str(run.path) for run in runs if tuple(left_out[0].split("/", 1)) in run.tasks]
            raise NotComparableError(
                f"task {left_out[0]} is only in {', '.join(holders)}",
                "compare runs of the same tasks, or pass --intersect" if shared else "the runs have no task in common",
            )
        notes.append(f"compared on the tasks in common; left out: {', '.join(left_out)}")
    tasks = []
    for key in shared:
        scores, note = _align_task(key, entrants, intersect=intersect)
        tasks.append(scores)
        notes += [note] if note else []
    return Field(entrants, tuple(tasks), tuple(notes))


def _check_alike(a: Run, b: Run) -> None:
    """Refuse runs that asked different questions."""
    suites_b = {s.name: s for s in b.manifest.spec.suites}
    own = all(suite.own_size for suite in a.manifest.spec.suites if suite.name in suites_b)
    for what in ("split",) if own else ("split", "resolution"):  # where samples keep their sizes, it had no effect
        x, y = getattr(a.manifest.spec, what), getattr(b.manifest.spec, what)
        if x != y:
            raise NotComparableError(f"{what} differs: {x} in {a.path}, {y} in {b.path}")
    for suite in a.manifest.spec.suites:
        other = suites_b.get(suite.name)
        if other is None:
            continue  # then its tasks are not shared
        if suite.version != other.version:
            raise NotComparableError(
                f"version of suite {suite.name} differs: {suite.version} in {a.path}, {other.version} in {b.path}",
                "run both with one version",
            )
        if suite.digest != other.digest:
            raise NotComparableError(
                f"content of suite {suite.name} differs: {suite.digest[:12]} in {a.path}, "
                f"{other.digest[:12]} in {b.path}",
                "the version is the same but the samples are not: run both with one installation",
            )
        if suite.verifier != other.verifier:
            raise NotComparableError(
                f"verifier of suite {suite.name} differs: {_short(suite)} in {a.path}, {_short(other)} in {b.path}",
                "repeat the command of the older run with its --out: its images are kept and judged again",
            )


def _short(suite: SuiteSpec) -> str:
    version, _, file = suite.verifier.partition(" ")
    return f"{version} of file {file[:12]}" if file else version or "not recorded"


def _align_task(key: tuple[str, str], entrants: tuple[Entrant, ...], *, intersect: bool) -> tuple[TaskScores, str]:
    """Align one task; the note says what was left out, empty if nothing was."""
    parts = [e.run.tasks[key] for e in entrants]
    index = [e.run.models.index(e.model) for e in entrants]
    note = ""
    if not _same_rows(parts, index):
        rows = [_rows(part, i) for part, i in zip(parts, index, strict=True)]
        common = sorted(set(rows[0]).intersection(*rows[1:]))
        if any(len(held) != len(common) for held in rows):
            note = _difference("/".join(key), entrants, rows, common, intersect=intersect)
        parts = [p.take(np.array([held[r] for r in common], np.int64)) for p, held in zip(parts, rows, strict=True)]
    for entrant, part in zip(entrants, parts, strict=True):
        if not np.array_equal(part.clusters, parts[0].clusters):
            raise NotComparableError(
                f"{'/'.join(key)}: the clusters of {entrant.label} are not those of {entrants[0].label}"
            )
    metrics = [m for m in parts[0].values if all(m in part.values for part in parts)]
    aligned = replace(
        parts[0],
        values={m: np.stack([p.values[m][i] for p, i in zip(parts, index, strict=True)]) for m in metrics},
        failed=np.stack([p.failed[i] for p, i in zip(parts, index, strict=True)]),
        present=np.stack([p.present[i] for p, i in zip(parts, index, strict=True)]),
    )
    return aligned, note


def _same_rows(parts: list[TaskScores], index: list[int]) -> bool:
    first = parts[0]
    return all(
        part.present[i].all()
        and np.array_equal(part.samples, first.samples)
        and np.array_equal(part.seeds, first.seeds)
        for part, i in zip(parts, index, strict=True)
    )


def _rows(scores: TaskScores, model: int) -> dict[tuple[str, int], int]:
    """Where each (sample id, seed) that the model has stands."""
    places = np.flatnonzero(scores.present[model])
    keys = zip(scores.samples[places].tolist(), scores.seeds[places].tolist(), strict=True)
    return dict(zip(keys, places.tolist(), strict=True))


def _difference(
    name: str,
    entrants: tuple[Entrant, ...],
    rows: list[dict[tuple[str, int], int]],
    common: list[tuple[str, int]],
    *,
    intersect: bool,
) -> str:
    """How sample sets differ: a note if the rows in common are wanted, else an error."""
    by_size = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    most, least = by_size[0], by_size[-1]
    text = (
        f"{name}: {entrants[most].label} has {len(rows[most])} (sample, seed) rows, "
        f"{entrants[least].label} has {len(rows[least])}, {len(common)} are common to all"
    )
    if not intersect or not common:
        sample, seed = min(set().union(*rows) - set(common))
        mend = "run what is missing, or pass --intersect" if common else "the runs have no sample in common"
        raise NotComparableError(f"sample sets differ: {text}; sample {sample} seed {seed} is not", mend)
    return f"compared on the rows in common; {text}"
