"""Reads benchmarks that come as tables: Parquet files or imagefolders, as they are downloaded from a hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from qk_tasks.published.files import BadItemError, Cell, Picture, json_object, picture, shown_files

SPLITS: Final = {
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
    "train": ("train", "training"),
}
"""Splits by what their files are called, the one to be measured on first."""
Item = TypeVar("Item")


def table_files(folder: Path) -> list[Path]:
    """The Parquet files below a folder, or else the metadata.jsonl of its imagefolders; empty if it holds no table."""
    return shown_files(folder, "**/*.parquet") or shown_files(folder, "**/metadata.jsonl")


class Tables:
    """The Parquet files, or else the imagefolders, of one split below a folder.

    Where files of several splits are there, those of the test split are taken, or else of validation: never those of
    training beside another.

    Args:
        folder: The folder.
        images: Columns that hold images; they become `Picture`s. In an imagefolder the column is called
            `<name>_file_name`, or `file_name` for the first.
    """

    def __init__(self, folder: Path, images: tuple[str, ...]) -> None:
        self._folder, self._images = folder, images
        files = table_files(folder)
        by_split: dict[str, list[Path]] = {}
        for path in files:
            by_split.setdefault(self._split(path), []).append(path)
        chosen = next((split for split in SPLITS if split in by_split), "")
        others = [split for split in by_split if split not in ("", chosen)]
        self._files = sorted(by_split.get("", []) + by_split.get(chosen, [])) if chosen else files
        self.note = ""
        if others or chosen not in ("", "test"):
            left_out = f"; left out: {', '.join(sorted(others))}" if others else ""
            self.note = f"read from the files of its split {chosen}{left_out}"
        """Which split was taken, where that is worth saying."""

    def rows(self, make: Callable[[str, dict[str, Any]], Item]) -> Iterator[tuple[str, Callable[[], Item]]]:
        """Where each row stands, and what makes an item of it, in order of file; a file that cannot be read is one bad item."""
        for name, others in _absent_shards(self._folder, self._files):
            more = f", nor {others} others that the names of the rest tell of" if others else ""
            yield name, partial(_refuse, f"there is no such file{more}")
        for path in self._files:
            name = path.relative_to(self._folder).as_posix()
            read = _parquet_rows if path.suffix == ".parquet" else _imagefolder_rows
            try:
                for where, row in read(path, name, self._images):
                    yield where, partial(_made, make, where, row)
            except BadItemError as problem:
                yield name, partial(_refuse, str(problem))

    def _split(self, path: Path) -> str:
        """What a file's name, or that of a folder it is in, tells of its split; empty if nothing."""
        for part in reversed(path.relative_to(self._folder).with_suffix("").parts):
            word = re.split(r"[^a-z]", part.lower())[0]
            for split, names in SPLITS.items():
                if word in names:
                    return split
        return ""


def image_cell(row: Mapping[str, Any], field: str) -> Picture:
    """An image column of a table row.

    Raises:
        BadItemError: It is missing or empty.
    """
    value = row.get(field)
    if not isinstance(value, Picture):
        raise BadItemError(f"column {field!r} has no image")
    return value


def _made(make: Callable[[str, dict[str, Any]], Item], where: str, row: Callable[[], dict[str, Any]]) -> Item:
    return make(where, row())


def _refuse(why: str) -> NoReturn:
    raise BadItemError(why)


def _absent_shards(folder: Path, files: list[Path]) -> Iterator[tuple[str, int]]:
    """Files that the names of others tell of, as `test-00000-of-00002.parquet` does of a second: the first, and how many more."""
    shard = re.compile(r"(.*-)(\d{5})-of-(\d{5})(.*)")
    there: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if match := shard.fullmatch(path.stem):
            there.setdefault((path.parent, match[1], int(match[3])), set()).add(int(match[2]))
    for (parent, stem, count), numbers in there.items():
        if absent := sorted({*range(count)} - numbers):
            name = parent / f"{stem}{absent[0]:05d}-of-{count:05d}.parquet"
            yield name.relative_to(folder).as_posix(), len(absent) - 1


def _parquet_rows(path: Path, name: str, images: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The rows of a file; images stay where they are until they are asked for, since tables hold gigabytes of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = [column for column in images if column in file.schema_arrow.names]
            texts = [column for column in file.schema_arrow.names if column not in images]
            number = 0
            for group in range(file.num_row_groups):
                for place, row in enumerate(file.read_row_group(group, columns=texts).to_pylist()):
                    for column in images:
                        cell = Cell(str(path), group, place, column)
                        row[column] = Picture(f"{name} row {number}, {column}", cell=cell) if column in there else None
                    yield f"{name} row {number}", partial(dict, row)
                    number += 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # of text that is none, of dates, …
        raise BadItemError(f"cannot be read as Parquet: {str(error)[:120]}; download it again") from None


def _imagefolder_rows(
    path: Path, name: str, images: tuple[str, ...]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The lines of a metadata.jsonl."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise BadItemError(f"cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name} line {number}", partial(_imagefolder_row, path.parent, line, images)


def _imagefolder_row(folder: Path, line: str, images: tuple[str, ...]) -> dict[str, Any]:
    row = json_object(line)
    for column in images:
        file = row.get(f"{column}_file_name", row.get("file_name") if column == images[0] else None)
        row[column] = picture(folder, file, f"{column}_file_name") if isinstance(file, str) and file else None
    return row
