"""Reads the scores of a run directory into arrays, one column per (sample, seed)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.manifest import Aggregate, Manifest
from qk_bench.records import FAILURES, SUCCESS, MetricColumn, ModelCard
from qk_bench.stats import cluster_codes
from qk_bench.store import AGGREGATES, OUTCOMES, SCORES, RunDirectory, read_lines

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TaskScores:
    """All scores of some models on one task, aligned: row i of every array is the same (sample, seed).

    Attributes:
        suite: Name of the suite.
        task: Name of the task.
        samples: (n,) sample ids.
        seeds: (n,) seed indices.
        clusters: (n,) cluster labels.
        values: By metric, (M, n) values, NaN where there is none. Failed outcomes are 0 for success.
        failed: (M, n) whether the outcome is a failure of the model.
        present: (M, n) whether the run holds the row at all.
    """

    suite: str
    task: str
    samples: NDArray[np.str_]
    seeds: NDArray[np.int64]
    clusters: NDArray[np.str_]
    values: dict[str, Floats]
    failed: NDArray[np.bool_]
    present: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> TaskScores:
        """The same with these rows only, in this order."""
        return replace(
            self,
            samples=self.samples[rows],
            seeds=self.seeds[rows],
            clusters=self.clusters[rows],
            values={name: v[:, rows] for name, v in self.values.items()},
            failed=self.failed[:, rows],
            present=self.present[:, rows],
        )


@dataclass(frozen=True)
class Run:
    """A run directory as far as comparisons need it."""

    path: Path
    manifest: Manifest
    models: tuple[str, ...]
    tasks: dict[tuple[str, str], TaskScores]
    aggregates: tuple[dict[str, Any], ...]

    def card(self, model: str) -> ModelCard:
        """What a model declared."""
        return next(m.card for m in self.manifest.spec.models if m.card.name == model)

    @property
    def columns(self) -> dict[str, MetricColumn]:
        """The declared metric columns by id."""
        return {c.id: c for metric in self.manifest.spec.metrics for c in metric.columns}

    @property
    def metric_code(self) -> dict[str, str]:
        """By column id, the sha256 of the file that computed it; empty for a metric that was not named by file."""
        return {c.id: metric.code for metric in self.manifest.spec.metrics for c in metric.columns}


def load_run(path: Path) -> Run:
    """Read a finished run.

    Raises:
        UsageError: The folder does not exist.
        DamagedRunError: It is not a run, is not finished, or its scores cannot be read.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder", "name a folder that `qkbench run` wrote")
    manifest = RunDirectory(path).read_manifest()
    if manifest is None:
        raise DamagedRunError(f"{path} is not a run: it has no manifest.json", "name a folder that `qkbench run` wrote")
    if not (path / SCORES).is_file():
        raise DamagedRunError(f"{path} has no {SCORES}: the run is {manifest.status}", "run the same command again")
    for name in (SCORES, AGGREGATES, OUTCOMES):
        if name in manifest.files and _sha256(path / name) != manifest.files[name]:
            raise DamagedRunError(f"{path / name} is not what the run wrote", "run the same command again")
    models = tuple(m.card.name for m in manifest.spec.models)
    return Run(path, manifest, models, _tasks(path / SCORES, models), _aggregates(path / AGGREGATES))


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tasks(path: Path, models: tuple[str, ...]) -> dict[tuple[str, str], TaskScores]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = ["suite", "task", "model", "sample_id", "cluster", "metric", "status"]
    try:
        table = pq.read_table(path, columns=[*text, "seed", "value"], read_dictionary=text)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DamagedRunError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    table = table.combine_chunks().unify_dictionaries()
    coded = {name: _codes(table[name]) for name in text}
    seeds = table["seed"].to_numpy().astype(np.int64)
    values = table["value"].to_numpy().astype(np.float64)
    if unknown := set(coded["model"][1]) - set(models):
        raise DamagedRunError(f"{path}: model {sorted(unknown)[0]} is not in the manifest")

    result = {}
    suite_codes, suite_names = coded["suite"]
    task_codes, task_names = coded["task"]
    for s, t in sorted({(int(s), int(t)) for s, t in np.unique(np.stack([suite_codes, task_codes]), axis=1).T}):
        here = np.flatnonzero((suite_codes == s) & (task_codes == t))
        part = {name: (codes[here], names) for name, (codes, names) in coded.items()}
        key = (suite_names[s], task_names[t])
        result[key] = _task(path, key, part, seeds[here], values[here], models)
    return result


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    array = column.combine_chunks()
    array = array.chunk(0) if hasattr(array, "chunk") else array
    return array.indices.to_numpy().astype(np.int64), array.dictionary.to_pylist()


