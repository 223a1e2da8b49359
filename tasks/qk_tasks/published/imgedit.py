"""ImgEdit-Bench: basic and understanding-grounded (UGE, "hard") single-turn edits, scored by a judge.

Layouts: a JSON object of items (id, prompt, edit_type) beside the original images, `hard/annotation.jsonl` of items (id,
prompt) beside theirs, or a table with the columns key, id, prompt, edit_type, image. Multi-turn items are judged by people
in ImgEdit and are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from qk_bench.errors import UsageError
from qk_tasks.published.files import BadItemError, Picture, json_object, picture, shown_files, text
from qk_tasks.published.suite import PublishedSuite, Row, task_name
from qk_tasks.published.tables import image_cell, table_files

PLACES: Final = ("", "original_images", "origin_images", "images", "singleturn", "hard", "UGE")
UGE_FILE: Final = "annotation.jsonl"
UNTYPED: Final = "uge"
"""The task of items without a type: ImgEdit's understanding-grounded ones have none."""


class ImgEditSuite(PublishedSuite):
    """ImgEdit-Bench, one task per type of edit; scores come from the metric `judge-imgedit`."""

    name = "imgedit-bench"
    layout = "a JSON file of items with id and prompt (such as singleturn.json) beside the original images, or Parquet"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each item, in the order of the files."""
        if table_files(self.folder):
            yield from self.table_rows(_from_table, "image")
            return
        for path in shown_files(self.folder, "*.json", "*/*.json"):
            try:
                data = self.read_json(path)
            except UsageError as error:
                self.problems.append(f"{self.name}: {error.message}")
                continue
            if not isinstance(data, dict) or not any(isinstance(v, dict) and "id" in v for v in data.values()):
                continue  # prompts of the judge, results
            single = {key: item for key, item in data.items() if not (isinstance(item, dict) and "turn1" in item)}
            if turns := len(data) - len(single):
                self.notes.append(f"{turns} multi-turn items of {path.name} are not run: in ImgEdit people judge them")
            for key, item in single.items():
                where = f"{path.relative_to(self.folder).as_posix()} item {key}"
                yield where, partial(_from_files, path.parent, key, item)
        elsewhere = [self.folder / "multiturn", *sorted(self.folder.glob("multiturn/*/"))]
        for path in shown_files(self.folder, UGE_FILE, f"*/{UGE_FILE}"):
            for number, line in enumerate(path.read_text("utf-8-sig", "replace").split("\n"), start=1):
                if line.strip():
                    where = f"{path.relative_to(self.folder).as_posix()} line {number}"
                    yield where, partial(_from_line, [path.parent, *elsewhere], line)


def _from_files(root: Path, key: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise BadItemError("not an object")
    return _row(key, item, _first([root / place for place in PLACES], text(item, "id")))


def _from_line(places: Sequence[Path], line: str) -> Row:
    """A line of the UGE file: two of its fifty pictures stand among those of the multi-turn items only."""
    item = json_object(line)
    name = text(item, "id")
    return _row(Path(name).stem, {**item, "edit_type": UNTYPED}, _first(places, name))


def _first(places: Iterable[Path], name: str) -> Picture:
    """The picture in the first of some folders that has it; in the first of all if none has."""
    candidates = [picture(place, name, "id") for place in places if place.is_dir()]
    return next((candidate for candidate in candidates if candidate.path and candidate.path.is_file()), candidates[0])


def _from_table(where: str, row: Mapping[str, Any]) -> Row:
    key = row.get("key", row.get("id"))
    if not isinstance(key, str | int):
        raise BadItemError("field 'key' is missing")
    return _row(str(key), row, image_cell(row, "image"))


def _row(key: str, item: Mapping[str, Any], source: Picture) -> Row:
    kind = UNTYPED if item.get("edit_type") is None else text(item, "edit_type")
    return Row(
        key=key,
        task=task_name(kind),
        operation=kind,
        instruction=text(item, "prompt"),
        source=source,
        cluster=task_name(str(item.get("id") or source.name)),  # the picture; in a table its name is the row's
    )
