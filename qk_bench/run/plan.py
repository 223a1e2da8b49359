"""From a spec to requests: which there are, in what order, and what identifies each.

A run is a list of segments, one per (model, task), models first. A segment numbers its requests by position: sample by
sample, and for each sample seed by seed. Positions order the files that are written; they decide nothing about the
content of a request, whose noise seed is a hash of what it is and not of where it stands.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

from qk_bench.errors import QKBenchError, UsageError, one_line
from qk_bench.interfaces import Task
from qk_bench.manifest import ModelSpec, RunSpec, TaskSpec, digest
from qk_bench.records import ModelCard, Request, Sample

BLOCK: Final = 64
"""Outcomes that are scored together. Blocks are fixed slices of the plan, so that a metric that computes in batches
sees the same batches whatever the order, the number of workers or the interruptions."""


@dataclass(frozen=True)
class Segment:
    """All requests of one model for one task."""

    number: int
    model: ModelSpec
    task: TaskSpec
    seeds: tuple[int, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((stop - start for start, stop in self.task.indices), initial=0))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self._starts[-1]

    def __len__(self) -> int:
        """Number of requests."""
        return self.samples * len(self.seeds)

    @property
    def blocks(self) -> int:
        """Number of scoring blocks."""
        return -(-len(self) // BLOCK)

    def block(self, number: int) -> range:
        """Positions of a scoring block."""
        return range(number * BLOCK, min((number + 1) * BLOCK, len(self)))

    def at(self, position: int) -> tuple[int, int]:
        """The (sample index, seed index) at a position."""
        ordinal, seed = divmod(position, len(self.seeds))
        part = bisect.bisect_right(self._starts, ordinal) - 1
        return self.task.indices[part][0] + ordinal - self._starts[part], self.seeds[seed]

    def position(self, index: int, seed: int) -> int | None:
        """The position of a (sample index, seed index); None if it is not in the plan."""
        if seed not in self.seeds:
            return None
        for (start, stop), offset in zip(self.task.indices, self._starts, strict=False):
            if start <= index < stop:
                return (offset + index - start) * len(self.seeds) + self.seeds.index(seed)
        return None


def segments_of(spec: RunSpec) -> list[Segment]:
    """The segments of a spec, in plan order."""
    pairs = [(model, task) for model in spec.models for task in spec.tasks]
    return [Segment(number, model, task, spec.seeds) for number, (model, task) in enumerate(pairs)]


def noise_seed(suite: str, sample_id: str, seed_index: int) -> int:
    """The 63-bit noise seed of a request: a hash of what it is, never of rank, batch or order."""
    hashed = hashlib.sha256(f"{suite}\0{sample_id}\0{seed_index}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") >> 1


def make_request(sample: Sample, card: ModelCard, seed_index: int) -> Request:
    """What a model with this card sees of a sample."""
    return Request(
        sample_id=sample.id,
        suite=sample.suite,
        task=sample.task,
        kind=sample.kind,
        instruction=sample.instruction,
        width=sample.width,
        height=sample.height,
        source=sample.source,
        references=sample.references,
        seed_index=seed_index,
        seed=noise_seed(sample.suite, sample.id, seed_index),
        region=sample.region if card.uses_region else None,
        privileged=sample if card.privileged else None,
    )


def card_digest(card: ModelCard) -> str:
    """The sha256 of all that a model declares of itself."""
    return digest(card.model_dump(mode="json"))


def sample_digest(sample: Sample) -> str:
    """The sha256 of a sample's content, pixels and answer included."""
    return hashlib.sha256(sample.model_dump_json().encode()).hexdigest()


def outcome_key(card: str, sample: str, seed: int) -> str:
    """The cache key of an outcome: model card, sample content and noise seed.

    Args:
        card: `card_digest` of the model.
        sample: `sample_digest` of the sample.
        seed: The noise seed.
    """
    return hashlib.sha256(f"{card}\0{sample}\0{seed}".encode()).hexdigest()


class SampleReader:
    """Makes the samples of one task; the last one is kept, because its seeds follow each other in the plan."""

    def __init__(self, task: Task, split: str, resolution: int) -> None:
        self.task, self.split, self.resolution = task, split, resolution
        self._last: tuple[int, Sample, str] | None = None

    def read(self, index: int) -> tuple[Sample, str]:
        """The sample at an index, and the digest of its content.

        Raises:
            UsageError: The task cannot make it, or makes one that does not belong to it.
        """
        if self._last is None or self._last[0] != index:
            sample = self._make(index)
            self._last = (index, sample, sample_digest(sample))
        return self._last[1], self._last[2]

    def _make(self, index: int) -> Sample:
        what = f"task {self.task.suite}/{self.task.name}, split {self.split}, sample {index}"
        try:
            sample = self.task.sample(self.split, index, self.resolution)
        except QKBenchError:
            raise
        except Exception as error:
            raise UsageError(f"{what} cannot be made: {one_line(error)}") from error
        if (sample.suite, sample.task, sample.index) != (self.task.suite, self.task.name, index):
            raise UsageError(f"{what} says it is {sample.suite}/{sample.task}, sample {sample.index}")
        return sample


def ranges(indices: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Sample indices as [start, stop) ranges, sorted and joined."""
    joined: list[list[int]] = []
    for index in sorted(set(indices)):
        if joined and joined[-1][1] == index:
            joined[-1][1] += 1
        else:
            joined.append([index, index + 1])
    return tuple((start, stop) for start, stop in joined)


def positions(segment: Segment, done: Sequence[int]) -> Iterator[int]:
    """The positions of a segment that have no outcome yet.

    Args:
        segment: The segment.
        done: For each position, where its outcome is stored; negative where there is none.
    """
    return (position for position in range(len(segment)) if done[position] < 0)
