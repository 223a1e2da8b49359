"""ImgEdit-Bench: basic and understanding-grounded (UGE, "hard") single-turn edits, scored by a judge.

Layouts: a JSON object of items (id, prompt, edit_type) beside the original images, or a table with the columns key, id,
prompt, edit_type, image. Multi-turn items are judged by people in ImgEdit and are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from qk_tasks.published.files import BadItemError, Picture, has_table, image_cell, picture, read_json, table_rows, text
from qk_tasks.published.suite import PublishedSuite, Row, task_name

PLACES: Final = ("", "original_images", "origin_images", "images", "singleturn", "hard", "UGE")
UNTYPED: Final = "uge"
"""The task of items without a type: ImgEdit's understanding-grounded ones have none."""


class ImgEditSuite(PublishedSuite):
    """ImgEdit-Bench, one task per type of edit; scores come from the metric `judge-imgedit`."""

    name = "imgedit-bench"
    layout = "a JSON file of items with id and prompt (such as basic_edit.json) beside the original images, or Parquet"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each item, in the order of the files."""
        if has_table(self.folder):
            for where, row in table_rows(self.folder, ("image",)):
                yield where, partial(_from_table, row)
            return
        for path in sorted({*self.folder.glob("*.json"), *self.folder.glob("*/*.json")}):
            data = read_json(path)
            if not isinstance(data, dict) or not any(isinstance(v, dict) and "id" in v for v in data.values()):
                continue  # prompts of the judge, results
            for key, item in data.items():
                yield (
                    f"{path.relative_to(self.folder).as_posix()} item {key}",
                    partial(_from_files, path.parent, key, item),
                )


def _from_files(root: Path, key: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise BadItemError("not an object")
    if "prompt" not in item and "turn1" in item:
        raise BadItemError("a multi-turn item, which people judge in ImgEdit; only single turns are run")
    name = text(item, "id")
    candidates = [picture(root / place, name, "id") for place in PLACES if (root / place).is_dir()]
    found = next((candidate for candidate in candidates if candidate.path and candidate.path.is_file()), candidates[0])
    return _row(key, item, found)


def _from_table(row: Mapping[str, Any]) -> Row:
    key = row.get("key", row.get("id"))
    if not isinstance(key, str | int):
        raise BadItemError("field 'key' is missing")
    return _row(str(key), row, image_cell(row, "image"))


def _row(key: str, item: Mapping[str, Any], source: Picture) -> Row:
    kind = str(item.get("edit_type") or UNTYPED)
    return Row(
        key=key,
        task=task_name(kind),
        operation=kind,
        instruction=text(item, "prompt"),
        source=source,
        cluster=task_name(str(item.get("id") or source.name)),  # the picture; in a table its name is the row's
    )
