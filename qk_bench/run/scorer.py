"""A scoring process.

Messages in: `Open`, then `ScoreBlock` or `ScoreSet`. Messages out: one `Scored…` for each, or `ScoringFailed`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from qk_bench.errors import DamagedRunError, QKBenchError, one_line
from qk_bench.interfaces import SetValue
from qk_bench.manifest import RunSpec
from qk_bench.records import ScoreStatus
from qk_bench.run.channel import Parent
from qk_bench.run.plan import segments_of
from qk_bench.run.score import Scorer
from qk_bench.store import OUTCOMES, LineReader, RunDirectory


@dataclass(frozen=True)
class Open:
    """Load what scores a run."""

    spec: RunSpec
    folder: Path


@dataclass(frozen=True)
class ScoreBlock:
    """Score the outcomes whose lines start at `offsets`."""

    segment: int
    block: int
    offsets: tuple[int, ...]
    earlier: bytes = b""  # the block's line of the journal, if only its judge errors are to be scored again


@dataclass(frozen=True)
class ScoreSet:
    """Compute a metric over all outcomes of a segment; -1 marks a request without one."""

    segment: int
    metric: int
    offsets: array[int]


@dataclass(frozen=True)
class BlockScored:
    """A block's line of the journal."""

    segment: int
    block: int
    line: bytes
    unavailable: dict[str, str] = field(default_factory=dict)  # metrics that could not be loaded, and why


@dataclass(frozen=True)
class SetScored:
    """The (value, status) of each column."""

    segment: int
    metric: int
    values: list[tuple[SetValue, ScoreStatus]]
    unavailable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoringFailed:
    """Scoring cannot go on."""

    message: str
    mend: str
    damaged: bool


def main() -> None:
    """Score what the parent asks for until it has no more."""
    parent = Parent()
    job: Open = parent.receive()
    try:
        segments = segments_of(job.spec)
        outcomes = LineReader(job.folder / OUTCOMES)
        scorer = Scorer(job.spec, RunDirectory(job.folder))
        while True:
            match parent.receive():
                case ScoreBlock(segment, block, offsets, earlier):
                    lines = [outcomes.read(offset) for offset in offsets]
                    line = scorer.block(segments[segment], block, lines, earlier)
                    parent.send(BlockScored(segment, block, line, dict(scorer.unavailable)))
                case ScoreSet(segment, metric, places):
                    rows = (outcomes.read(offset) for offset in places if offset >= 0)
                    values = scorer.whole_set(job.spec.metrics[metric], rows)
                    parent.send(SetScored(segment, metric, values, dict(scorer.unavailable)))
    except QKBenchError as error:
        parent.send(ScoringFailed(error.message, error.mend, isinstance(error, DamagedRunError)))
    except Exception as error:
        parent.send(ScoringFailed(f"scoring failed: {one_line(error)}", "", False))
