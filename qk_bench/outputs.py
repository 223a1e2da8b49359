"""Folders of outputs made elsewhere: which sample and seed each file answers, and which files answer none.

The image for a sample is `<sample id>.png` for seed 0 and `<sample id>-seed<K>.png` for seed K (`-seed0` is accepted
too), also .jpg, .jpeg and .webp, in the folder or in one of its sub-folders.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from qk_bench.errors import UsageError
from qk_bench.manifest import RunSpec
from qk_bench.plugins import FoundTask
from qk_bench.records import MAX_SEED_INDEX, Outcome
from qk_bench.run.plan import SampleReader
from qk_bench.store import OUTCOMES, UNEXPECTED, RunDirectory, read_lines, write_atomically

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_SEED = re.compile(r"-seed(\d+)$")
_NUMBER = re.compile(r"(\d+)$")


def image_files(folder: Path) -> dict[str, Path]:
    """The image files of a folder and of its sub-folders one level down, by name without suffix.

    Raises:
        UsageError: It is not a folder, holds no image, or two images have the same name.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            other = found.setdefault(path.stem, path)
            if other is not path:
                raise UsageError(f"two images are called {path.stem}: {other} and {path}", "keep one of them")
    if not found:
        raise UsageError(f"{folder} holds no image", "name the files <sample id>.png or <sample id>-seed<K>.png")
    return found


def find_file(files: Mapping[str, Path], sample_id: str, seed: int) -> Path | None:
    """The file that answers a sample and seed index."""
    if seed == 0 and sample_id in files:
        return files[sample_id]
    return files.get(f"{sample_id}-seed{seed}")


def seeds_in(files: Mapping[str, Path], found: Sequence[FoundTask], spec: RunSpec) -> tuple[int, ...]:
    """The seed indices of the files that answer a sample of a run; those of all files where none does.

    Args:
        files: The files by name.
        found: The run's tasks.
        spec: The run; its own seeds do not matter.

    Raises:
        UsageError: A seed index is too large.
    """
    named = {int(match[1]) if (match := _SEED.search(stem)) else 0: path for stem, path in files.items()}
    answered: set[int] = set()
    for item, task in zip(found, spec.tasks, strict=True):
        reader = SampleReader(item.task, spec.split, spec.resolution)
        for index in itertools.chain.from_iterable(itertools.starmap(range, task.indices)):
            if len(answered) == len(named):  # as a rule after one sample
                break
            sample = reader.read(index)[0].id
            answered |= {seed for seed in named if find_file(files, sample, seed)}
    seeds = sorted(answered or named)
    if seeds[-1] > MAX_SEED_INDEX:
        raise UsageError(
            f"{named[seeds[-1]]} is for seed {seeds[-1]}; seed indices end at {MAX_SEED_INDEX}",
            "number the seeds of a sample 0, 1, 2, …",
        )
    return tuple(seeds)


def expected_indices(
    files: Mapping[str, Path], tasks: Sequence[FoundTask], split: str, resolution: int
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Per task the samples 0 to the highest one that a file answers.

    The number at the end of a file's name is taken as a hint which sample it is; the sample itself tells whether it is.

    Raises:
        UsageError: No file answers a sample of a task.
    """
    stems = {_SEED.sub("", stem) for stem in files}
    hints = sorted({int(match[1]) for match in map(_NUMBER.search, stems) if match}, reverse=True)
    expected: dict[str, tuple[tuple[int, int], ...]] = {}
    for found in tasks:
        task, size = found.task, found.task.size(split)
        reader = SampleReader(task, split, resolution)
        for index in hints:
            if (size is None or index < size) and reader.read(index)[0].id in stems:
                expected[task.name] = ((0, index + 1),)
                break
        else:
            example = reader.read(0)[0].id
            raise UsageError(
                f"no file is named after a sample of {task.suite}/{task.name} (such as {example}.png)",
                "name the tasks that were done with --task, or what is expected with --samples or --limit",
            )
    return expected


def report(files: Mapping[str, Path], run: RunDirectory) -> tuple[list[str], list[str]]:
    """Which files a finished run missed, and which it did not ask for; the latter are also listed in its folder.

    Returns:
        Names of the missing files, and of the unexpected ones.
    """
    used: set[Path] = set()
    missing = []
    for _, line in read_lines(run.path / OUTCOMES):
        outcome = Outcome.model_validate_json(line)
        path = find_file(files, outcome.sample_id, outcome.seed)
        if path is not None:
            used.add(path)
        elif outcome.status == "missing":
            missing.append(f"{outcome.sample_id}{f'-seed{outcome.seed}' if outcome.seed else ''}.png")
    unexpected = sorted(str(path) for path in files.values() if path not in used)
    if unexpected:
        write_atomically(run.path / UNEXPECTED, "".join(f"{name}\n" for name in unexpected).encode())
    return sorted(missing), unexpected
