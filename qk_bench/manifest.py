"""What describes a run as a whole: the spec that decides its content, and the manifest of how it went.

The spec is hashed: two folders with the same spec hash hold the same outcomes and scores. What is measured, and where
and when it ran, is in the rest of the manifest and never in the spec.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, JsonValue

from qk_bench.records import (
    Kind,
    MetricColumn,
    ModelCard,
    Outcome,
    Record,
    Request,
    Sample,
    Score,
    ScoreStatus,
    Verdict,
)

FORMAT = "qk-bench run"
FORMAT_VERSION = 1


def canonical(value: Any) -> bytes:
    """A JSON value as the bytes that are hashed: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """The sha256 of a JSON value, as 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


class ModelSpec(Record):
    """A model of a run: how it was named and what it declared."""

    ref: str = Field(description="as named on the command line: NAME, NAME:ARGUMENT or path/to/file.py:ClassName")
    code: str = Field(default="", description="sha256 of the file, of a model named by file")
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="keyword arguments of its constructor")
    card: ModelCard


class SuiteSpec(Record):
    """A suite of a run, the hash of everything that decides its samples, and which rules judged the outputs."""

    ref: str
    name: str
    version: str
    digest: str
    verifier: str = Field(
        default="",
        description="version of the rules that decide success, and the sha256 of the file, of a suite named by file; "
        "empty in runs that were made before it was recorded",
    )
    own_size: bool = Field(default=False, description="true if its samples keep the size of their pictures")

    def size(self, resolution: int) -> str:
        """How large its samples are in a run of a resolution, in words."""
        return "own sizes" if self.own_size else f"{resolution} px"


class TaskSpec(Record):
    """A task of a run and which of its samples are in it."""

    suite: str
    task: str
    kind: Kind = "edit"
    indices: tuple[tuple[int, int], ...] = Field(description="ranges of sample indices, [start, stop)")
    diagnostic: bool = Field(default=False, description="true if it is no part of what the suite scores")


class MetricSpec(Record):
    """A metric of a run and the columns of values it produces."""

    ref: str
    code: str = Field(default="", description="sha256 of the file, of a metric named by file")
    whole_set: bool = Field(default=False, description="true if it judges a whole set: its values are aggregates")
    kinds: tuple[Kind, ...] = Field(description="kinds of task it applies to")
    columns: tuple[MetricColumn, ...]


class RunSpec(Record):
    """Everything that decides what a run's outcomes and scores are."""

    suites: tuple[SuiteSpec, ...]
    tasks: tuple[TaskSpec, ...]
    models: tuple[ModelSpec, ...]
    metrics: tuple[MetricSpec, ...]
    seeds: tuple[int, ...] = Field(description="seed indices")
    split: str
    resolution: int = Field(gt=0, description="pixels a side")
    timeout: float | None = Field(default=None, gt=0, description="seconds a request may take")

    def digest(self) -> str:
        """The sha256 of the spec.

        How a model or a suite was named is left out, since the same file may be named in two ways, and `own_size` and
        `diagnostic`, which the suite's own digest implies.
        """
        implied = {
            "models": {"__all__": {"ref"}},
            "suites": {"__all__": {"ref", "own_size"}},
            "tasks": {"__all__": {"diagnostic"}},
        }
        spec = self.model_dump(mode="json", exclude=implied)
        for suite in spec["suites"]:
            if not suite["verifier"]:
                del suite["verifier"]  # a run from before it was recorded keeps its hash
        return digest(spec)

    def unjudged(self) -> RunSpec:
        """The same without the verifiers: what decides the outcomes, not the scores."""
        suites = tuple(suite.model_copy(update={"verifier": ""}) for suite in self.suites)
        return self.model_copy(update={"suites": suites})

    @property
    def sizes(self) -> str:
        """How large the samples are, in words: `64 px`, `own sizes`, or both."""
        return ", ".join(dict.fromkeys(suite.size(self.resolution) for suite in self.suites))


