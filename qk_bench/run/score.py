"""Scores outcomes: a pure function of the spec, the outcome lines and the stored images.

A block of outcomes becomes one line of the journal (`scores.jsonl`):

    {"segment": 0, "block": 3, "outcomes": "<sha256 of its outcome lines>",
     "items": [{"sample_id", "operation", "cluster", "seed", "scores": [[value, status, reason], …]}, …],
     "digest": "<sha256 of the rest>"}

with one entry of `scores` per column of `columns_of`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qk_bench.errors import DamagedRunError, QKBenchError, one_line
from qk_bench.images import resample
from qk_bench.interfaces import Metric, SampleMetric, Scored, SetMetric, SetValue, Task, Value
from qk_bench.manifest import MetricSpec, RunSpec, canonical, digest
from qk_bench.metrics.success import Success
from qk_bench.plugins import load_metric, load_suite
from qk_bench.records import JUDGE_ERROR, Kind, MetricColumn, Outcome, Sample, ScoreStatus
from qk_bench.run.plan import SampleReader, Segment, card_digest, noise_seed, outcome_key
from qk_bench.safe_read import WeightsError
from qk_bench.store import RunDirectory
from qk_bench.text import plain

Cell = tuple[float | None, ScoreStatus, str]
"""Value, status and reason."""
PIXELS_AT_ONCE = 1 << 22
"""A metric is handed at most this many pixels of output in one call: 64 images of 256 pixels a side, 4 of 1024."""


def columns_of(spec: RunSpec, kind: Kind) -> list[tuple[MetricSpec, MetricColumn]]:
    """The columns of values that each outcome of a task of this kind has."""
    metrics = [metric for metric in spec.metrics if not metric.whole_set and kind in metric.kinds]
    return [(metric, column) for metric in metrics for column in metric.columns]


def load_tasks(spec: RunSpec) -> dict[tuple[str, str], Task]:
    """The tasks of a spec by (suite, task)."""
    suites = {suite.name: load_suite(suite.ref) for suite in spec.suites}
    return {(task.suite, task.task): suites[task.suite].tasks[task.task] for task in spec.tasks}


@dataclass(frozen=True)
class _Entry:
    """An outcome beside its sample; `scored` is None where there is no image."""

    outcome: Outcome
    sample: Sample
    scored: Scored | None


class Scorer:
    """Scores the outcomes of one run.

    Args:
        spec: The run's spec.
        run: The run's folder, which holds the images.
    """

    def __init__(self, spec: RunSpec, run: RunDirectory) -> None:
        self._spec, self._run = spec, run
        self._tasks = load_tasks(spec)
        self._metrics: dict[str, Metric] = {metric.ref: load_metric(metric.ref) for metric in spec.metrics}
        self._cards = {model.card.name: card_digest(model.card) for model in spec.models}
        self._readers: dict[tuple[str, str], SampleReader] = {}
        self.unavailable: dict[str, str] = {}
        """Metrics whose weights could not be loaded, and the mend."""

    def block(self, segment: Segment, number: int, lines: Sequence[bytes], earlier: bytes = b"") -> bytes:
        """The journal line of a block.

        Args:
            segment: Where the block is.
            number: Which it is.
            lines: Its outcomes.
            earlier: Its journal line of before; scores in it that are no `judge_error` are kept. Empty if there is none.

        Raises:
            DamagedRunError: An image is not what it was, or a sample is not the one that was asked.
        """
        entries = [self._entry(Outcome.model_validate_json(line)) for line in lines]
        known = [item["scores"] for item in json.loads(earlier)["items"]] if earlier else [[] for _ in entries]
        scores: list[list[Cell]] = [[] for _ in entries]
        start = 0
        for metric in self._spec.metrics:
            if not metric.whole_set and segment.task.kind in metric.kinds:
                stop = start + len(metric.columns)
                values = self._values(metric, entries, [row[start:stop] for row in known])
                for row, cells in zip(scores, values, strict=True):
                    row += cells
                start = stop
        items = [
            {
                "sample_id": entry.sample.id,
                "operation": entry.sample.operation,
                "cluster": entry.sample.cluster,
                "seed": entry.outcome.seed,
                "scores": row,
            }
            for entry, row in zip(entries, scores, strict=True)
        ]
        entry = {"segment": segment.number, "block": number, "outcomes": lines_digest(lines), "items": items}
        return canonical({**entry, "digest": digest(entry)})

    def whole_set(self, metric: MetricSpec, lines: Iterator[bytes]) -> list[tuple[SetValue, ScoreStatus]]:
        """The (value, status) of each column of a set metric over the outcomes of a segment."""
        judge = self._metrics[metric.ref]
        assert isinstance(judge, SetMetric)
        failed = 0

        def items() -> Iterator[Any]:
            nonlocal failed
            for line in lines:
                entry = self._entry(Outcome.model_validate_json(line))
                failed += entry.scored is None
                item = entry.scored or (entry.sample if judge.takes_failed else None)
                if item is not None and not _lacking(judge, entry.sample):
                    yield item

        try:
            values = list(judge.compute(items()))
            if len(values) != len(metric.columns):
                raise ValueError(f"gave {len(values)} values for {len(metric.columns)} columns")
            values = [_readable_of_set(value) for value in values]
        except WeightsError as error:
            return [(SetValue(None, None, None, 0, self._give_up(metric, error)), "unavailable")] * len(metric.columns)
        except QKBenchError:
            raise
        except Exception as error:
            nothing = SetValue(None, None, None, 0, f"metric failed: {one_line(error)}")
            return [(nothing, "unavailable")] * len(metric.columns)
        left_out = f"{failed} failed outcomes left out" if failed else ""
        return [
            (
                dataclasses.replace(value, reason="; ".join(filter(None, [value.reason, left_out]))),
                "unavailable" if value.value is None else "ok",
            )
            for value in values
        ]

    def _entry(self, outcome: Outcome) -> _Entry:
        name = (outcome.suite, outcome.task)
        reader = self._readers.get(name)
        if reader is None:
            reader = SampleReader(self._tasks[name], self._spec.split, self._spec.resolution)
            self._readers[name] = reader
        sample, content = reader.read(outcome.index)
        seed = noise_seed(sample.suite, sample.id, outcome.seed)
        if outcome.sample_id != sample.id or outcome.key != outcome_key(self._cards[outcome.model], content, seed):
            raise DamagedRunError(
                f"{self._run.path}: sample {outcome.sample_id} is not the one its outcome was made from; "
                f"suite {outcome.suite} has changed",
                "start over with --fresh",
            )
        if outcome.image is None:
            return _Entry(outcome, sample, None)
        returned = self._run.read_image(outcome.image)
        image = resample(returned, sample.width, sample.height)
        return _Entry(outcome, sample, Scored(sample, image, outcome.seed, self._tasks[name], returned))

    def _values(self, metric: MetricSpec, entries: Sequence[_Entry], known: Sequence[list[Cell]]) -> list[list[Cell]]:
        """For each entry the (value, status, reason) of each column of a metric; those known are kept."""
        judge, width = self._metrics[metric.ref], len(metric.columns)
        assert isinstance(judge, SampleMetric)
        rows: list[list[Cell]] = []
        usable: list[tuple[int, Scored]] = []
        for entry, cells in zip(entries, known, strict=True):
            lacking = _lacking(judge, entry.sample)
            task = self._tasks[(entry.outcome.suite, entry.outcome.task)]
            if cells and all(status != JUDGE_ERROR for _, status, _ in cells):
                rows.append(cells)
            elif entry.scored is None and isinstance(judge, Success) and not task.decides:
                rows.append(
                    [(None, "unavailable", f"{task.suite} has no rule that tells success from the pixels")] * width
                )
            elif entry.scored is None:
                rows.append([(None, entry.outcome.status, entry.outcome.detail)] * width)
            elif lacking:
                rows.append([(None, "unavailable", f"the sample has no {lacking}")] * width)
            else:
                usable.append((len(rows), entry.scored))
                rows.append([])
        for chunk in _chunks(usable):
            for (row, _), values in zip(chunk, self._judge(metric, judge, [item for _, item in chunk]), strict=True):
                rows[row] = [_finite(value) for value in values]
        return rows

    def _judge(self, metric: MetricSpec, judge: SampleMetric, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """A metric's values; none where its weights turned out to be missing or not the pinned ones."""
        width = len(metric.columns)
        if metric.ref not in self.unavailable:
            try:
                return compute_each(judge, width, items)
            except WeightsError as error:
                self._give_up(metric, error)
        return [(Value(None, self.unavailable[metric.ref]),) * width for _ in items]

    def _give_up(self, metric: MetricSpec, error: WeightsError) -> str:
        return self.unavailable.setdefault(metric.ref, str(error))


