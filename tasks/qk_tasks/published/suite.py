"""What the published benchmarks share: rows of a user's folder as tasks, at the size their images have.

`--resolution` has no effect on these suites: their metrics are defined on the published pixels.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from qk_bench.errors import UsageError
from qk_bench.interfaces import Suite, Task
from qk_bench.records import Mask, RegionQuery, Sample, Verdict, pixels_digest
from qk_bench.text import is_unicode
from qk_tasks.masks import MaskProblemError
from qk_tasks.published.files import BadItemError, Picture, existing_folder, read_json
from qk_tasks.published.tables import Tables
from qk_tasks.scenes.suite import region_query

VERSION: Final = "2"
MAX_KEY: Final = 64
MAX_TASK: Final = 48
Verify = Callable[[Sample, NDArray[np.uint8]], Verdict]


@dataclass(frozen=True)
class Row:
    """One item of a benchmark, its images not read yet."""

    key: str  # unique in its task
    task: str
    operation: str
    instruction: str
    source: Picture
    target: Picture | None = None
    mask: Callable[[int, int], Mask] | None = None  # of the edit, from height and width
    cluster: str = ""
    source_caption: str = ""
    target_caption: str = ""
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The sample's id: task and key; of a key that cannot be in a file's name the like, with a part of its sha256.

        It names the item and not its place among those that can be used: outputs that were made for all of them must not
        be scored as those of other items where some are absent.
        """
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.key)[:MAX_KEY]
        if name != self.key:
            name += f"-{hashlib.sha256(self.key.encode()).hexdigest()[:10]}"
        return f"{self.task}-{name}"

    def words(self) -> list[Any]:
        """What is said of it beside its name, as JSON."""
        told = [self.operation, self.cluster, self.source_caption, self.target_caption, dict(self.attributes)]
        return [self.instruction, told]


class PublishedTask(Task):
    """Rows of one kind of edit."""

    version = VERSION

    def __init__(self, suite: str, name: str, rows: list[Row], verify: Verify | None) -> None:
        self.suite, self.name, self.decides = suite, name, verify is not None
        self.rule = inspect.getdoc(verify) or "" if verify else f"Not from the pixels: {suite} has no rule for that."
        self.operations = tuple(sorted({row.operation for row in rows}))
        self.description = f"{len(rows)} item{'s' if len(rows) > 1 else ''} of {suite}, from your folder."
        self._rows, self._verify = rows, verify

    def size(self, split: str) -> int:
        """Number of items."""
        return len(self._rows)

    def unusable(self, split: str, indices: Iterable[int], resolution: int) -> dict[int, str]:
        """Items of which a picture is torn inside, as far as checksums and decoding tell."""
        found: dict[int, str] = {}
        for index in indices:
            row = self._rows[index]
            try:
                for picture in filter(None, (row.source, row.target)):
                    picture.size(verify=True)
            except BadItemError as problem:
                found[index] = f"{self.suite}, item {row.task}/{row.key}: {problem}"
        return found

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The item at an index, at its own size; `resolution` has no effect.

        Raises:
            UsageError: There is no such item, or a file of it cannot be decoded.
        """
        if split not in self.splits or not 0 <= index < len(self._rows):
            raise UsageError(f"{self.suite}/{self.name} has no item {index} in split {split!r}")
        row = self._rows[index]
        try:
            source = row.source.read()
            height, width = source.shape[:2]
            target = row.target.read() if row.target else None
            mask = row.mask(height, width) if row.mask else None
        except (BadItemError, MaskProblemError) as problem:
            raise UsageError(
                f"{self.suite}, item {row.task}/{row.key}: {problem}", "mend the file or take the item out"
            ) from None
        if target is not None and target.shape != source.shape:
            raise UsageError(
                f"{self.suite}, item {row.task}/{row.key}: source is {width}x{height}, target another size"
            )
        if mask is None and target is not None:
            mask = (source != target).any(axis=2)
        return Sample(
            id=row.id,
            suite=self.suite,
            suite_version=self.version,
            task=self.name,
            operation=row.operation,
            split=split,
            index=index,
            cluster=row.cluster or row.key,
            instruction=row.instruction,
            width=width,
            height=height,
            source=source,
            target=target,
            edit_mask=mask,
            region=_region(mask),
            source_caption=row.source_caption,
            target_caption=row.target_caption,
            attributes={"key": row.key, **row.attributes},
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Decide where the benchmark gives the one right answer; elsewhere the task does not decide."""
        if self._verify is None:
            raise NotImplementedError(f"{self.suite} has no rule that tells success from the pixels")
        return self._verify(sample, image)