def _task(
    path: Path,
    key: tuple[str, str],
    coded: dict[str, tuple[NDArray[np.int64], list[str]]],
    seeds: NDArray[np.int64],
    values: Floats,
    models: tuple[str, ...],
) -> TaskScores:
    """Turn the long rows of one task into arrays, models down and (sample, seed) across."""
    samples, sample_names = coded["sample_id"]
    order = np.argsort(np.array(sample_names, dtype=np.str_), kind="stable")  # rows in order of sample id, then seed
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    n_seeds = int(seeds.max()) + 1
    unique, first, row = np.unique(place[samples] * n_seeds + seeds, return_index=True, return_inverse=True)
    n_rows = unique.size
    names = coded["model"][1]
    model = np.array([models.index(name) for name in names], dtype=np.int64)[coded["model"][0]]
    metric, metric_names = coded["metric"]
    cell = (metric * len(models) + model) * n_rows + row
    if np.bincount(cell).max() > 1:
        raise DamagedRunError(f"{path}: a (model, sample, seed, metric) of {'/'.join(key)} has more than one score")
    status, status_names = coded["status"]
    failure = np.isin(np.array(status_names, dtype=np.str_), list(FAILURES))[status]
    cube = np.full((len(metric_names), len(models), n_rows), np.nan)
    cube.reshape(-1)[cell] = values
    failed = np.zeros((len(models), n_rows), dtype=np.bool_)
    failed[model[failure], row[failure]] = True
    present = np.zeros_like(failed)
    present[model, row] = True
    has_rows = np.zeros(len(metric_names), dtype=np.bool_)
    has_rows[metric] = True
    scores = {name: cube[i] for i, name in enumerate(metric_names) if has_rows[i]}
    if SUCCESS in scores:
        scores[SUCCESS][failed & np.isnan(scores[SUCCESS])] = 0.0
    cluster, cluster_names = coded["cluster"]
    return TaskScores(
        suite=key[0],
        task=key[1],
        samples=np.array(sample_names, dtype=np.str_)[samples[first]],
        seeds=seeds[first],
        clusters=np.array(cluster_names, dtype=np.str_)[cluster[first]],
        values=scores,
        failed=failed,
        present=present,
    )


def _aggregates(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, columns=[*Aggregate.model_fields]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DamagedRunError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return tuple(rows)


def image_hashes(run: Run, model: str) -> dict[tuple[str, str, str, int], str]:
    """What came back for each (suite, task, sample, seed): the hash of the image, or the name of the failure."""
    found = {}
    for offset, line in read_lines(run.path / OUTCOMES):
        try:
            outcome = json.loads(line)
            if outcome["model"] == model:
                key = (outcome["suite"], outcome["task"], outcome["sample_id"], outcome["seed"])
                found[key] = outcome["image"] or outcome["status"]
        except (ValueError, KeyError, TypeError):
            raise DamagedRunError(f"{run.path / OUTCOMES}: the line at byte {offset} is not an outcome") from None
    return found


def pooled(tasks: tuple[TaskScores, ...], name: str) -> TaskScores:
    """All tasks together; tasks of one suite share its clusters."""
    metrics = [m for m in tasks[0].values if all(m in t.values for t in tasks)]
    return TaskScores(
        suite=tasks[0].suite if len({t.suite for t in tasks}) == 1 else name,
        task=name,
        samples=np.concatenate([np.char.add(f"{t.suite}/{t.task}/", t.samples) for t in tasks]),
        seeds=np.concatenate([t.seeds for t in tasks]),
        clusters=np.concatenate([np.char.add(f"{t.suite}/", t.clusters) for t in tasks]),
        values={m: np.concatenate([t.values[m] for t in tasks], axis=1) for m in metrics},
        failed=np.concatenate([t.failed for t in tasks], axis=1),
        present=np.concatenate([t.present for t in tasks], axis=1),
    )


def codes_of(scores: TaskScores) -> NDArray[np.int64]:
    """(n,) cluster codes."""
    return cluster_codes(scores.clusters)
