"""A suite of the pairs in a user's folder: `qkbench run --task dataset:FOLDER`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.interfaces import Suite, Task
from qk_bench.records import Sample, Verdict, pixels_digest
from qk_tasks.pairs import reader
from qk_tasks.pairs.duplicates import SPLITS
from qk_tasks.pairs.reader import ALL_TASKS, Dataset, Item, ItemProblemError
from qk_tasks.pairs.verifier import verify

VERSION = "1"
DESCRIPTIONS = {
    "recolouring": "Give an object of a photograph another colour.",
    "removing": "Take an object out of a photograph.",
    "inserting": "Put an object into a photograph.",
    "moving": "Move an object of a photograph.",
    "editing": "Edit a photograph; judged by closeness to the target.",
}


class PairTask(Task):
    """The pairs of one operation.

    Args:
        suite: The suite's name.
        operation: What is done in them.
        items: The pairs by split.
        read: Whether their images have been read and are good.
    """

    version = VERSION

    def __init__(self, suite: str, operation: str, items: Mapping[str, list[Item]], *, read: bool) -> None:
        self.suite, self.name = suite, ALL_TASKS[operation]
        self.operations = (operation,)
        self.description = DESCRIPTIONS[self.name]
        self._items, self._read = items, read
        self.splits = tuple(items)

    def size(self, split: str) -> int | None:
        """Number of pairs in a split."""
        return len(self._items[split])

    def unusable(self, split: str, indices: Iterable[int], resolution: int) -> dict[int, str]:
        """Pairs that were damaged after they were built."""
        found: dict[int, str] = {}
        for index in () if self._read else indices:
            try:
                self.sample(split, index, resolution)
            except UsageError as error:
                found[index] = error.message
        return found

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The pair at an index, its longer side brought to `resolution` pixels.

        Raises:
            UsageError: It cannot be read.
        """
        item = self._items[split][index]
        try:
            return reader.to_sample(item, self.suite, VERSION, index, resolution)
        except ItemProblemError as error:
            raise UsageError(f"{item.where}: {item.id}: {error}", "`qkbench data check` lists all such items") from None

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Judge an output; the rules and thresholds are in docs/photo.md."""
        return verify(sample, image)


class DatasetSuite(Suite):
    """The pairs of a folder that `qkbench data build` wrote, or that you made yourself (docs/own-dataset.md).

    Items that cannot be used are left out and named in `problems`. Every item of a folder made by hand is read for
    that; the builder has looked at its own, of which only the rows are, and the images of a run's samples.

    Raises:
        UsageError: It is no folder of pairs, or no pair in it can be used.
    """

    version = VERSION
    verifier_version = "2"

    def __init__(self, folder: str) -> None:
        self._dataset: Dataset = reader.read(Path(folder))
        self.name = self._dataset.name
        self.problems = [str(problem) for problem in self._dataset.problems]
        self._content = hashlib.sha256(self._dataset.digest.encode())
        by_task: dict[str, dict[str, list[Item]]] = {}
        seen: set[str] = set()
        for item in self._dataset.items:
            if problem := self._problem(item, seen):
                self.problems.append(f"{item.where}: {item.id or 'item'}: {problem}")
                continue
            seen.add(item.id)
            by_task.setdefault(item.operation, {}).setdefault(item.split, []).append(item)
        if not by_task:
            why = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise UsageError(
                f"{folder} holds no pair that can be used{why}", "docs/own-dataset.md says what a pair needs"
            )
        self.tasks = {
            ALL_TASKS[operation]: PairTask(
                self.name,
                operation,
                {split: splits[split] for split in sorted(splits, key=SPLITS.index)},
                read=not self._dataset.built,
            )
            for operation, splits in sorted(by_task.items(), key=lambda kv: list(ALL_TASKS).index(kv[0]))
        }

    def _problem(self, item: Item, seen: set[str]) -> str:
        """Why an item cannot be used; empty where it can."""
        if item.id in seen:
            return "the id is there twice; the first one counts"
        try:
            if self._dataset.built:
                reader.check_words(item)
                return ""
            sample = reader.to_sample(item, self.name, VERSION, 0)
        except ItemProblemError as error:
            return str(error)
        assert sample.source is not None and sample.target is not None
        assert sample.edit_mask is not None and sample.region is not None
        for pixels in (sample.source, sample.target, sample.edit_mask, sample.region.mask):
            self._content.update(pixels_digest(pixels).encode())
        return ""

    def digest(self) -> str:
        """A sha256 of all rows, and of the shards' hashes where the builder wrote them, else of all pictures and masks."""
        return self._content.hexdigest()
