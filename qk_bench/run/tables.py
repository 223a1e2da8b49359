"""`scores.parquet` and `aggregates.parquet`: the journal of scores, merged in plan order.

The order of rows and of row groups depends on the plan alone, so the file is the same byte for byte however the run
was ordered, interrupted or spread over processes (for one version of pyarrow).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qk_bench.interfaces import SetValue
from qk_bench.manifest import Aggregate, RunSpec, digest
from qk_bench.records import JUDGE_ERROR, ScoreStatus
from qk_bench.run.plan import Segment
from qk_bench.run.score import columns_of, lines_digest
from qk_bench.store import AGGREGATES, JOURNAL, SCORES, LineReader, RunDirectory, read_lines, writing

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 1 << 16
"""A row group is written as soon as it has this many rows; what is held in memory does not grow with the run."""


def warm_up() -> None:
    """Import what writes tables. Called beside the first requests, so that the end of a run need not wait for it."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.array([""])  # the first conversion looks for pandas, and imports it where it is installed


class Journal:
    """Where the scores of each block are in `scores.jsonl`: the last line of a block counts.

    Args:
        segments: The plan.
        outcomes: For each segment and position, where its outcome starts; -1 where there is none.
    """

    judge_errors: set[tuple[int, int]]
    """The (segment, block) of those in which a score is a `judge_error`."""

    def __init__(self, run: RunDirectory, segments: Sequence[Segment], outcomes: Sequence[array[int]]) -> None:
        self._run, self._segments, self._outcomes = run, segments, outcomes
        self._offsets = [array("q", [-1]) * segment.blocks for segment in segments]
        self.judge_errors = set()

    def load(self, outcomes: LineReader) -> None:
        """Read what an earlier session has scored; lines that no longer fit their outcomes are passed over."""
        for offset, line in read_lines(self._run.path / JOURNAL):
            try:
                entry = json.loads(line)
                if entry.pop("digest") != digest(entry):
                    continue
                segment, block = self._segments[entry["segment"]], entry["block"]
                lines = [outcomes.read(place) for place in self.places(segment, block) if place >= 0]
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                continue
            if len(lines) == len(segment.block(block)) and lines_digest(lines) == entry["outcomes"]:
                self._enter(segment.number, block, offset, entry)

    def places(self, segment: Segment, block: int) -> array[int]:
        """Where the outcomes of a block start."""
        positions = segment.block(block)
        return self._outcomes[segment.number][positions.start : positions.stop]

    def has(self, segment: Segment, block: int) -> bool:
        """Whether a block is scored."""
        return self._offsets[segment.number][block] >= 0

    def line(self, segment: int, block: int) -> bytes:
        """What was last entered of a block; empty if it is not scored."""
        offset = self._offsets[segment][block]
        return self._run.journal.read(offset) if offset >= 0 else b""

    def append(self, segment: int, block: int, line: bytes) -> None:
        """Write the line of a block."""
        self._enter(segment, block, self._run.journal.append(line), json.loads(line))

    def _enter(self, segment: int, block: int, offset: int, entry: dict[str, Any]) -> None:
        self._offsets[segment][block] = offset
        if any(status == JUDGE_ERROR for item in entry["items"] for _, status, _ in item["scores"]):
            self.judge_errors.add((segment, block))
        else:
            self.judge_errors.discard((segment, block))

    @property
    def complete(self) -> bool:
        """Whether every block is scored."""
        return all(offset >= 0 for offsets in self._offsets for offset in offsets)

    def entries(self, journal: LineReader) -> Iterator[tuple[Segment, dict[str, Any]]]:
        """The scored blocks in plan order."""
        for segment, offsets in zip(self._segments, self._offsets, strict=True):
            for offset in offsets:
                if offset >= 0:
                    yield segment, json.loads(journal.read(offset))


def score_schema() -> pa.Schema:
    """The columns of `scores.parquet`: the fields of `Score`."""
    import pyarrow as pa

    text = ("suite", "suite_version", "split")
    return pa.schema(
        [(name, pa.string()) for name in text]
        + [("resolution", pa.int32())]
        + [(name, pa.string()) for name in ("model", "task", "operation", "sample_id", "cluster")]
        + [("seed", pa.int32()), ("metric", pa.string()), ("value", pa.float64())]
        + [("status", pa.string()), ("reason", pa.string())]
    )


def score_batches(spec: RunSpec, entries: Iterable[tuple[Segment, dict[str, Any]]]) -> Iterator[pa.Table]:
    """The rows of scored blocks, as tables of about `GROUP_ROWS` rows."""
    import pyarrow as pa

    schema = score_schema()
    versions = {suite.name: suite.version for suite in spec.suites}
    rows: dict[str, list[Any]] = {name: [] for name in schema.names}
    for segment, entry in entries:
        task = segment.task
        columns = [column.id for _, column in columns_of(spec, task.kind)]
        same = (task.suite, versions[task.suite], spec.split, spec.resolution, segment.model.card.name, task.task)
        for item in entry["items"]:
            own = (item["operation"], item["sample_id"], item["cluster"], item["seed"])
            for metric, score in zip(columns, item["scores"], strict=True):
                for name, value in zip(schema.names, (*same, *own, metric, *score), strict=True):
                    rows[name].append(value)
        if len(rows["value"]) >= GROUP_ROWS:
            yield pa.table(rows, schema=schema)
            rows = {name: [] for name in schema.names}
    if rows["value"]:
        yield pa.table(rows, schema=schema)


def has_judge_errors(run: RunDirectory) -> bool:
    """Whether a score in `scores.parquet` is a `judge_error`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(run.path / SCORES) as file:
        batches = file.iter_batches(columns=["status"])
        return any(JUDGE_ERROR in batch["status"].unique().to_pylist() for batch in batches)


def write_scores(spec: RunSpec, run: RunDirectory, journal: Journal) -> None:
    """Write `scores.parquet` from the journal, a row group at a time."""
    _write(run.path / SCORES, score_schema(), score_batches(spec, journal.entries(run.journal)))


def write_aggregates(
    spec: RunSpec,
    run: RunDirectory,
    segments: Sequence[Segment],
    values: Mapping[tuple[int, int], Sequence[tuple[SetValue, ScoreStatus]]],
) -> None:
    """Write `aggregates.parquet`.

    Args:
        spec: The run's spec.
        run: Its folder.
        segments: Its plan.
        values: The (value, status) of each column by (segment, metric), both as numbered in the plan and the spec.
    """
    import pyarrow as pa

    versions = {suite.name: suite.version for suite in spec.suites}
    rows = [
        Aggregate(
            suite=segments[segment].task.suite,
            suite_version=versions[segments[segment].task.suite],
            split=spec.split,
            resolution=spec.resolution,
            model=segments[segment].model.card.name,
            task=segments[segment].task.task,
            metric=value.id or column.id,
            column=column.id,
            value=value.value,
            low=value.low,
            high=value.high,
            n=value.n,
            status=status,
            reason=value.reason,
        )
        for (segment, metric), columns in sorted(values.items())
        for column, (value, status) in zip(spec.metrics[metric].columns, columns, strict=True)
    ]
    text = {"suite", "suite_version", "split", "model", "task", "metric", "column", "status", "reason"}
    types = {"resolution": pa.int32(), "n": pa.int64()}
    schema = pa.schema(
        [(name, pa.string() if name in text else types.get(name, pa.float64())) for name in Aggregate.model_fields]
    )
    table = pa.Table.from_pylist([row.model_dump() for row in rows], schema=schema)
    _write(run.path / AGGREGATES, schema, [table])


def _write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=len(table) or None)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
