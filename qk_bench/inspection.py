"""Looks a run directory over: what is whole, what is damaged, and how to keep the first and set aside the second."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from qk_bench.manifest import Manifest
from qk_bench.records import Outcome
from qk_bench.run.plan import Segment
from qk_bench.store import (
    AGGREGATES,
    CORRUPT_IMAGE,
    DROPPED,
    JOURNAL,
    OUTCOMES,
    SCORES,
    LineFile,
    RunDirectory,
    read_lines,
    write_atomically,
)


@dataclass
class Inspection:
    """What was found in `outcomes.jsonl` and the images it names."""

    offsets: list[array[int]]
    """For each segment and position, where its outcome starts; -1 where there is none."""
    counts: dict[str, Counter[str]]
    """Outcomes per model and status."""
    problems: list[str] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    """Offsets of lines that cannot be trusted."""
    sample_ids: dict[int, int] = field(default_factory=dict)
    """Hash of (suite, sample id) → hash of (task, index): an id must not name two samples."""
    corrupt: set[str] = field(default_factory=set)
    """Hashes of images whose file is something else."""
    changed_files: set[str] = field(default_factory=set)
    """Files of a complete run that are not the ones it wrote."""
    torn: int | None = None
    """Offset of a last line without end: what a full disk or a power cut leaves of the request in flight."""

    @property
    def done(self) -> int:
        """Number of whole outcomes."""
        return sum(count.total() for count in self.counts.values())

    @property
    def edited(self) -> bool:
        """Whether the outcomes of a complete run were changed in a way that no damaged line explains."""
        return OUTCOMES in self.changed_files and not self.dropped and self.torn is None

    def is_unique(self, suite: str, task: str, sample_id: str, index: int) -> bool:
        """Whether a sample id has not been seen for another sample of the suite."""
        owner = hash((task, index))
        return self.sample_ids.setdefault(hash((suite, sample_id)), owner) == owner


def inspect(run: RunDirectory, segments: Sequence[Segment], manifest: Manifest | None) -> Inspection:
    """Read every outcome, check that it belongs to the run and that its image is what its hash says.

    Memory is 8 bytes a request and the hashes of the distinct images.
    """
    found = Inspection(
        offsets=[array("q", [-1]) * len(segment) for segment in segments],
        counts={segment.model.card.name: Counter() for segment in segments},
    )
    by_name = {(s.model.card.name, s.task.suite, s.task.task): s for s in segments}
    whole: dict[str, str | None] = {}
    for number, (offset, line) in enumerate(read_lines(run.path / OUTCOMES), start=1):
        if not line.endswith(b"\n"):
            found.torn = offset
            break
        problem = _admit(run, found, by_name, whole, offset, line)
        if problem:
            found.problems.append(f"{OUTCOMES} line {number}: {problem}")
            found.dropped.add(offset)
    if manifest is not None:
        for name, sha in manifest.files.items():
            if run.file_digest(name) != sha:
                found.problems.append(f"{name} is not the file the run wrote")
                found.changed_files.add(name)
    return found


def _admit(
    run: RunDirectory,
    found: Inspection,
    by_name: dict[tuple[str, str, str], Segment],
    whole: dict[str, str | None],
    offset: int,
    line: bytes,
) -> str | None:
    """Enter one line into the inspection; what is wrong with it otherwise."""
    try:
        outcome = Outcome.model_validate_json(line)
    except ValidationError:
        return "not an outcome"
    segment = by_name.get((outcome.model, outcome.suite, outcome.task))
    position = segment.position(outcome.index, outcome.seed) if segment else None
    if segment is None or position is None:
        return f"{outcome.sample_id} is not a request of this run"
    if found.offsets[segment.number][position] >= 0:
        return f"{outcome.sample_id} of {outcome.model} is there twice"
    if (outcome.image is None) != (outcome.status != "ok"):
        return f"{outcome.sample_id}: status {outcome.status} does not go with its image"
    if outcome.image is not None:
        if outcome.image not in whole:
            whole[outcome.image] = run.image_problem(outcome.image)
        problem = whole[outcome.image]
        if problem == CORRUPT_IMAGE:
            found.corrupt.add(outcome.image)
        if problem is not None:
            return f"{problem} {outcome.image[:12]}… of {outcome.sample_id}"
    if not found.is_unique(outcome.suite, outcome.task, outcome.sample_id, outcome.index):
        return f"{outcome.sample_id} names two samples"
    found.offsets[segment.number][position] = offset
    found.counts[outcome.model][outcome.status] += 1
    return None


def set_aside(run: RunDirectory, found: Inspection) -> None:
    """Keep what is whole: take damaged lines out of `outcomes.jsonl` and remove what was computed from them.

    The lines that are taken out are appended to `dropped.jsonl`. Whole images and good lines stay as they are.
    """
    bad = found.dropped | ({found.torn} if found.torn is not None else set())
    kept: list[bytes] = []
    dropped: list[bytes] = []
    for offset, line in read_lines(run.path / OUTCOMES):
        (dropped if offset in bad else kept).append(line)
    if dropped:
        file = LineFile(run.path / DROPPED)
        for line in dropped:
            file.append(line.rstrip(b"\n"))
        file.close()
    write_atomically(run.path / OUTCOMES, b"".join(kept))
    for sha in found.corrupt:
        run.image_path(sha).unlink(missing_ok=True)
    run.remove(SCORES, AGGREGATES, *([JOURNAL] if found.problems else []))