def _chunks(items: Sequence[tuple[int, Scored]]) -> Iterator[Sequence[tuple[int, Scored]]]:
    """Runs of items of at most `PIXELS_AT_ONCE` pixels together, or single ones that are larger."""
    start = pixels = 0
    for end, (_, item) in enumerate(items):
        size = item.sample.width * item.sample.height
        if end > start and pixels + size > PIXELS_AT_ONCE:
            yield items[start:end]
            start, pixels = end, 0
        pixels += size
    if items:
        yield items[start:]


def lines_digest(lines: Sequence[bytes]) -> str:
    """The sha256 of outcome lines: what ties a journal line to what it scored."""
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def compute_each(judge: SampleMetric, width: int, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
    """A metric's values; when it fails on several items, each is tried alone so that only the guilty one has none.

    Raises:
        WeightsError: The metric's weights are missing or not the pinned ones.
    """
    try:
        values = judge.compute(items)
        if len(values) != len(items) or any(len(row) != width for row in values):
            raise ValueError(f"the metric must give {len(items)} rows of {width} values")
        values = [tuple(_readable(value) for value in row) for row in values]
    except WeightsError:  # it would fail alike on every item
        raise
    except Exception as error:
        if len(items) > 1:
            return [row for item in items for row in compute_each(judge, width, [item])]
        return [(Value(None, f"metric failed: {one_line(error)}"),) * width]
    return values


def _readable(value: Value) -> Value:
    """A metric's value as a number and a line that every table can hold."""
    if not isinstance(value, Value):
        raise TypeError(f"the metric gave a {type(value).__name__}, not a Value")
    number = None if value.value is None else float(value.value)
    return Value(number, plain(str(value.reason)), value.status)


def _readable_of_set(value: SetValue) -> SetValue:
    if not isinstance(value, SetValue):
        raise TypeError(f"the metric gave a {type(value).__name__}, not a SetValue")
    value_, low, high = (None if number is None else float(number) for number in (value.value, value.low, value.high))
    return SetValue(value_, low, high, int(value.n), plain(str(value.reason)), plain(str(value.id)))


def _finite(value: Value) -> Cell:
    if value.value is None:
        return None, value.status, value.reason
    number = value.value
    return (None, "unavailable", value.reason or "not a number") if math.isnan(number) else (number, "ok", value.reason)


def _lacking(judge: Metric, sample: Sample) -> str:
    fields: dict[str, Any] = {"source": sample.source, "target": sample.target, "edit_mask": sample.edit_mask}
    return ", ".join(name for name in sorted(judge.needs) if fields[name] is None)
