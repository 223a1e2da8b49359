"""Reads the text files of CelebA-HQ, CelebAMask-HQ and CelebA, one line an image.

A line that cannot be used costs its image and no other. A file without a line that can be used is a `UsageError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from qk_bench.errors import UsageError
from qk_tasks.published.files import BadItemError

Key = TypeVar("Key", int, str)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Listing(Generic[Key, Value]):
    """What a file says of each image."""

    name: str
    told: dict[Key, Value] = field(default_factory=dict)
    faults: dict[Key, str] = field(default_factory=dict)  # images of which it says nothing that can be used, and why
    problems: list[str] = field(default_factory=list)  # lines that count for no image

    def of(self, key: Key) -> Value:
        """What it says of an image.

        Raises:
            BadItemError: It has no line for the image, or one that cannot be used.
        """
        if key in self.faults:
            raise BadItemError(self.faults[key])
        if key not in self.told:
            raise BadItemError(f"{self.name} has no line for {key}")
        return self.told[key]


def read_attributes(path: Path) -> Listing[int, frozenset[str]]:
    """Image number → the attributes that are 1.

    Raises:
        UsageError: It does not begin with a count and names, or no line after them can be used.
    """
    rows = _rows(path)
    count = image_number(rows[0][1][0]) if rows and len(rows[0][1]) == 1 else None
    if count is None or len(rows) < 2:
        raise UsageError(f"{path} does not begin with a count and the names of attributes")
    names = rows[1][1]

    def ones(values: list[str]) -> frozenset[str] | None:
        if len(values) != len(names) or not set(values) <= {"-1", "1"}:
            return None
        return frozenset(name for name, value in zip(names, values, strict=True) if value == "1")

    found = _by_number(path, rows[2:], ones, f"<n>.jpg and {len(names)} values of -1 or 1")
    there = len(found.told) + len(found.faults)
    if there != count:
        found.problems.insert(0, f"{path.name} says that it has {count} images, and has {there}")
    return found


def read_mapping(path: Path) -> Listing[int, str]:
    """Image number → CelebA's file name. Of two images of one file, the second cannot be used.

    Raises:
        UsageError: No line after the first, which is a heading, can be used.
    """

    def original(cells: list[str]) -> str | None:
        return cells[1] if len(cells) == 2 and image_number(cells[1]) is not None else None

    found = _by_number(path, _rows(path)[1:], original, "idx, orig_idx and orig_file")
    first: dict[str, int] = {}
    for number, name in found.told.items():
        if first.setdefault(name, number) != number:
            found.faults[number] = f"{path.name} has it from {name}, as image {first[name]}"
    return found


def read_values(path: Path, form: str, expected: str) -> Listing[str, str]:
    """File name → value, of one of CelebA's own lists of two columns. A name that has two values has none.

    Args:
        path: The list.
        form: The regular expression that values fit.
        expected: What to call that.

    Raises:
        UsageError: No line can be used.
    """
    found = Listing[str, str](path.name)
    for line, (name, *values) in _rows(path):
        if len(values) != 1 or not re.fullmatch(form, values[0], re.ASCII):
            found.faults[name] = f"{path.name} line {line}: expected a file name and {expected}"
        elif found.told.setdefault(name, values[0]) != values[0]:
            found.faults[name] = f"{path.name} line {line}: {values[0]} for {name}, which has {found.told[name]} above"
    _check_any(path, found)
    return found


def image_number(name: str) -> int | None:
    """The number of `<n>` or `<n>.jpg`; None where a name is another."""
    stem = name.partition(".")[0]
    return int(stem) if re.fullmatch("[0-9]{1,9}", stem) else None


def _by_number(
    path: Path, rows: list[tuple[int, list[str]]], value: Callable[[list[str]], Value | None], expected: str
) -> Listing[int, Value]:
    """Image number → the value of what follows it; the first line of an image counts."""
    found = Listing[int, Value](path.name)
    for line, (name, *cells) in rows:
        number, got = image_number(name), value(cells)
        if number is None:
            found.problems.append(f"{path.name} line {line}: expected {expected}")
        elif number in found.told or number in found.faults:
            found.problems.append(f"{path.name} line {line}: image {number} is there twice, the first line counts")
        elif got is None:
            found.faults[number] = f"{path.name} line {line}: expected {expected}"
        else:
            found.told[number] = got
    _check_any(path, found)
    return found


def _check_any(path: Path, found: Listing[Key, Value]) -> None:
    if not found.told:
        why = next(iter([*found.problems, *found.faults.values()]), "it is empty")
        raise UsageError(f"{path} has no line that can be used; the first problem: {why}", "download it again")


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of each line that has any.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
