"""GEdit-Bench (Step1X-Edit): instructions in English and Chinese on photographs, scored by a judge.

Layout: Parquet or an imagefolder with the columns key, task_type, instruction, instruction_language, input_image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from qk_bench.errors import UsageError
from qk_tasks.published.files import has_table, image_cell, table_rows, text
from qk_tasks.published.suite import PublishedSuite, Row, task_name


class GEditSuite(PublishedSuite):
    """GEdit-Bench, one task per language and type; scores come from the metric `judge`."""

    name = "gedit-bench"
    layout = "Parquet or an imagefolder with key, task_type, instruction, instruction_language and input_image"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each item, in the order of the files."""
        if not has_table(self.folder):
            raise UsageError(f"{self.folder} holds no table", f"it should hold {self.layout}")
        for where, row in table_rows(self.folder, ("input_image", "input_image_raw")):
            yield where, partial(_row, row)

    def make_groups(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """`en` and `cn`: the languages, which GEdit-Bench reports apart."""
        languages = sorted({name.partition("-")[0] for name in tasks})
        return {lang: tuple(name for name in tasks if name.startswith(f"{lang}-")) for lang in languages}


def _row(row: Mapping[str, Any]) -> Row:
    language, kind, key = (text(row, field) for field in ("instruction_language", "task_type", "key"))
    return Row(
        key=key,
        task=task_name(f"{language}-{kind}"),
        operation=kind,
        instruction=text(row, "instruction"),
        source=image_cell(row, "input_image"),
        attributes={"language": language, "intersection": bool(row.get("Intersection_exist", False))},
    )