class Session(Record):
    """One process that worked on the run; a run that was resumed has several."""

    command: str
    versions: dict[str, str] = Field(default_factory=dict, description="of what decides pixels and numbers")
    git: dict[str, JsonValue] = Field(default_factory=dict, description="of the checkout; empty if there is none")
    hardware: dict[str, JsonValue] = Field(default_factory=dict)
    started: str = Field(description="UTC, ISO 8601")
    finished: str | None = Field(default=None, description="null if it was killed")
    wall_seconds: float | None = None
    cpu_seconds: float | None = Field(default=None, description="of the main process and its workers")
    peak_memory_bytes: int | None = Field(default=None, description="of the main process")
    worker_peak_memory_bytes: dict[str, int] = Field(default_factory=dict, description="per model")
    batch_sizes: dict[str, dict[int, int]] = Field(
        default_factory=dict,
        description="of each model that ran out of memory at the batch size of its card: how many requests were "
        "answered at which batch size",
    )
    usage: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="what models say they used, such as calls and cost, per model"
    )


class Manifest(Record):
    """`manifest.json`: the spec, where and how the run went, and what came of it."""

    format: Literal["qk-bench run"] = "qk-bench run"
    format_version: int = FORMAT_VERSION
    status: Literal["running", "partial", "complete"]
    spec_digest: str
    spec: RunSpec
    requests: int = Field(description="planned")
    counts: dict[str, dict[str, int]] = Field(default_factory=dict, description="outcomes per model and status")
    unavailable_metrics: dict[str, str] = Field(default_factory=dict, description="metric: why it cannot run here")
    sessions: tuple[Session, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict, description="of the last session, and of all that scored")
    git: dict[str, JsonValue] = Field(default_factory=dict, description="of the last session")
    hardware: dict[str, JsonValue] = Field(default_factory=dict, description="of the last session")
    files: dict[str, str] = Field(
        default_factory=dict, description="sha256 of the files as the last session left them; empty until it ends"
    )
    digest: str = Field(default="", description="sha256 of this record without this field")

    def sealed(self) -> Manifest:
        """The manifest with `digest` filled, so that a later edit shows."""
        return self.model_copy(update={"digest": _seal(json.loads(self.model_dump_json()))})

    def is_intact(self, stored: dict[str, Any]) -> bool:
        """Whether nothing was changed since it was sealed.

        Args:
            stored: What its file holds: a file that was written before this record got another field is whole, too.
        """
        return self.digest == _seal(stored) and self.spec_digest == self.spec.digest()


def _seal(stored: dict[str, Any]) -> str:
    return digest({name: value for name, value in stored.items() if name != "digest"})


class Timing(Record):
    """What one request cost. One line of `timings.jsonl`."""

    model: str
    suite: str
    task: str
    sample_id: str
    seed: int
    seconds: float = Field(ge=0, lt=1e9, description="inside the adapter, for the whole batch")
    requests: int = Field(ge=1, description="requests of the batch that were not padding")
    peak_memory_bytes: int | None = Field(description="of the worker process so far")
    device_peak_memory_bytes: int | None = Field(default=None, description="of the accelerator so far")


class Aggregate(Record):
    """One metric of a whole set of outputs: one row of `aggregates.parquet`."""

    suite: str
    suite_version: str
    split: str
    resolution: int
    model: str
    task: str
    metric: str = Field(description="id of the value: its column's id, completed with what only the set tells")
    column: str = Field(description="id of the metric's column, as declared in the spec")
    value: float | None
    low: float | None
    high: float | None
    n: int
    status: ScoreStatus
    reason: str = ""


RECORDS: dict[str, type[Record]] = {
    record.__name__: record
    for record in (
        Sample,
        Request,
        ModelCard,
        Outcome,
        Verdict,
        Score,
        Aggregate,
        Timing,
        MetricColumn,
        RunSpec,
        Manifest,
    )
}
"""The public records, whose JSON Schema `qkbench schema` prints."""
