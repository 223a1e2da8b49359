"""Reads run directories into tables. A damaged run is refused: what is published must be what was run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from qk_bench.errors import DamagedRunError
from qk_bench.manifest import Manifest
from qk_bench.records import Outcome
from qk_bench.run.summary import read_manifest
from qk_bench.store import AGGREGATES, OUTCOMES, SCORES, TIMINGS, RunDirectory, read_lines

_SHA: Final = re.compile(r"[0-9a-f]{64}")
_TEXTS: Final = ("suite", "model", "task", "operation", "sample_id", "cluster", "metric", "status", "reason")
_OUTCOME: Final = tuple(name for name in Outcome.model_fields if name != "key")


@dataclass(frozen=True)
class Run:
    """One run directory as tables.

    Attributes:
        directory: The folder.
        manifest: Its manifest.
        label: What the run is called on the site: date and time it began, and the first digits of its spec's hash.
        scores: Rows of `scores.parquet`; texts are categories.
        aggregates: Rows of `aggregates.parquet`.
        outcomes: Lines of `outcomes.jsonl`.
    """

    directory: RunDirectory
    manifest: Manifest
    label: str
    scores: pd.DataFrame
    aggregates: pd.DataFrame
    outcomes: pd.DataFrame

    @property
    def started(self) -> str:
        """When the run began, UTC, ISO 8601."""
        return self.manifest.sessions[0].started if self.manifest.sessions else ""

    @property
    def finished(self) -> bool:
        """Whether every request has an outcome and a score."""
        return self.manifest.status == "complete"

    @property
    def done(self) -> int:
        """How many requests have an outcome."""
        return sum(n for counts in self.manifest.counts.values() for n in counts.values())

    def timings(self) -> pd.DataFrame:
        """Lines of `timings.jsonl` with `model`, `suite`, `task`, and `seconds` an image (of its batch, divided).

        Requests that gave no image are left out: a failure at once would look fast.
        """
        identity = ["model", "suite", "task", "sample_id", "seed"]
        failed = set(self.outcomes.loc[self.outcomes["status"] != "ok", identity].itertuples(index=False, name=None))
        names = ("model", "suite", "task", "seconds", "peak", "device_peak")
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for line in _json_lines(self.directory.path / TIMINGS):
            if tuple(line[name] for name in identity) in failed:
                continue
            columns["model"].append(line["model"])
            columns["suite"].append(line["suite"])
            columns["task"].append(line["task"])
            columns["seconds"].append(line["seconds"] / max(1, line["requests"]))
            columns["peak"].append(line.get("peak_memory_bytes"))
            columns["device_peak"].append(line.get("device_peak_memory_bytes"))
        return pd.DataFrame(columns)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read runs, the oldest first; a run that is named twice is read once.

    Raises:
        DamagedRunError: A folder is not a run, is damaged, or holds nothing yet.
    """
    runs = [_read_run(path) for path in dict.fromkeys(path.resolve() for path in paths)]
    runs.sort(key=lambda run: (run.started, run.manifest.digest))
    return runs


def _read_run(path: Path) -> Run:
    directory = RunDirectory(path)
    manifest = read_manifest(directory)
    for name, sha in manifest.files.items():
        if directory.file_digest(name) != sha:
            raise DamagedRunError(
                f"{path / name} is not the file the run wrote", "restore it, or run the command that made it again"
            )
    scores, outcomes = _scores(path / SCORES), _outcomes(path / OUTCOMES)
    if not len(scores):
        raise DamagedRunError(f"{path / SCORES} holds no score yet", "run the command that made it again")
    started = manifest.sessions[0].started if manifest.sessions else ""
    return Run(
        directory=directory,
        manifest=manifest,
        label=f"{started[:16].replace('T', ' ')} {manifest.spec_digest[:8]}".strip(),
        scores=scores,
        aggregates=pq.read_table(path / AGGREGATES).to_pandas() if (path / AGGREGATES).exists() else pd.DataFrame(),
        outcomes=outcomes,
    )


def _scores(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise DamagedRunError(f"{path} is not there: the run has no scores yet", "run the command that made it again")
    try:
        table = pq.read_table(path, read_dictionary=list(_TEXTS))
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedRunError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    frame: pd.DataFrame = table.drop_columns(["suite_version", "split", "resolution"]).to_pandas()
    return frame


def _outcomes(path: Path) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in _OUTCOME}
    for line in _json_lines(path):
        if line.get("image") is not None and not _SHA.fullmatch(str(line["image"])):
            raise DamagedRunError(f"{path}: {line['image']!r} is not the hash of an image")
        for name in _OUTCOME:
            columns[name].append(line.get(name))
    if not columns["status"]:
        raise DamagedRunError(f"{path} holds no outcome yet", "run the command that made it again")
    frame = pd.DataFrame(columns)
    return frame.drop_duplicates(["model", "suite", "task", "sample_id", "seed"])


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; a torn last one is what a kill left of the request in flight."""
    for _, line in read_lines(path):
        if line.endswith(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                raise DamagedRunError(f"{path} holds a line that is not JSON") from None