class PublishedSuite(Suite):
    """A benchmark in the user's folder. Items that cannot be used are left out and named in `problems`.

    Args:
        folder: The folder that holds it, in a published layout.

    Raises:
        UsageError: There is no such folder, or nothing of the benchmark in it.
    """

    version = VERSION
    own_size = True
    layout = ""  # what the folder should hold, for the message of one that does not

    def __init__(self, folder: str) -> None:
        self.folder = existing_folder(folder)
        self.problems: list[str] = []
        self.notes: list[str] = []
        by_task: dict[str, list[Row]] = {}
        self._masks: dict[tuple[str, str], str] = {}  # task and key → sha256
        seen: dict[str, str] = {}  # item by id
        for where, make in self.rows():
            try:
                row = make()
                if not is_unicode([row.key, *row.words()]):
                    raise BadItemError("a text of it holds half of a surrogate pair")
                item = f"{row.task}/{row.key}"
                if row.id in seen:
                    same = seen[row.id] == item
                    raise BadItemError(
                        f"item {item} is there twice; the first one counts" if same
                        else f"item {item} would have the id of {seen[row.id]}"
                    )  # fmt: skip
                size = row.source.size(unturned=row.target is not None or row.mask is not None)
                if row.target is not None and row.target.size(unturned=True) != size:
                    raise BadItemError(f"{row.target.name} is not of the size of {row.source.name}")
                if row.mask is not None:
                    self._masks[row.task, row.key] = pixels_digest(row.mask(*size))
            except (BadItemError, MaskProblemError) as problem:
                self.problems.append(f"{self.name}, {where}: {problem}")
                continue
            seen[row.id] = item
            by_task.setdefault(row.task, []).append(row)
        if not by_task:
            why = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise UsageError(f"{self.folder} holds nothing of {self.name}{why}", f"it should hold {self.layout}")
        self._rows = dict(sorted(by_task.items()))
        self.tasks: dict[str, PublishedTask] = {
            name: PublishedTask(self.name, name, rows, self.verifier(name)) for name, rows in self._rows.items()
        }
        self.groups = self.make_groups(tuple(self.tasks))

    def read_json(self, path: Path) -> Any:
        """The content of a JSON file; keys that are there twice are named, and the first one counts."""
        repeated: list[str] = []
        data = read_json(path, repeated)
        self.problems += [f"{self.name}, {path.name}: {key!r} is there twice; the first one counts" for key in repeated]
        return data

    def table_rows(
        self, make: Callable[[str, dict[str, Any]], Row], *images: str
    ) -> Iterator[tuple[str, Callable[[], Row]]]:
        """The items of the Parquet files or imagefolders of the folder, by what makes one of a row; see `Tables`."""
        tables = Tables(self.folder, images)
        if tables.note:
            self.notes.append(tables.note)
        yield from tables.rows(make)

    @abstractmethod
    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Where each item stands, and what makes its row (or raises `BadItemError`). In a fixed order."""

    def verifier(self, task: str) -> Verify | None:
        """The rule that decides success in a task; None where the benchmark has none."""
        return None

    def make_groups(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Groups of tasks by name."""
        return {}

    def digest(self) -> str:
        """A sha256 over every item's annotation, its mask's pixels, and the names and sizes of its pictures' files."""
        whole = hashlib.sha256(f"{self.name}-{self.version}".encode())
        for rows in self._rows.values():
            for row in rows:
                files: list[Any] = [p.stamp() for p in (row.source, row.target) if p]
                mask = self._masks.get((row.task, row.key))
                whole.update(json.dumps([row.key, row.task, *row.words(), files, mask]).encode())
        return whole.hexdigest()


def task_name(text: str) -> str:
    """A published name as a task's name: safe in file names and on the command line."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text.strip()).strip("-.")[:MAX_TASK] or "other"


def _region(mask: Mask | None) -> RegionQuery | None:
    return region_query(mask) if mask is not None and mask.any() else None
